"""Erased blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.data import ContextDataset
from super_selfish.pretext.base import sample_key
from super_selfish.seeding import KeyedGenerator


def pictures(count: int = 4, height: int = 40, width: int = 56, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_erased_pixels_are_the_mean_colour_and_no_other_changes(channels: int) -> None:
    images = pictures(channels=channels)
    dataset = ContextDataset(images)
    colour = np.rint(images.mean((0, 1, 2)))
    for index in range(4):
        corrupted, clean, mask = dataset.sample(index, KeyedGenerator(index))
        assert corrupted.dtype == clean.dtype == np.uint8
        assert mask.shape == (1, 40, 56)
        assert mask.dtype == torch.bool
        erased = mask[0].numpy()
        assert np.abs(corrupted[erased] - colour).max() <= 1
        assert np.array_equal(corrupted[~erased], clean[~erased])
        assert np.array_equal(clean, images[index])


@pytest.mark.parametrize(("fill", "expected"), [(0.0, [0, 0, 0]), ((0.0, 1.0, 0.2), [0, 255, 51])])
def test_another_fill(fill: Any, expected: list[int]) -> None:
    corrupted, _, mask = ContextDataset(pictures(), fill=fill).sample(0, KeyedGenerator(0))
    assert (corrupted[mask[0].numpy()] == expected).all()


def test_at_least_one_block_is_erased() -> None:
    dataset = ContextDataset(pictures(), p=0.0, scale_range=(0.08, 0.08))
    for seed in range(50):
        share = dataset.sample(0, KeyedGenerator(seed))[2].double().mean()
        assert 0.07 < share < 0.09


def test_blocks_have_the_areas_and_shapes_that_were_asked_for() -> None:
    dataset = ContextDataset(np.zeros((2, 200, 200, 3), np.uint8), p=0.0, scale_range=(0.02, 0.06))
    areas, shapes = [], []
    for seed in range(400):
        mask = dataset.sample(0, KeyedGenerator(seed))[2][0].numpy()
        height, width = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == height * width, "one block"
        areas.append(height * width / 200**2)
        shapes.append(np.log(height / width))
    assert 0.019 < min(areas) < 0.022
    assert 0.057 < max(areas) < 0.061
    assert np.mean(areas) == pytest.approx(0.04, abs=0.002)
    assert max(np.abs(shapes)) < np.log(3.3) + 0.1
    assert np.mean(shapes) == pytest.approx(0, abs=0.12)
    assert np.std(shapes) == pytest.approx(2 * np.log(3.3) / np.sqrt(12), abs=0.08)


def test_three_in_ten_attempts_succeed() -> None:
    dataset = ContextDataset(np.zeros((2, 225, 225, 3), np.uint8))
    shares = [dataset.sample(0, KeyedGenerator(seed))[2].double().mean().item() for seed in range(300)]
    assert min(shares) > 0.04
    assert 0.16 < np.mean(shares) < 0.23  # three blocks of 7.5 % that overlap a little


def test_deep_images_and_floats() -> None:
    deep = pictures().astype(np.uint16) * 257
    corrupted, clean, mask = ContextDataset(deep, fill=1.0).sample(0, KeyedGenerator(0))
    assert clean.dtype == np.uint16
    assert (corrupted[mask[0].numpy()] == 65535).all()
    floats = pictures().astype(np.float32) / 255
    corrupted, clean, mask = ContextDataset(floats).sample(0, KeyedGenerator(0))
    assert np.abs(corrupted[mask[0].numpy()] - floats.mean((0, 1, 2))).max() < 1e-5


def test_draws_differ_and_repeat_by_key() -> None:
    dataset = ContextDataset(pictures())
    with sample_key(0, 1, 2):
        first = dataset[0]
    with sample_key(0, 1, 2):
        again = dataset[0]
    with sample_key(0, 2, 2):
        other = dataset[0]
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first[2], other[2])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("p", 1.5),
        ("n_blocks", 0),
        ("scale_range", (0.2, 0.1)),
        ("scale_range", 0.1),
        ("scale_range", (0.0, 0.1)),
        ("fill", 2.0),
        ("fill", "grey"),
        ("fill", (0.1, 0.2)),
    ],
)
def test_arguments_out_of_range_raise(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        ContextDataset(pictures(), **{argument: value})
