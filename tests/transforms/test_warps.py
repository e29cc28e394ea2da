"""How warps are put together; each alone is compared with torchvision and scipy in test_operations.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from super_selfish.transforms import pool, warps

SMOOTH = ndimage.gaussian_filter(np.random.default_rng(0).random((48, 64, 3)), (3, 3, 0), mode="mirror")
IMAGE = ((SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("right", [-63, -40, -1, 0, 1, 40, 63, 64, 200])
def test_whole_pixels_are_moved_as_they_are(right: int, dtype: Any) -> None:
    """As numpy pads by reflection, and as the warp of the same matrix."""
    image = (IMAGE * (1 if dtype == np.float32 else np.iinfo(dtype).max)).astype(dtype)
    padded = np.pad(image, ((210, 210), (210, 210), (0, 0)), mode="reflect")
    for down in (0, 5, -47):
        moved = warps.affine(image, translate=(right, down))
        assert np.array_equal(moved, padded[210 - down : 258 - down, 210 - right : 274 - right])
        assert not np.shares_memory(moved, image)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"angle": 20.0}, {"translate": (5.0, -3.5)}),
        ({"translate": (5.0, -3.5)}, {"angle": 20.0}),
        ({"shear": (0.2, 0.0)}, {"shear": (0.0, 0.2), "scale": 1.2}),
    ],
    ids=str,
)
def test_two_in_one_are_one_after_the_other(first: dict[str, Any], second: dict[str, Any]) -> None:
    """To 1 % of white, away from the border, where the second reflects what the first has reflected."""
    one = warps.through(warps.origin_of(IMAGE.shape, **first), warps.origin_of(IMAGE.shape, **second))
    expected = warps.affine(warps.affine(IMAGE, **first), **second)
    assert np.abs(warps.placed(IMAGE, one) - expected)[14:-14, 14:-14].max() < 0.01
    other = warps.affine(warps.affine(IMAGE, **second), **first)
    assert np.abs(other - expected)[14:-14, 14:-14].max() > 0.03, "the order shows"


def test_a_deformation_takes_its_pixels_from_the_warped_image() -> None:
    displacement = np.random.default_rng(1).normal(0, 2, (2, 3, 3))
    origin = warps.origin_of(IMAGE.shape, 10.0, (2.0, 1.0), 1.1, (0.1, -0.1))
    expected = warps.elastic(warps.placed(IMAGE, origin), displacement)
    result = warps.elastic(IMAGE, displacement, origin)
    assert np.abs(result - expected)[12:-12, 12:-12].max() < 0.02
    still = warps.elastic(IMAGE, np.zeros((2, 3, 3)), origin)
    assert np.abs(still - warps.placed(IMAGE, origin)).max() < 0.01


def test_the_pools_deformation_shears_as_affine_does() -> None:
    for shear in ((0.3, 0.0), (0.0, -0.3), (0.2, 0.1)):
        deformed = pool.deform(IMAGE, np.zeros((2, 3, 3)), shear)
        assert np.abs(deformed - warps.affine(IMAGE, shear=shear)).max() < 0.01
    origin = warps.origin_of(IMAGE.shape, translate=(9.0, 0.0))
    moved = pool.deform(IMAGE, np.zeros((2, 3, 3)), (0.0, 0.0), origin)
    assert np.abs(moved - warps.placed(IMAGE, origin)).max() < 0.01
