"""Figures are saved at a reasonable size, for images with any number of channels."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from super_selfish import files
from super_selfish.errors import CheckpointError, ConfigurationError, DataError
from super_selfish.reports import (
    displayable,
    feature_map,
    image_grid,
    loss_curve,
    nearest,
    neighbours,
    project,
    save,
)

GENERATOR = np.random.default_rng(0)


def save_and_open(figure: Figure, path: Path) -> Image.Image:
    image = Image.open(save(figure, path))
    image.load()
    assert all(300 < side < 4000 for side in image.size)
    assert np.asarray(image.convert("L")).std() > 5  # not blank
    return image


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_image_grid_and_neighbours(channels: int, tmp_path: Path) -> None:
    images = GENERATOR.integers(0, 256, (9, 12, 16, channels), np.uint8)
    verdicts = [True, False, None] * 3
    save_and_open(
        image_grid(images, ["a\nb"] * 9, right=verdicts, columns=4, title="t", subtitle="s"), tmp_path / "grid.png"
    )
    tensors = torch.rand(2, channels, 12, 12)
    found = {"one": np.array([[0, 1], [2, 3]]), "two": np.array([[4], [5]])}
    save_and_open(
        neighbours(tensors, images, found, labels=[0] * 9, query_labels=[0, 1], title="t"), tmp_path / "n.png"
    )
    save_and_open(neighbours(tensors, images, found), tmp_path / "plain.png")


def test_displayable_converts_images_to_rgb() -> None:
    bands = GENERATOR.integers(0, 256, (4, 5, 13), np.uint8)
    assert np.allclose(displayable(bands), bands[:, :, :3] / 255)
    assert np.allclose(displayable(bands[:, :, :2])[..., 0], bands[:, :, :2].mean(2) / 255)
    assert np.allclose(displayable(bands[:, :, 0]), bands[:, :, :1] / 255)
    assert np.allclose(displayable(torch.from_numpy(bands).movedim(-1, 0)), displayable(bands))
    assert displayable(np.full((2, 2), 65535, np.uint16)).max() == 1.0
    normalised = GENERATOR.normal(size=(4, 4, 3))
    assert (displayable(normalised).min(), displayable(normalised).max()) == (0.0, 1.0)
    assert np.isfinite(displayable(np.array([[np.nan, np.inf], [0.0, 1.0]]))).all()
    for invalid in (np.zeros(3), np.zeros((0, 2, 3)), np.array([["a"]]), np.zeros((2, 2, 2, 2))):
        with pytest.raises(DataError):
            displayable(invalid)


def test_loss_curve(tmp_path: Path) -> None:
    history = [{"epoch": 1, "loss": 1.5}, {"epoch": 2, "loss": 0.5}]
    figure = loss_curve(history, points=[(0.5, 2.0)], chance=1.386, accuracy=[(0, 0.2), (2, 0.9)], accuracy_chance=0.25)
    assert figure.axes[0].get_ylim()[1] > 2.0  # the highest point is within the axes
    entries = {text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()}
    assert {"chance level: 1.39", "chance level: 25%"} <= entries
    save_and_open(figure, tmp_path / "loss.png")
    save_and_open(loss_curve(history), tmp_path / "plain.png")
    with pytest.raises(ConfigurationError, match="history"):
        loss_curve([])


def test_feature_map(tmp_path: Path) -> None:
    rows, labels = GENERATOR.normal(size=(40, 6)), np.arange(40) % 12
    save_and_open(
        feature_map({"before": rows, "after": rows[:, :2]}, labels, title="t", subtitle="s"), tmp_path / "map.png"
    )
    save_and_open(feature_map(rows[:5], [0, 1, 1, 2, 2], names=["cat", "dog", "ant"]), tmp_path / "few.svg.png")
    assert np.array_equal(project(rows, seed=3), project(rows, seed=3))
    assert project([[1.0], [2.0]]).shape == (2, 2)
    with pytest.raises(DataError):
        feature_map(rows, labels[:3])
    with pytest.raises(ConfigurationError):
        project(rows[:1])


def test_nearest_uses_cosine_similarity() -> None:
    assert nearest([[1.0, 1.0]], [[9.0, 0.0], [1.0, 1.0]]).tolist() == [[1, 0]]  # the norm has no effect
    assert nearest([[1.0, 0.0]], [[0.1, 0.2], [9.0, 1.0], [-1.0, 0.0]], k=9).tolist() == [[1, 0, 2]]
    assert nearest([[0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]).tolist() == [[0, 1]]


def test_invalid_arguments_raise(tmp_path: Path) -> None:
    image = np.zeros((4, 4), np.uint8)
    for call in (
        lambda: image_grid([]),
        lambda: image_grid([image], ["a", "b"]),
        lambda: image_grid([image], right=[True, False]),
        lambda: image_grid([image], columns=0),
        lambda: neighbours([image], [image], {}),
        lambda: neighbours([image], [image], {"a": np.zeros((2, 1), np.int64)}),
        lambda: save(image_grid([image]), tmp_path / "figure.bmp"),
    ):
        with pytest.raises(ConfigurationError):
            call()


def test_save_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = image_grid([np.zeros((4, 4), np.uint8)])
    path = save(figure, tmp_path / "new" / "figure.png")
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(CheckpointError):
        save(figure, path)
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} - {files.FIGURES} == {"figure.png"}


def test_pyplot_is_not_imported(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    probe = "import sys, super_selfish.supervisors; early = 'matplotlib' in sys.modules; import super_selfish.reports; "
    probe += "sys.exit(early or 'matplotlib.pyplot' in sys.modules)"
    assert run_python("-c", probe).returncode == 0
