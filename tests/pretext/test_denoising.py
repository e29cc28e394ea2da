"""Pretext task of the denoising autoencoder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.data import DenoiseDataset
from super_selfish.errors import ConfigurationError
from super_selfish.seeding import KeyedGenerator

KINDS = ("mask", "saltpepper", "gaussian")


def pictures(
    count: int = 2, height: int = 97, width: int = 130, channels: int = 3, dtype: Any = np.uint8
) -> np.ndarray:
    generator = np.random.default_rng(0)
    if dtype == np.float32:
        return generator.random((count, height, width, channels), np.float32) * 0.5 + 0.25
    return generator.integers(1, np.iinfo(dtype).max, (count, height, width, channels), dtype)


def draw(images: np.ndarray, seed: int = 0, **arguments: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    corrupted, clean, mask = DenoiseDataset(images, **arguments).sample(1, KeyedGenerator(seed))
    return corrupted, clean, mask.numpy()[0]


@pytest.mark.parametrize("noise", KINDS)
@pytest.mark.parametrize("patch", [1, 8])
@pytest.mark.parametrize("p", [0.1, 0.7])
def test_fraction_of_corrupted_pixels(noise: Any, patch: int, p: float) -> None:
    images = pictures(height=256, width=320)
    share = np.mean([draw(images, seed, noise=noise, patch=patch, p=p)[2].mean() for seed in range(3)])
    blocks = 3 * 256 * 320 / patch**2
    assert abs(share - p) < 3 * math.sqrt(p * (1 - p) / blocks)


@pytest.mark.parametrize("noise", KINDS)
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 1), (np.float32, 13)])
def test_the_rest_is_identical_bit_for_bit(noise: Any, dtype: Any, channels: int) -> None:
    images = pictures(channels=channels, dtype=dtype)
    kept = images.copy()
    corrupted, clean, mask = draw(images, noise=noise)
    assert np.array_equal(images, kept), "the data set's own image is not written to"
    assert corrupted.dtype == clean.dtype == dtype
    assert mask.dtype == bool
    assert np.array_equal(clean, images[1])
    assert np.array_equal(corrupted[~mask], clean[~mask])
    assert (corrupted[mask] != clean[mask]).all(axis=1).mean() > (0.99 if noise != "gaussian" or channels == 1 else 0.9)


def test_kinds_of_noise() -> None:
    images = pictures()
    corrupted, _, mask = draw(images)
    assert not corrupted[mask].any()
    corrupted, _, mask = draw(images, noise="saltpepper")
    assert set(np.unique(corrupted[mask])) == {0, 255}
    assert (corrupted[mask] == corrupted[mask][:, :1]).all(), "black or white, not coloured"
    assert abs((corrupted[mask] == 255).mean() - 0.5) < 0.02
    grey = np.full((2, 200, 200, 3), 128, np.uint8)
    corrupted, clean, mask = draw(grey, noise="gaussian", sigma=0.1)
    noise = corrupted[mask].astype(float) - clean[mask]
    assert abs(noise.mean()) < 0.5
    assert abs(noise.std() - 25.5) < 0.5
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.02, "each channel has noise of its own"
    for value in (0, 255):  # saturates instead of wrapping around
        corrupted, _, mask = draw(np.full((2, 64, 64, 3), value, np.uint8), noise="gaussian", sigma=0.1)
        assert abs(corrupted.astype(int) - value).max() < 200
        assert 0.4 < (corrupted[mask] == value).mean() < 0.6


def test_blocks() -> None:
    _, _, mask = draw(pictures(height=50, width=70), patch=16, p=0.5)
    assert mask.shape == (50, 70)
    for top in range(0, 50, 16):
        for left in range(0, 70, 16):
            assert len(np.unique(mask[top : top + 16, left : left + 16])) == 1
    assert 0 < mask.mean() < 1


def test_extremes_and_keys() -> None:
    images = pictures()
    assert not draw(images, p=0.0)[2].any()
    assert draw(images, p=1.0)[2].all()
    assert draw(images, p=1, patch=200)[2].all()
    assert np.array_equal(draw(images, 3)[2], draw(images, 3)[2])
    assert not np.array_equal(draw(images, 3)[2], draw(images, 4)[2])
    one, again, other = (draw(images, seed, noise="gaussian", p=1.0)[0] for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_items_for_people() -> None:
    corrupted, clean, mask = DenoiseDataset(pictures())[0]
    assert corrupted.shape == clean.shape == (3, 97, 130)
    assert corrupted.dtype == clean.dtype == torch.float32
    assert (mask.shape, mask.dtype) == ((1, 97, 130), torch.bool)
    assert torch.equal(corrupted, clean * ~mask)


@pytest.mark.parametrize(
    "arguments",
    [{"p": 1.5}, {"p": "0.5"}, {"noise": "salt"}, {"noise": None}, {"patch": 0}, {"patch": 2.0}, {"sigma": -1.0}],
)
def test_invalid_arguments_raise(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(arguments))}` is out of range. Expected: "):
        DenoiseDataset(pictures(), **arguments)
