"""Composition of warps. Single warps are compared with torchvision and SciPy in test_operations.py."""

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
def test_integer_translation_is_exact(right: int, dtype: Any) -> None:
    """Equals a crop of the image with numpy's reflection padding."""
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
def test_compose_equals_consecutive_warps(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Within 1 % of white away from the border, where the second warp reflects the padding of the first."""
    composed = warps.compose(warps.inverse_matrix(IMAGE.shape, **first), warps.inverse_matrix(IMAGE.shape, **second))
    expected = warps.affine(warps.affine(IMAGE, **first), **second)
    assert np.abs(warps.placed(IMAGE, composed) - expected)[14:-14, 14:-14].max() < 0.01
    other = warps.affine(warps.affine(IMAGE, **second), **first)
    assert np.abs(other - expected)[14:-14, 14:-14].max() > 0.03, "the order has no effect"


def test_elastic_with_matrix_equals_warp_then_elastic() -> None:
    displacement = np.random.default_rng(1).normal(0, 2, (2, 3, 3))
    matrix = warps.inverse_matrix(IMAGE.shape, 10.0, (2.0, 1.0), 1.1, (0.1, -0.1))
    expected = warps.elastic(warps.placed(IMAGE, matrix), displacement)
    result = warps.elastic(IMAGE, displacement, matrix)
    assert np.abs(result - expected)[12:-12, 12:-12].max() < 0.02
    undeformed = warps.elastic(IMAGE, np.zeros((2, 3, 3)), matrix)
    assert np.abs(undeformed - warps.placed(IMAGE, matrix)).max() < 0.01


def test_deform_shear_equals_affine_shear() -> None:
    for shear in ((0.3, 0.0), (0.0, -0.3), (0.2, 0.1)):
        deformed = pool.deform(IMAGE, np.zeros((2, 3, 3)), shear)
        assert np.abs(deformed - warps.affine(IMAGE, shear=shear)).max() < 0.01
    matrix = warps.inverse_matrix(IMAGE.shape, translate=(9.0, 0.0))
    moved = pool.deform(IMAGE, np.zeros((2, 3, 3)), (0.0, 0.0), matrix)
    assert np.abs(moved - warps.placed(IMAGE, matrix)).max() < 0.01
