"""Augmentation operations compared with torchvision, PIL, SciPy and float64 formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from super_selfish.transforms import operations, warps

Image = npt.NDArray[Any]
GRID = np.random.default_rng(3).normal(0, 3, (2, 3, 3))

OPERATIONS: dict[str, Callable[[Image], Image]] = {
    "affine": lambda image: warps.affine(image, 20.0, (2.5, -3.0), 1.1, (0.2, -0.1)),
    "elastic": lambda image: warps.elastic(image, GRID),
    "invert": operations.invert,
    "solarize": lambda image: operations.solarize(image, 0.4),
    "posterize": lambda image: operations.posterize(image, 3),
    "equalize": operations.equalize,
    "autocontrast": operations.autocontrast,
    "sharper": lambda image: operations.sharpness(image, 1.9),
    "softer": lambda image: operations.sharpness(image, 0.1),
    "gamma": lambda image: operations.gamma(image, 0.7),
    "gammas": lambda image: operations.gamma(image, np.linspace(0.7, 1.4, image.shape[2]).tolist()),
    "erase": lambda image: operations.erase(image, 3, 5, 10, 8, image.max().item()),
}
DTYPES = ("uint8", "uint16", "float32")


def make_image(dtype: str, channels: int, height: int = 41, width: int = 56, sigma: float = 0.0) -> Image:
    """Return noise in [0.05, 0.95] of white, smoothed if ``sigma`` is positive."""
    image = np.random.default_rng(channels).random((height, width, channels))
    if sigma:
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="mirror")
    image = 0.05 + 0.9 * (image - image.min()) / (image.max() - image.min())
    return image.astype(np.float32) if dtype == "float32" else np.rint(image * np.iinfo(dtype).max).astype(dtype)


def tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def array(image: torch.Tensor) -> Image:
    return image.numpy().transpose(1, 2, 0)


def difference(one: Image, other: Image) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 13])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_pure_for_any_memory_layout(name: str, dtype: str, channels: int) -> None:
    operation, image = OPERATIONS[name], make_image(dtype, channels)
    for view in (image, image[:, ::-1], image[::2], image[::-1, 3:40], image.transpose(1, 0, 2)):
        before = view.copy()
        result = operation(view)
        assert result.shape == view.shape
        assert result.dtype == view.dtype
        assert np.array_equal(view, before), "the input was changed"
        assert not np.shares_memory(result, view)
        assert np.array_equal(result, operation(before)), "the result depends on the memory layout"


@pytest.mark.parametrize("name", OPERATIONS)
def test_channels_are_independent(name: str) -> None:
    image = make_image("uint8", 5)
    value = int(image.max())
    operation = OPERATIONS[name] if name != "erase" else lambda part: operations.erase(part, 3, 5, 10, 8, value)
    if name == "gammas":
        operation = OPERATIONS["gamma"]
    together = operation(image)
    for channel in range(5):
        assert np.array_equal(together[:, :, channel], operation(image[:, :, channel : channel + 1])[:, :, 0])


@pytest.mark.parametrize("name", OPERATIONS)
def test_float_images_stay_in_range(name: str) -> None:
    generator = np.random.default_rng(0)
    noise = generator.random((60, 70, 3), dtype=np.float32)
    noise[generator.random(noise.shape) < 0.3] = 0.0
    noise[generator.random(noise.shape) < 0.3] = 1.0
    for image in (noise, np.zeros_like(noise), np.ones_like(noise)):
        result = OPERATIONS[name](image)
        assert np.isfinite(result).all()
        assert result.min() >= 0.0
        assert result.max() <= 1.0


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_images(name: str, dtype: str) -> None:
    for height, width in ((1, 1), (1, 4), (2, 2), (3, 3)):
        image = make_image("float32", 3, 8, 8)[:height, :width]
        image = image if dtype == "float32" else (image * np.iinfo(dtype).max).astype(dtype)
        assert OPERATIONS[name](image).shape == (height, width, 3)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"angle": 30.0},
        {"angle": -12.5},
        {"translate": (6.0, -4.0)},
        {"scale": 1.3},
        {"scale": 0.8},
        {"shear": (0.3, 0.0)},
        {"shear": (0.0, -0.3)},
        {"angle": 20.0, "translate": (3.0, 5.0), "scale": 1.2, "shear": (-0.2, 0.1)},
    ],
    ids=str,
)
def test_affine_equals_torchvision(parameters: dict[str, Any], dtype: str, channels: int) -> None:
    """Within 1 level of 255 of torchvision on the reflection-padded image (older OpenCV rounds to 1/32 px)."""
    image = make_image(dtype, channels, sigma=3.0)
    given = {"angle": 0.0, "translate": (0.0, 0.0), "scale": 1.0, "shear": (0.0, 0.0)} | parameters
    padded = np.pad(image, ((40, 40), (40, 40), (0, 0)), mode="reflect")
    expected = reference.affine(
        tensor(padded),
        angle=-given["angle"],
        translate=list(given["translate"]),
        scale=given["scale"],
        shear=[-math.degrees(math.atan(factor)) for factor in given["shear"]],
        interpolation=InterpolationMode.BILINEAR,
    )
    result = warps.affine(image, **parameters)
    assert difference(result, array(expected)[40:-40, 40:-40]) <= (1 if dtype == "uint8" else 1 / 255)
    assert difference(result, image) > (5 if dtype == "uint8" else 5 / 255)


def test_affine_uint16_equals_float32() -> None:
    """Within half a level of 255: the two differ by rounding only."""
    image = make_image("uint16", 3, sigma=2.0)
    result = warps.affine(image, 20.0, (2.0, 1.0), 1.1, (0.1, 0.2))
    expected = warps.affine((image / 65535).astype(np.float32), 20.0, (2.0, 1.0), 1.1, (0.1, 0.2))
    assert difference(result, expected * 65535.0) <= 128


def test_affine_directions() -> None:
    image = np.zeros((9, 9, 1), np.uint8)
    image[4, 7] = 100
    assert warps.affine(image, angle=90.0)[1, 4, 0] == 100
    assert warps.affine(image, translate=(1.0, -2.0))[2, 8, 0] == 100
    assert warps.affine(image, shear=(0.0, 1.0))[7, 7, 0] == 100
    assert np.array_equal(warps.affine(image), image)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_elastic_equals_scipy(dtype: str, channels: int) -> None:
    """Within 1 level of 255 on smooth images, with displacements interpolated by SciPy's mirrored cubic spline."""
    image = make_image(dtype, channels, sigma=3.0)
    height, width = image.shape[:2]
    down, right = (
        ndimage.zoom(axis, (height / 3, width / 3), order=3, mode="mirror", grid_mode=False) for axis in GRID
    )
    rows, columns = np.mgrid[:height, :width]
    expected = np.stack(
        [
            ndimage.map_coordinates(
                image[:, :, channel].astype(np.float64), [rows + down, columns + right], order=1, mode="mirror"
            )
            for channel in range(channels)
        ],
        axis=2,
    )
    tolerance = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    assert difference(warps.elastic(image, GRID), expected) <= tolerance / 255
    assert np.abs(down).max() > 2.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_elastic_without_displacement_is_exact(dtype: str) -> None:
    for size in ((41, 56), (225, 225), (2, 1)):
        image = make_image(dtype, 3, *size)
        assert np.array_equal(warps.elastic(image, np.zeros((2, 3, 3))), image)


def test_elastic_displaces_control_points() -> None:
    image = np.arange(49, dtype=np.float32).reshape(7, 7, 1) / 49
    for row, column in ((0, 0), (0, 1), (1, 1), (1, 2), (2, 0)):
        grid = np.zeros((2, 3, 3))
        grid[0, row, column] = 1.0 if row < 2 else -1.0
        point = (3 * row, 3 * column)
        deformed = warps.elastic(image, grid)
        assert deformed[point] == pytest.approx(image[point[0] + int(grid[0, row, column]), point[1]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_elastic_does_not_overshoot(dtype: str) -> None:
    image = make_image(dtype, 3)
    for seed in range(20):
        result = warps.elastic(image, np.random.default_rng(seed).normal(0, 12, (2, 3, 3)))
        assert result.min() >= image.min()
        assert result.max() <= image.max()


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_invert_and_solarize_equal_torchvision(dtype: str, channels: int) -> None:
    """Exact equality."""
    image = make_image(dtype, channels)
    assert np.array_equal(operations.invert(image), array(reference.invert(tensor(image))))
    for level in (0, 1, 100, 128, 200, 255):
        expected = reference.solarize(tensor(image), float(level) if dtype == "uint8" else level / 255)
        assert np.array_equal(operations.solarize(image, level / 255), array(expected))


def test_solarize_has_exact_thresholds() -> None:
    for dtype in (np.uint8, np.uint16):
        white = int(np.iinfo(dtype).max)
        ramp = np.arange(white + 1).astype(dtype).reshape(1, -1, 1)
        for level in range(0, white + 1, white // 255):
            expected = np.where(ramp >= level, white - ramp, ramp)
            assert np.array_equal(operations.solarize(ramp, level / white), expected)
        assert np.array_equal(operations.solarize(ramp, 0.5), np.minimum(ramp, white - ramp))
        assert np.array_equal(operations.invert(ramp), white - ramp)


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_equals_torchvision(bits: int) -> None:
    """Exact for uint8, within 1e-6 for float32."""
    image = make_image("uint8", 3)
    image[0, 0] = 255
    assert np.array_equal(operations.posterize(image, bits), array(reference.posterize(tensor(image), bits)))
    image = make_image("float32", 5)
    image[0, 0] = 1.0
    assert difference(operations.posterize(image, bits), array(reference.posterize(tensor(image), bits))) < 1e-6
    image = make_image("uint16", 1)
    assert np.array_equal(operations.posterize(image, bits), image >> (16 - bits) << (16 - bits))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(15, 16), (16, 16), (40, 50), (224, 224)])
def test_equalize_equals_torchvision(size: tuple[int, int], channels: int) -> None:
    """Exact for uint8; the same image in other dtypes within 1e-5 of white."""
    images = [
        make_image("uint8", channels, *size, sigma=2.0),
        make_image("uint8", channels, *size) // 7,
        make_image("uint8", channels, *size) // 128 * 200,
        np.full((*size, channels), 77, np.uint8),
    ]
    for image in images:
        result = operations.equalize(image)
        assert np.array_equal(result, array(reference.equalize(tensor(image))))
        assert difference(operations.equalize((image / 255).astype(np.float32)), result / 255) < 1e-5
        assert difference(operations.equalize(image.astype(np.uint16) * 257), result * 257.0) <= 1


def test_equalize_gives_a_nearly_uniform_histogram() -> None:
    image = make_image("float32", 2, 200, 200, sigma=1.0)
    for dtype, white in (("float32", 1.0), ("uint16", 65535.0)):
        given = image if dtype == "float32" else np.rint(image * white).astype(np.uint16)
        result = np.sort(operations.equalize(given) / white, axis=None)
        assert np.abs(result - np.linspace(0, 1, result.size)).max() < 0.02
        order = np.argsort(given[:, :, 0], axis=None)
        assert (np.diff(operations.equalize(given)[:, :, 0].astype(np.float64).ravel()[order]) >= 0).all()


def test_equalize_interpolates_between_levels() -> None:
    """Within 1e-5 of white for float32, and within 1 of 65535 levels for uint16."""
    image = make_image("float32", 1, 200, 200)
    eight = np.rint(image * 255).astype(np.uint8)
    levels, places = np.unique(eight, return_index=True)
    expected = np.interp(image * 255.0, levels, operations.equalize(eight).ravel()[places])
    inside = (eight > levels[0]) & (eight < levels[-1])
    assert len(levels) == levels[-1] - levels[0] + 1
    assert difference(operations.equalize(image)[inside], expected[inside] / 255) < 1e-5
    deep = np.rint(image * 65535).astype(np.uint16)
    exact = operations.equalize((deep / 65535).astype(np.float32)) * 65535.0
    assert difference(operations.equalize(deep), exact) <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_equals_torchvision(channels: int) -> None:
    """uint8: within 1 level (torchvision truncates); float32: within 1e-6; uint16: within 1 of 65535 levels."""
    image = make_image("uint8", channels, sigma=2.0)
    image[:, :, -1] = 40 + image[:, :, -1] // 3
    assert difference(operations.autocontrast(image), array(reference.autocontrast(tensor(image)))) <= 1
    image = make_image("float32", channels)
    image[:, :, -1] = 0.3 + image[:, :, -1] / 3
    assert difference(operations.autocontrast(image), array(reference.autocontrast(tensor(image)))) < 1e-6
    image = make_image("uint16", channels)
    image[:, :, -1] = 64000 + image[:, :, -1] // 1000
    low, high = (bound(axis=(0, 1)).astype(np.float64) for bound in (image.min, image.max))
    assert difference(operations.autocontrast(image), (image - low) / (high - low) * 65535) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_autocontrast_uses_the_full_range_and_preserves_constant_channels(dtype: str) -> None:
    image = make_image(dtype, 5)
    image[:, :, 2] = image[0, 0, 2]
    result = operations.autocontrast(image)
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    assert np.array_equal(result[:, :, 2], image[:, :, 2])
    assert result.min(axis=(0, 1))[[0, 1, 3, 4]].tolist() == [0] * 4
    assert result.max(axis=(0, 1))[[0, 1, 3, 4]].tolist() == [white] * 4
    tiny = np.zeros((2, 2, 1), np.float32)
    tiny[0, 0] = 1e-44
    assert operations.autocontrast(tiny).max() == 1.0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0, 1.9])
def test_sharpness_equals_torchvision(factor: float, channels: int) -> None:
    """uint8: within 1 level (torchvision rounds twice); float32: within 1e-5; the border is unchanged."""
    image = make_image("uint8", channels, sigma=0.5)
    expected = array(reference.adjust_sharpness(tensor(image), factor))
    assert difference(operations.sharpness(image, factor), expected) <= 1
    image = make_image("float32", channels)
    expected = array(reference.adjust_sharpness(tensor(image), factor))
    assert difference(operations.sharpness(image, factor), expected) < 1e-5
    image = make_image("uint16", channels)
    expected = array(reference.adjust_sharpness(tensor(image / 65535), factor)) * 65535
    assert difference(operations.sharpness(image, factor), expected) <= 1
    result = operations.sharpness(image, factor)
    for edge in (0, -1):
        assert np.array_equal(result[edge], image[edge])
        assert np.array_equal(result[:, edge], image[:, edge])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.4])
def test_gamma_equals_torchvision(exponent: float, channels: int) -> None:
    """uint8: within 1 level (torchvision truncates), half a level of the formula; float32: within 1e-5."""
    image = make_image("uint8", channels)
    assert difference(operations.gamma(image, exponent), array(reference.adjust_gamma(tensor(image), exponent))) <= 1
    assert difference(operations.gamma(image, exponent), 255 * (image / 255) ** exponent) <= 0.5001
    image = make_image("float32", channels)
    assert difference(operations.gamma(image, exponent), array(reference.adjust_gamma(tensor(image), exponent))) < 1e-5
    image = make_image("uint16", channels)
    assert difference(operations.gamma(image, exponent), 65535 * (image / 65535) ** exponent) <= 0.6


@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_with_one_exponent_per_channel(dtype: str) -> None:
    image, exponents = make_image(dtype, 5), [0.7, 0.9, 1.0, 1.2, 1.4]
    result = operations.gamma(image, exponents)
    for channel, exponent in enumerate(exponents):
        alone = operations.gamma(image[:, :, channel : channel + 1], exponent)
        assert difference(result[:, :, channel : channel + 1], alone) <= (1e-6 if dtype == "float32" else 0)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_erase_equals_torchvision(dtype: str) -> None:
    """Exact equality."""
    image = make_image(dtype, 3)
    fill = [3, 200, 90] if dtype == "uint8" else [0.1, 0.5, 1.0]
    value = torch.tensor(fill, dtype=tensor(image).dtype)[:, None, None]
    expected = array(reference.erase(tensor(image), 4, 7, 10, 20, value))
    assert np.array_equal(operations.erase(image, 4, 7, 10, 20, fill), expected)
    result = operations.erase(image, 35, 50, 100, 100, 0)
    assert not result[35:, 50:].any()
    assert np.array_equal(result[:35], image[:35])
