"""Pretext task of the split-brain autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage import color
from torch.nn import functional as F

from super_selfish.data import SplitBrainDataset
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.models import rgb_to_lab
from super_selfish.models.lab import normalised_lab
from super_selfish.pretext.split_brain import target_shape
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms.lab import LabBins, lab_of, roots

NAMED = {  # colour, class of lightness, class of colour
    "white": ((255, 255, 255), 49, 44),
    "black": ((0, 0, 0), 0, 44),
    "red": ((255, 0, 0), 26, 87),
    "blue": ((0, 0, 255), 16, 70),
}


def plain(colour: tuple[int, ...], height: int = 32, width: int = 32) -> np.ndarray:
    return np.broadcast_to(np.uint8(colour), (2, height, width, 3)).copy()


def pictures(height: int = 40, width: int = 50, dtype: Any = np.uint8) -> np.ndarray:
    images = np.random.default_rng(0).random((2, height, width, 3))
    images[:, :4] *= 0.03  # dark ones, where Lab is linear
    return images.astype(np.float32) if dtype == np.float32 else np.rint(images * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("name", NAMED)
def test_classes_of_known_colours(name: str) -> None:
    colour, lightness, ab = NAMED[name]
    _, classes = SplitBrainDataset(plain(colour)).sample(0, KeyedGenerator(0))
    assert classes.dtype == torch.int64
    assert set(classes[0].flatten().tolist()) == {lightness}
    assert set(classes[1].flatten().tolist()) == {ab}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_lab_is_that_of_the_networks(dtype: Any) -> None:
    images = pictures(dtype=dtype)
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    expected = rgb_to_lab(torch.from_numpy(images[1] / scale).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.abs(lab_of(roots(images[1])) - expected).max() < 1e-3
    assert np.abs(expected - color.rgb2lab(images[1] / scale)).max() < 1e-3
    lab, _ = SplitBrainDataset(images)[1]
    assert lab.dtype == torch.float32
    assert torch.allclose(lab, normalised_lab(torch.from_numpy(expected).permute(2, 0, 1)).float(), atol=1e-4)


def test_classes_are_of_the_mean_over_areas() -> None:
    images = pictures(32, 64)
    _, classes = SplitBrainDataset(images, target_size=(8, 16))[0]
    lab = color.rgb2lab(images[0] / 255).reshape(8, 4, 16, 4, 3).mean((1, 3))
    ab = np.floor((lab[:, :, 1:] + 128) / 26).astype(int)
    expected = np.stack([np.floor(lab[:, :, 0] / 2).astype(int), ab[:, :, 0] * 10 + ab[:, :, 1]])
    assert classes.shape == (2, 8, 16)
    assert (classes.numpy() == expected).mean() > 0.995  # a mean that falls on an edge may be rounded to either side


def test_custom_bins() -> None:
    bins = LabBins(l_step=7, l_offset=3, ab_step=50, a_offset=100, b_offset=140)
    assert bins.counts == (15, 36)
    lab = np.array([[[50, -20, 30], [100, 98, 95], [0, -120, -150]]], np.float32)
    assert bins.labels(lab).tolist() == [[[7, 14, 0]], [[1 * 6 + 3, 3 * 6 + 4, 0]]]
    assert LabBins(ab_step=26).counts == (50, 100)
    steps = {"l_step": 10, "l_offset": 1, "ab_step": 32, "a_offset": 120, "b_offset": 130}
    assert SplitBrainDataset(plain((9, 9, 9)), **steps).bins == LabBins(10, 1, 32, 120, 130)


def test_all_colours_have_a_class() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 5)] * 3), -1).reshape(1, -1, 52, 3).astype(np.uint8)
    classes = LabBins().labels(lab_of(roots(grid[0])))
    assert classes.min() == 0
    assert classes[0].max() == 49
    assert classes[1].max() < 100
    assert 45 <= len(classes[1].unique()) <= 52  # those that a screen can show


@pytest.mark.parametrize(
    ("target_size", "size", "expected"),
    [
        (None, (32, 32), (16, 16)),
        (None, (16, 12), (16, 12)),
        (None, (225, 225), (29, 29)),
        (None, (97, 512), (16, 64)),
        (20, (32, 64), (20, 20)),
        ((8, 300), (32, 64), (8, 64)),
    ],
)
def test_sizes(target_size: Any, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert target_shape(target_size, *size) == expected
    lab, classes = SplitBrainDataset(pictures(*size), target_size=target_size)[0]
    assert lab.shape == (3, *size)
    assert classes.shape == (2, *expected)


def test_crops_and_mirroring() -> None:
    images = pictures(32, 48)
    whole, mirrored = SplitBrainDataset(images)[0], SplitBrainDataset(images, flip=1.0)[0]
    assert torch.allclose(whole[0].flip(-1), mirrored[0], atol=1e-6)
    assert torch.equal(whole[1].flip(-1), mirrored[1])
    cropped = SplitBrainDataset(images, crop=(0.2, 0.5))
    first, again, other = (cropped.sample(0, KeyedGenerator(seed)) for seed in (0, 0, 1))
    assert first[0].shape == (3, 32, 48)
    assert first[1].shape == (2, 16, 16)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], whole[0])
    root = (first[0][0] + 1) * 50  # lightness and its classes are of one crop
    assert (F.adaptive_avg_pool2d(root[None], 16)[0] / 2 - first[1][0]).abs().mean() < 1.5


def test_palettes_are_means_or_middles() -> None:
    bins = LabBins()
    lab = torch.tensor([[10.5, 11.0, 99.0], [3.0, 5.0, -30.0], [4.0, 6.0, 50.0]]).view(1, 3, 1, 3)
    classes = bins.labels(lab[0].permute(1, 2, 0).numpy())[None]
    lightness, colours = bins.palettes(lab, classes)
    assert lightness.shape == (50, 1)
    assert colours.shape == (100, 2)
    assert lightness[5].item() == pytest.approx(10.75)
    assert lightness[6].item() == 13
    assert colours[55].tolist() == [4, 5]
    assert colours[0].tolist() == [-115, -115]


def test_images_without_colours_raise() -> None:
    with pytest.raises(DataError, match=r"has no colours to predict.*Received: 1 channels"):
        SplitBrainDataset(np.zeros((2, 32, 32, 1), np.uint8))[0]


@pytest.mark.parametrize(
    "arguments",
    [{"l_step": 0}, {"l_offset": "0"}, {"ab_step": 1}, {"a_offset": float("nan")}, {"b_offset": None}]
    + [{"target_size": size} for size in (0, (4,), (4, 0), 2.5, "16", True)]
    + [{"crop": (0.0, 1.0)}, {"crop": 0.5}, {"flip": 2}],
)
def test_invalid_arguments_raise(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(arguments))}` is .*Expected: "):
        SplitBrainDataset(plain((1, 2, 3)), **arguments)
