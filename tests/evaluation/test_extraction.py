"""Features in files: written in parts, and continued after the process was killed."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from super_selfish.data import open_source
from super_selfish.datasets.preprocessing import ImageDataset, fit_preprocessing
from super_selfish.errors import CheckpointError, DataError, UnreadableImage
from super_selfish.evaluation import extraction
from super_selfish.evaluation.extraction import PartialFeatures, Written, npy_header, write_features
from super_selfish.evaluation.features import extract_named

COUNT = 10
CLASSES = ("a, b", "c\u2028d")


class Killed(BaseException):
    """Ends a call like SIGKILL: nothing is saved on the way out."""


class Mean(nn.Module):
    """Mean colour of each image, with the number of images that were seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return x.mean((2, 3))


@pytest.fixture
def images() -> ImageDataset:
    """Ten image files in two folders, whose names need quotes in a CSV file."""
    for number in range(COUNT):
        folder = Path("photos", CLASSES[number % 2])
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f" {number};,\u0085.png")
    return ImageDataset(source := open_source("photos"), fit_preprocessing(source))


def write(images: ImageDataset, backbone: nn.Module | None = None, **arguments: Any) -> Written:
    settings: dict[str, Any] = {"weights": "0", "batch_size": 3, "report": [].append} | arguments
    return write_features(Mean() if backbone is None else backbone, images, Path("store/features"), **settings)


def check(images: ImageDataset, written: Written, missing: int = 0) -> None:
    """Compare the files with the features that are extracted in memory."""
    expected, labels, names = extract_named(Mean(), images, on_error="skip")
    assert np.array_equal(np.load("store/features.npy", mmap_mode="r"), expected)
    listed = open_source("store/features.csv")
    assert [Path(listed.path(index)) for index in range(len(listed))] == [
        Path("photos", name).resolve() for name in names
    ]
    assert listed.class_names == CLASSES
    assert [listed.label(index) for index in range(len(listed))] == list(labels)
    assert (written.rows, written.dimensions, written.images) == (COUNT - missing, 3, COUNT)
    assert sorted(path.name for path in Path("store").glob("[!.]*")) == ["features.csv", "features.npy"]


def test_rows_and_table_belong_together(images: ImageDataset) -> None:
    seen: list[int] = []
    check(images, write(images, report=seen.append))
    assert seen == [0, 3, 6, 9, 10]


def test_a_stopped_extraction_continues(images: ImageDataset) -> None:
    def stop(done: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(images, report=stop)
    assert not Path("store/features.npy").exists()
    backbone = Mean()
    check(images, write(images, backbone))
    assert backbone.seen == COUNT - 6


def test_killed_at_any_step(images: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "SECONDS", 0.0)

    def leave(partial: PartialFeatures, *_: object) -> None:
        partial._close()
        partial._lock.release()

    kills = 0
    for last in itertools.count():
        calls = itertools.count()

        def counted(function: Any, calls: Any = calls, last: int = last) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(calls) == last:
                    raise Killed
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(PartialFeatures, "__exit__", leave)
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, counted(getattr(Path, name)))
            patch.setattr("super_selfish.evaluation.extraction.os.fsync", counted(extraction.os.fsync))
            try:
                write(images)
                break
            except Killed:
                kills += 1
        for leftover in Path("store").glob(".*"):
            leftover.unlink()
        check(images, write(images, batch_size=2))
        for path in Path("store").iterdir():
            path.unlink()
    assert kills > 10


def test_unreadable_images(images: ImageDataset) -> None:
    broken = Path("photos", images.name(4))
    broken.write_bytes(b"damaged")
    with pytest.raises(UnreadableImage):
        write(images)
    check(images, write(images, on_error="skip"), missing=1)


def test_without_a_readable_image(images: ImageDataset) -> None:
    for path in Path("photos").rglob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="None of the images"):
        write(images, on_error="skip")
    assert not Path("store/features.npy").exists()


@pytest.mark.parametrize("change", ["weights", "images"])
def test_other_weights_or_images_do_not_continue(images: ImageDataset, change: str) -> None:
    def stop(done: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(images, report=stop)
    before = {path: path.read_bytes() for path in Path("store").glob("[!.]*")}
    arguments = {"weights": "1"} if change == "weights" else {}
    if change == "images":
        Path("photos", images.name(9)).unlink()
        images = ImageDataset(open_source("photos"), images.preprocessing)
    with pytest.raises(CheckpointError, match="unfinished extraction of other"):
        write(images, **arguments)
    assert {path: path.read_bytes() for path in Path("store").glob("[!.]*")} == before


def test_parts_that_were_cut_short_are_an_error(images: ImageDataset) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(images, report=lambda done: (_ for _ in ()).throw(KeyboardInterrupt) if done == 6 else None)
    Path("store/features.npy.part").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is shorter than"):
        write(images)
    Path("store/features.part.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        write(images)


def test_older_files_are_kept(images: ImageDataset) -> None:
    Path("store").mkdir()
    for suffix in (".npy", ".csv"):
        Path(f"store/features{suffix}").write_text("older")
    write(images)
    assert Path("store/features.npy.prev").read_text() == Path("store/features.csv.prev").read_text() == "older"
    assert len(np.load("store/features.npy")) == COUNT


def test_two_processes_cannot_write_the_same_files(images: ImageDataset) -> None:
    with (
        PartialFeatures(images, Path("store/features"), {}),
        pytest.raises(CheckpointError, match="Another process"),
        PartialFeatures(images, Path("store/features"), {}),
    ):
        pass


@pytest.mark.parametrize("shape", [(1, 1), (10**12, 10**6)])
def test_the_header_has_one_length(shape: tuple[int, int]) -> None:
    header = npy_header(*shape)
    assert len(header) == 128
    assert np.lib.format.read_magic(stream := io.BytesIO(header)) == (1, 0)
    assert np.lib.format.read_array_header_1_0(stream) == (shape, False, np.dtype("<f4"))


def test_arrays_are_refused() -> None:
    source = open_source(np.zeros((4, 32, 32, 3), np.uint8))
    with pytest.raises(DataError, match="image files only"):
        write(ImageDataset(source, fit_preprocessing(source)))


def test_progress_is_json(images: ImageDataset) -> None:
    partial = PartialFeatures(images, Path("store/features"), {"weights": None})
    with partial:
        pass
    assert json.loads(Path("store/features.part.json").read_text())["done"] == 0
    assert torch.is_grad_enabled()
