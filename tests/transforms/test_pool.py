"""The pool of operations: invariants, and the distributions of the magnitudes."""

from __future__ import annotations

import colorsys
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms import colour, warps
from super_selfish.transforms.pool import AUTOAUGMENT, POOL

Image = npt.NDArray[Any]
DTYPES = ("uint8", "uint16", "float32")
RGB = {"colour", "principal_contrast", "saturation_value", "grey", "hue"}

RANGES = {  # range of each magnitude, for an image of 100×200 px
    "shear_x": [(-0.3, 0.3), (0, 0)],
    "shear_y": [(0, 0), (-0.3, 0.3)],
    "translate_x": [(-60, 60), (0, 0)],
    "translate_y": [(0, 0), (-30, 30)],
    "translate": [(-40, 40), (-20, 20)],
    "rotate": [(-30, 30)],
    "scale": [(0.7, 1.4)],
    "contrast": [(0.1, 1.9)],
    "colour": [(0.1, 1.9)],
    "brightness": [(0.1, 1.9)],
    "sharpness": [(0.1, 1.9)],
    "solarize": [(0, 256 / 255)],
    "posterize": [(4, 8)],
    "principal_contrast": [(0.5, 2)] * 3,
    "gamma": [(0.7, 1.4)] * 3,
    "saturation_value": [(0.25, 4), (0.7, 1.4), (-0.1, 0.1)] * 2,
    "hue": [(-0.1, 0.1)],
    "cutout": [(0, 99), (0, 199), (1, 20)],
}
LOGARITHMIC = {"scale", "principal_contrast", "gamma"}


def make_image(dtype: str, channels: int, height: int = 33, width: int = 40) -> Image:
    """Return noise on a vertical gradient, in [0.1, 0.8] of white."""
    noise = np.random.default_rng(channels).random((height, width, channels))
    image = 0.1 + 0.5 * noise + 0.2 * np.linspace(0, 1, height)[:, None, None]
    return image.astype(np.float32) if dtype == "float32" else np.rint(image * np.iinfo(dtype).max).astype(dtype)


def numbers(magnitudes: dict[str, Any]) -> list[float]:
    return [float(number) for value in magnitudes.values() for number in np.ravel(value)]


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", POOL)
def test_shape_dtype_and_range_are_preserved(name: str, dtype: str, channels: int) -> None:
    operation, image = POOL[name], make_image(dtype, channels)
    before, changed = image.copy(), 0
    for key in range(12):
        result = operation(image, KeyedGenerator(name, key))
        assert result.shape == image.shape
        assert result.dtype == image.dtype
        assert np.isfinite(result).all()
        if dtype == "float32":
            assert result.min() >= 0
            assert result.max() <= 1
        assert np.array_equal(result, operation(image, KeyedGenerator(name, key))), "not a function of the key"
        changed += not np.array_equal(result, image)
    assert np.array_equal(image, before), "the input was changed"
    if name in RGB and channels != 3:
        assert changed == 0
        assert operation(image, KeyedGenerator(0)) is image
    else:
        assert changed >= 8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", POOL)
def test_extreme_values_and_tiny_images(name: str, dtype: str) -> None:
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    noise = np.random.default_rng(0).integers(0, 2, (9, 11, 3)) * white
    for image in (noise, np.zeros((9, 11, 3)), np.full((9, 11, 3), white), noise[:1, :1], noise[:3, :2]):
        for key in range(4):
            result = POOL[name](image.astype(dtype), KeyedGenerator(key))
            assert result.shape == image.shape
            assert np.isfinite(result).all()
            assert result.min() >= 0
            assert result.max() <= white


@pytest.mark.parametrize("name", RANGES)
def test_magnitude_distributions(name: str) -> None:
    drawn = np.array([numbers(POOL[name].draw(KeyedGenerator(name, key), (100, 200, 3))) for key in range(400)])
    assert drawn.shape[1] == len(RANGES[name])
    for column, (low, high) in zip(drawn.T, RANGES[name], strict=True):
        assert low <= column.min() <= low + 0.06 * (high - low)
        assert high >= column.max() >= high - (0.06 if name != "cutout" else 0.2) * (high - low)
        if name in LOGARITHMIC:
            assert np.median(column) == pytest.approx(np.sqrt(low * high), rel=0.15)
        elif name not in ("cutout", "saturation_value"):
            assert np.median(column) == pytest.approx((low + high) / 2, abs=0.1 * (high - low))


def test_operations_without_magnitudes() -> None:
    assert set(POOL) - set(RANGES) == {"autocontrast", "invert", "equalize", "grey", "elastic"}
    for name in ("autocontrast", "invert", "equalize", "grey"):
        assert POOL[name].draw(KeyedGenerator(0), (8, 8, 3)) == {}


def test_elastic_displacements_are_normal_and_relative_to_the_shorter_side() -> None:
    drawn = [POOL["elastic"].draw(KeyedGenerator(key), (100, 200, 3)) for key in range(400)]
    displacements = np.stack([magnitudes["displacement"] for magnitudes in drawn])
    assert displacements.shape == (400, 2, 3, 3)
    assert displacements.std() == pytest.approx(4.5, rel=0.03)
    assert abs(displacements.mean()) < 0.2
    assert (np.abs(displacements) < 4.5).mean() == pytest.approx(0.683, abs=0.02)
    assert np.allclose(np.corrcoef(displacements.reshape(400, 18).T), np.eye(18), atol=0.25)
    shears = np.array([magnitudes["shear"] for magnitudes in drawn])
    assert np.abs(shears).max() <= 0.3
    assert np.abs(shears).max() > 0.28


def test_cutout_squares_stay_inside_the_image() -> None:
    image = np.zeros((20, 50, 1), np.uint8)
    sizes = []
    for key in range(200):
        rows, columns = np.nonzero(POOL["cutout"](image, KeyedGenerator(key))[:, :, 0])
        sizes.append(len(rows))
        assert np.ptp(rows) == np.ptp(columns)
        assert len(rows) == (np.ptp(rows) + 1) ** 2
    assert set(sizes) <= {1, 4, 9, 16}
    assert 16 in sizes
    assert POOL["cutout"](image, KeyedGenerator(0)).max() == 128


def test_pool_contains_autoaugment() -> None:
    assert len(AUTOAUGMENT) == 15
    assert AUTOAUGMENT.items() <= POOL.items()
    assert {name for name, operation in POOL.items() if operation.rgb} == RGB
    affine = {name for name, operation in POOL.items() if operation.apply is warps.affine}
    assert {POOL[name].kind for name in affine} == {"shear", "translation", "rotation", "scaling"}


@pytest.mark.parametrize("name", POOL)
def test_operations_can_be_pickled(name: str) -> None:
    image = make_image("uint8", 3)
    again = pickle.loads(pickle.dumps(POOL[name]))
    assert np.array_equal(again(image, KeyedGenerator(3)), POOL[name](image, KeyedGenerator(3)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_curve_saturation_value_equals_colorsys(dtype: str) -> None:
    image = make_image(dtype, 3, 8, 9)
    image[0, 0] = image[0, 0, 0]
    image[0, 1] = 0
    saturation, value = (1.7, 0.8, 0.05), (0.6, 1.2, -0.07)
    result = colour.curve_saturation_value(image, saturation, value)
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    for given, found in zip(image.reshape(-1, 3) / white, result.reshape(-1, 3) / white, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*given.tolist())
        s, v = (min(max(gain * x**power + offset, 0), 1) for x, (power, gain, offset) in ((s, saturation), (v, value)))
        expected = colorsys.hsv_to_rgb(h, s if np.ptp(given) else 0, v)
        assert np.abs(np.array(expected) - found).max() <= (1e-5 if dtype == "float32" else 0.51 / white)


@pytest.mark.parametrize("dtype", DTYPES)
def test_principal_contrast_scales_three_orthogonal_directions(dtype: str) -> None:
    image = make_image(dtype, 3)
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    result = colour.principal_contrast(image, (0.9, 0.5, 1.3)) / white
    assert np.abs(colour.principal_contrast(image, (1, 1, 1)) / white - image / white).max() <= 1e-6
    before, after = (part.reshape(-1, 3) - part.reshape(-1, 3).mean(0) for part in (image / white, result))
    for direction, factor in (((1, 1, 1), 0.9), ((1, 0, -1), 0.5), ((1, -2, 1), 1.3)):
        assert np.allclose(
            after @ direction, factor * (before @ direction), atol=3e-5 if dtype == "float32" else 3 / white
        )
