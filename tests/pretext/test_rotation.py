"""Pretext task of RotateNet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from super_selfish.data import RotateDataset, batched_collate
from super_selfish.errors import ConfigurationError
from super_selfish.pretext.rotation import inscribed_side
from super_selfish.transforms import warps
from super_selfish.transforms.warps import rotate


def test_quarter_turns_are_exact() -> None:
    image = np.array([[0, 1], [2, 3]], np.uint8)[:, :, None]
    assert rotate(image, 90)[:, :, 0].tolist() == [[1, 3], [0, 2]]
    assert rotate(image, -90)[:, :, 0].tolist() == [[2, 0], [3, 1]]
    assert rotate(image, 180)[:, :, 0].tolist() == [[3, 2], [1, 0]]
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    turned = noise
    for _ in range(4):
        turned = rotate(turned, 90)
    assert np.array_equal(turned, noise)
    assert np.array_equal(rotate(noise, 450), rotate(noise, 90))


@pytest.mark.parametrize("channels", [1, 3, 13])
def test_items_are_all_rotations_in_order(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 50, channels), np.uint8)
    turned, ids = RotateDataset(images)[1]
    assert turned.shape == (4, channels, 40, 40)
    assert turned.dtype == torch.float32
    assert ids.tolist() == [0, 1, 2, 3]
    middle = torch.from_numpy(images[1, :, 5:45]).permute(2, 0, 1) / 255
    for place, quarters in enumerate((0, 1, 2, -1)):
        assert torch.equal(turned[place], torch.rot90(middle, quarters, (1, 2)))


def test_batches_are_image_major() -> None:
    dataset = RotateDataset(np.zeros((3, 32, 32, 3), np.uint8), rotations=(0, 90, 180))
    images, ids = batched_collate([dataset[index] for index in range(3)])
    assert images.shape == (9, 3, 32, 32)
    assert ids.tolist() == [0, 1, 2] * 3


def test_one_rotation_at_random() -> None:
    dataset = RotateDataset(np.zeros((2, 32, 32, 3), np.uint8), r_all=False)
    drawn = {dataset[0][1] for _ in range(50)}
    assert drawn == {0, 1, 2, 3}
    assert dataset[0][0].shape == (3, 32, 32)


def test_no_angle_gives_itself_away() -> None:
    """On a constant image, every angle must look the same: no border, no crop of its own, no interpolation mark."""
    images = np.full((1, 41, 64, 3), 200, np.uint8)
    turned, _ = RotateDataset(images, rotations=(0, 30, 45, 90, 200))[0]
    assert turned.shape == (5, 3, 41, 41)
    assert (turned == turned[0]).all()


def test_odd_angles_show_only_original_pixels() -> None:
    """A plane stays a plane when it is turned; a pixel from beyond the border would bend it."""
    ramp = np.add.outer(np.arange(100.0), 2 * np.arange(100.0))[None, :, :, None] / 300
    turned, _ = RotateDataset(ramp.astype(np.float32), rotations=(0, 45, 70))[0]
    for plane in turned[:, 0, 2:-2, 2:-2]:  # scaling back holds the outermost pixels
        assert plane.diff(n=2, dim=0).abs().max() < 2e-3
        assert plane.diff(n=2, dim=1).abs().max() < 2e-3
        assert plane.std() > 0.1
    assert inscribed_side(100, 45) == 70
    assert inscribed_side(100, 0) == inscribed_side(100, 90) == 100


def test_odd_angles_turn_counter_clockwise() -> None:
    image = np.zeros((1, 65, 65, 1), np.float32)
    image[0, 30:35, 45:60] = 1.0  # to the right of the centre
    turned, _ = RotateDataset(image, rotations=(0, 90.001))[0]
    rows, _ = torch.nonzero(turned[1, 0] > 0.5, as_tuple=True)
    assert rows.float().mean() < 25  # now above it


def test_transform_comes_first_and_sees_every_call_afresh() -> None:
    calls = []

    def flip(image: np.ndarray) -> np.ndarray:
        calls.append(np.random.rand())
        return image[:, ::-1]

    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    turned, _ = RotateDataset(images, transform=flip)[0]
    RotateDataset(images, transform=flip)[0]
    assert torch.equal(turned[0], torch.from_numpy(images[0, :, ::-1].copy()).permute(2, 0, 1) / 255)
    assert len(set(calls)) == 2


def test_crops_are_not_rotated() -> None:
    """On the plane 2·row + column, a crop's corners tell which rectangle it is."""
    rows, columns = np.mgrid[0:40, 0:60].astype(np.float32)
    images = np.stack([rows, columns], -1)[None]
    dataset = RotateDataset(images, crop=(0.3, 0.6), flip=0.5)
    flips, areas = [], []
    for _ in range(60):
        row, column = dataset[0][0][0]
        assert row.shape == (40, 40)
        assert row.min() >= 0
        assert row.max() <= 39
        assert column.min() >= 0
        assert column.max() <= 59
        height, width = (row[-2, 1] - row[1, 1]) / 37 * 40, (column[1, -2] - column[1, 1]) / 37 * 40
        assert height > 0, "never upside down"
        flips.append(bool(width < 0))
        areas.append(float(height * abs(width)) / 1600)
        assert 0.7 < height / abs(width) < 1.4
    assert 15 < sum(flips) < 45
    assert 0.28 < min(areas) < 0.36
    assert 0.54 < max(areas) < 0.62


def test_a_full_crop_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 13), np.uint8)
    assert np.array_equal(warps.zoom(image, 0, 0, 20, 20, (20, 20)), image)
    part = warps.zoom(image, 3, 5, 8, 10, (8, 10))
    assert np.array_equal(part, image[3:11, 5:15])


def test_pil_data_sets() -> None:
    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.new("RGB", (40, 32), (255, 0, 0)), index

    assert RotateDataset(Pictures())[1][0].shape == (4, 3, 32, 32)


@pytest.mark.parametrize("rotations", [(), (0,), (0, 360), (90, -270), (0, float("nan")), 90, ("a", "b")])
def test_invalid_angles_raise(rotations: object) -> None:
    with pytest.raises(ConfigurationError, match="`rotations`") as caught:
        RotateDataset(np.zeros((2, 32, 32, 3), np.uint8), rotations=rotations)  # type: ignore[arg-type]
    assert "Received: rotations=" in str(caught.value)
