"""Jigsaw."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import super_selfish
from super_selfish.data import JigsawTransform, permutation_table
from super_selfish.engine.previews import preview, preview_batch
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.models import Classification, SmallResNet
from super_selfish.supervisors import JigsawNetSupervisor

QUIET = {"verbose": False, "name": "store/test"}


def pictures(count: int = 8, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> JigsawNetSupervisor:
    arguments.setdefault("backbone", SmallResNet(width=4))
    return JigsawNetSupervisor(dataset, **arguments)


def test_initial_loss_is_at_chance_level() -> None:
    for arguments in ({}, {"crops": 3, "total_perms": 100}, {"total_perms": 4}):
        supervisor = make(pictures(), **arguments)
        last = supervisor.model.predictor.layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        loss = supervisor._forward(preview_batch(supervisor, None, 4)).item()
        assert loss == pytest.approx(math.log(arguments.get("total_perms", 24)), abs=1e-5)


def test_the_loss_and_its_gradient_equal_a_naive_loop() -> None:
    supervisor = make(pictures()).eval()  # batch statistics would tie the samples of a batch together
    puzzles, orders = preview_batch(supervisor, None, 5)
    supervisor._forward((puzzles, orders)).backward()
    gradients = [parameter.grad.clone() for parameter in supervisor.model.parameters()]
    supervisor.model.zero_grad()
    total = torch.zeros(())
    for puzzle, order in zip(puzzles, orders.tolist(), strict=True):
        logits = supervisor.model(puzzle[None])[0]
        total = total - (logits[order] - logits.exp().sum().log()) / 5
    total.backward()
    for expected, parameter in zip(gradients, supervisor.model.parameters(), strict=True):
        assert torch.allclose(expected, parameter.grad, atol=1e-5)


def test_it_learns_which_tile_is_where() -> None:
    """The first tile has stripes, and all have the same mean and spread."""
    images = pictures(80)
    images[:, :16, :16] = np.where(np.arange(16) // 4 % 2, 220, 30)[:, None, None]
    supervisor = make(images[:64], total_perms=4, predictor=Classification([512, 64, 4], norm_type="layer"))
    supervisor.supervise(lr=1e-2, epochs=5, batch_size=8, checkpoint_every=0, **QUIET)
    puzzles, orders = preview_batch(supervisor, images[64:], 16)
    with torch.no_grad():
        assert (supervisor.model(puzzles).argmax(1) == orders).float().mean() > 0.9


def test_the_default_networks() -> None:
    supervisor = JigsawNetSupervisor()
    assert supervisor.feature_dim == 3136
    assert supervisor.input_size == (224, 224)
    sizes = [layer.out_features for layer in supervisor.model.predictor.layers if isinstance(layer, nn.Linear)]
    assert sizes == [1024, 1024, 24]
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in supervisor.modules())


def test_head_fits_shuffled_images_smaller_than_the_images() -> None:
    supervisor = JigsawNetSupervisor(
        pictures(4, 64, 97), crops=3, total_perms=72, backbone=nn.Conv2d(3, 2, 8, stride=8)
    )
    assert supervisor.input_size == (63, 96)
    puzzles, orders = preview_batch(supervisor, None, 2)
    assert puzzles.shape == (2, 3, 63, 96)
    assert orders.dtype == torch.int64
    supervisor.supervise(epochs=1, batch_size=2, **QUIET)
    assert supervisor.extract(pictures(2, 64, 97))[0].shape == (2, 2)
    assert super_selfish.load("store/test", backbone=nn.Conv2d(3, 2, 8, stride=8)).input_size == (63, 96)


def test_shuffled_images_are_not_normalised_again() -> None:
    for normalize in (None, "dataset"):
        puzzles, _ = preview_batch(make(pictures(), normalize=normalize), None, 4)
        cells = puzzles.unfold(2, 16, 16).unfold(3, 16, 16)
        assert cells.mean((4, 5)).abs().max() < 1e-4
        assert torch.allclose(cells.std((4, 5), correction=0), torch.ones(()), atol=1e-3)
    puzzles, _ = preview_batch(make(pictures(), normed=False), None, 4)
    assert puzzles.min() >= 0
    assert 0.4 < puzzles.mean() < 0.6
    shifted, _ = preview_batch(make(pictures(), normed=False, normalize="dataset"), None, 4)
    assert abs(float(shifted.mean())) < 0.5


def test_custom_table(tmp_path: Path) -> None:
    table = permutation_table(3, 504)[100:110]
    np.save(tmp_path / "table.npy", table)
    supervisor = make(pictures(), jigsaw_path=tmp_path / "table.npy", crops=3, total_perms=10)
    assert np.array_equal(supervisor.dataset.permutations, table)
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    (tmp_path / "table.npy").unlink()
    loaded = super_selfish.load("store/test", backbone=SmallResNet(width=4))
    assert loaded.jigsaw_path == str(tmp_path / "table.npy")
    assert loaded.extract(pictures(2))[0].shape == (2, 32)
    with pytest.raises(DataError, match=r"table\.npy` cannot be read"):
        make(pictures(), jigsaw_path=tmp_path / "table.npy", crops=3, total_perms=10)


def test_transforms_and_options_are_applied() -> None:
    plain = {"transformations": JigsawTransform(jitter_p=0, grey=0), "chroma_jitter": 0, "chroma_project": 0.0}
    supervisor = make(pictures(), grey=1.0, normed=False, crop_size=(12, 13), n_perms_per_image=3, **plain)
    puzzles, _ = preview_batch(supervisor, None, 4)
    assert (puzzles[:, 0] == puzzles[:, 1]).all()
    assert supervisor.dataset.crop_size == (12, 13)
    assert supervisor.dataset.n_perms_per_image == 3
    stored = supervisor.hyperparameters()
    assert {key: stored[key] for key in ("crop_size", "grey", "normed", "total_perms")} == {
        "crop_size": (12, 13),
        "grey": 1.0,
        "normed": False,
        "total_perms": 24,
    }


def test_preview() -> None:
    for crops, captions in ((2, 4), (3, 9), (4, 0)):
        supervisor = make(pictures(8, 64, 64), crops=crops)
        shown = preview(supervisor, None, 3)
        assert [len(row) for row in shown.rows] == [2] * 3
        for row in shown.rows:
            assert sorted(filter(str.isdigit, row[0].caption)) == sorted(map(str, range(1, captions + 1)))
            assert row[1].right is None
            assert all(0 <= panel.image.min() <= panel.image.max() <= 1 for panel in row)
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    shown = preview(supervisor, None, 3)
    assert [len(row) for row in shown.rows] == [3] * 3
    assert all(row[2].caption.startswith("predicted: ") and row[2].right is not None for row in shown.rows)
    assert "Accuracy of tile permutations" in shown.note


def test_correct_prediction_restores_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8).repeat(2, axis=0)
    supervisor = make(image, total_perms=2, n_perms_per_image=1).supervise(epochs=1, batch_size=2, **QUIET)
    bias = supervisor.model.predictor.layers[-1].bias
    row = int(supervisor.dataset.rows(0)[0])
    with torch.no_grad():
        supervisor.model.predictor.layers[-1].weight.zero_()
        bias.copy_(torch.eye(2)[row])
    told = preview(supervisor, None, 1).rows[0]
    assert torch.equal(told[1].image, told[2].image)
    assert told[2] == (told[2].image, "predicted: correct", True)
    with torch.no_grad():
        bias.neg_()
    told = preview(supervisor, None, 1).rows[0]
    assert told[2].caption == "predicted: 0 of 4 tiles\nin place"
    assert told[2].right is False
    assert not torch.equal(told[1].image, told[2].image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crops": 1}, r"`crops` is out of range.*3 makes 3 × 3"),
        ({"total_perms": 25}, r"`total_perms` is out of range. Expected: at most 24"),
        ({"crop_size": 16}, r"crops.*Received: crop_size=16. Set crop_size=\(14, 14\)"),
        ({"crops": 9, "total_perms": 24}, r"too small for 9×9 tiles.*Set crops=8"),
        ({"grey": 1.5}, "`grey` is out of range"),
        ({"transformations": 3}, "`views`"),
        ({"predictor": Classification([512, 25])}, r"Expected: outputs of shape \(batch, 24\)"),
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(pictures(), **arguments)


def test_too_many_permutations_raise_without_images() -> None:
    with pytest.raises(ConfigurationError, match="at most 24"):
        make(total_perms=100)
    assert make(total_perms=100, crops=3).total_perms == 100
