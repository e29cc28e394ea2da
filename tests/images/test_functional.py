"""Geometry and the OpenCV primitives against torchvision, PIL, scipy and formulas in float64."""

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

from super_selfish.images import functional
from super_selfish.images.rectangles import block, center_crop
from super_selfish.pretext.rotation import inscribed_side
from super_selfish.transforms import warps

Image = npt.NDArray[Any]
DTYPES = ("uint8", "uint16", "float32")
TABLE = np.arange(256)[::-1].astype(np.uint8)


def crop_resize(
    image: Image, top: int, left: int, height: int, width: int, size: tuple[int, int], cubic: bool = False
) -> Image:
    return functional.resample(image[top : top + height, left : left + width], size, cubic)


OPERATIONS: dict[str, Callable[[Image], Image]] = {
    "shrink": lambda image: functional.resize(image, 20, 25),
    "enlarge": lambda image: functional.resize(image, 60, 70),
    "center_crop": lambda image: center_crop(image, 21, 30),
    "fit": lambda image: functional.fit(image, 30, 33),
    "crop_resize": lambda image: crop_resize(image, 3, 4, 15, 20, (32, 40)),
    "crop_resize_cubic": lambda image: crop_resize(image, 3, 4, 15, 20, (32, 40), cubic=True),
    "crop_resize_smaller": lambda image: crop_resize(image, 0, 1, 40, 50, (13, 12), cubic=True),
    "flip": functional.flip,
    "zoom": lambda image: warps.zoom(image, 2.5, 3.25, 17.5, 20.0, (32, 40)),
    "warp": lambda image: functional.warp(image, np.array([[0.9, 0.1, 2.0], [-0.2, 1.1, 1.0]]), (30, 31)),
    "remap": lambda image: functional.remap(image, *coordinates(12)),
    "blur": lambda image: functional.blur(image, 1.3),
    "convolve": lambda image: functional.convolve(image, np.full((3, 3), 1 / 9, np.float32)),
    "scale_and_add": lambda image: functional.scale_and_add(image, 1.5, 0.1 * functional.peak(image)),
    "rotate": lambda image: warps.rotate(center_crop(image, *[min(image.shape[:2])] * 2), 25.0),
}


def coordinates(seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    rows, columns = np.mgrid[:30, :40] + np.random.default_rng(seed).normal(0, 4, (2, 30, 40))
    return columns.astype(np.float32), rows.astype(np.float32)


def make_image(dtype: str, channels: int, height: int = 41, width: int = 56, sigma: float = 0.0) -> Image:
    image = np.random.default_rng(channels).random((height, width, channels))
    if sigma:
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="mirror")
    image = (image - image.min()) / (image.max() - image.min())
    return image.astype(np.float32) if dtype == "float32" else np.rint(image * np.iinfo(dtype).max).astype(dtype)


def make_photo(side: int) -> Image:
    """Three channels of noise whose amplitudes fall with 1 / frequency, as those of photos do."""
    noise = np.random.default_rng(0).normal(size=(side, side, 3))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    spectrum = np.fft.fft2(noise, axes=(0, 1)) / np.maximum(frequency, 1 / side)[:, :, None]
    image = np.fft.ifft2(spectrum, axes=(0, 1)).real
    return np.rint((127.5 + 50 * image / image.std()).clip(0, 255)).astype(np.uint8)


def white(dtype: str) -> float:
    return 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)


def tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def array(image: torch.Tensor) -> Image:
    return image.numpy().transpose(1, 2, 0)


def difference(one: Image, other: Image) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_pure_for_any_channels_and_layout(name: str, dtype: str, channels: int) -> None:
    """Each channel comes out as if it was alone: to 1 level of 255 on a smooth image.

    OpenCV has several implementations; those of two channels, for one, round places to 1/32 px.
    """
    operation, image = OPERATIONS[name], make_image(dtype, channels, 82, sigma=3.0)
    for view in (image[::2], image[::-2, ::-1]):
        before = view.copy()
        result = operation(view)
        assert result.dtype == view.dtype
        assert result.ndim == 3
        assert result.shape[2] == channels
        assert np.array_equal(view, before), "the input was changed"
        assert np.array_equal(result, operation(before)), "the result depends on the memory layout"
        alone = np.concatenate([operation(before[:, :, channel : channel + 1]) for channel in range(channels)], axis=2)
        assert difference(result, alone) <= white(dtype) / 255
        assert result.min() >= 0
        assert result.max() <= white(dtype)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("box", [(3, 5, 20, 25), (0, 0, 41, 56), (10, 20, 31, 30), (7, 7, 1, 1)], ids=str)
def test_crop_resize_enlarges_as_torchvision(box: tuple[int, int, int, int], dtype: str, channels: int) -> None:
    """Bilinear and bicubic (a = -0.75, not antialiased) to 1 level of 255.

    torchvision is given floats, as its bicubic of uint8 is 20 levels off its own of floats.
    """
    image = make_image(dtype, channels)
    for cubic, mode, antialias in ((False, InterpolationMode.BILINEAR, True), (True, InterpolationMode.BICUBIC, False)):
        expected = reference.resized_crop(tensor(image).float(), *box, [64, 60], mode, antialias=antialias)
        result = crop_resize(image, *box, (64, 60), cubic)
        assert result.shape == (64, 60, channels)
        assert difference(result, array(expected).clip(0, white(dtype))) <= white(dtype) / 255


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("side", [40, 64, 90, 128, 150, 200])
def test_crop_resize_shrinks_nearly_as_torchvision(side: int, cubic: bool) -> None:
    """Mean difference at most 9.5 of 255 in noise with a photo's spectrum (deviation 40), correlation 0.95, no bias.

    torchvision weighs twice as many pixels as are averaged here. From a factor of 2.8 on, not to average would differ
    at least twice as much.
    """
    image = make_photo(200)
    mode = InterpolationMode.BICUBIC if cubic else InterpolationMode.BILINEAR
    expected, aliased = (
        array(reference.resized_crop(tensor(image), 0, 0, side, side, [32, 32], mode, antialias=antialias))
        for antialias in (True, False)
    )
    result = crop_resize(image, 0, 0, side, side, (32, 32), cubic)
    error = result - expected.astype(np.float64)
    assert np.abs(error).mean() <= 9.5
    assert abs(error.mean()) <= 0.5
    assert np.corrcoef(result.ravel(), expected.ravel())[0, 1] >= 0.95
    if side >= 90:
        assert np.abs(error).mean() <= 0.5 * np.abs(aliased - expected.astype(np.float64)).mean()


@pytest.mark.parametrize(
    ("height", "width", "side", "mean"),
    [(440, 444, 224, 2.5), (500, 300, 96, 2.6), (500, 120, 96, 1.4), (509, 505, 32, 4.5)],
)
def test_crop_resize_shrinks_a_photograph(height: int, width: int, side: int, mean: float) -> None:
    """Mean difference in levels from torchvision's antialiased result; also where one axis alone shrinks a lot."""
    from skimage.data import astronaut

    image = astronaut()
    result = crop_resize(image, 1, 2, height, width, (side, side))
    expected = reference.resized_crop(tensor(image), 1, 2, height, width, [side, side], antialias=True)
    assert np.abs(result.astype(float) - array(expected)).mean() <= mean


def test_blocks_leave_few_pixels_over() -> None:
    for length, size in ((509, 32), (505, 32), (1600, 224), (449, 224), (100, 99), (64, 32)):
        pixels = block(length, size)
        assert pixels <= max(1, length // size)
        assert length % pixels <= pixels // 4
        assert length // pixels >= size


def test_crop_resize_ignores_what_is_around() -> None:
    image = make_image("uint8", 3)
    other = 255 - image
    other[5:25, 7:33] = image[5:25, 7:33]
    for size in ((40, 50), (20, 26), (8, 9)):
        for cubic in (False, True):
            one = crop_resize(image, 5, 7, 20, 26, size, cubic)
            assert np.array_equal(one, crop_resize(other, 5, 7, 20, 26, size, cubic))
    assert np.array_equal(crop_resize(image, 5, 7, 20, 26, (20, 26)), image[5:25, 7:33])


@pytest.mark.parametrize("dtype", DTYPES)
def test_resize_by_area_is_the_mean_of_blocks(dtype: str) -> None:
    image = make_image(dtype, 5, 40, 60)
    expected = image.astype(np.float64).reshape(10, 4, 20, 3, 5).mean(axis=(1, 3))
    assert difference(functional.resize(image, 10, 20), expected) <= (1e-6 if dtype == "float32" else 0.5001)


@pytest.mark.parametrize("channels", [1, 3, 5, 13])
def test_flip_and_crops_move_pixels(channels: int) -> None:
    image = make_image("uint16", channels)
    assert np.array_equal(functional.flip(image), image[:, ::-1])
    assert np.array_equal(center_crop(image, 20, 31), image[10:30, 12:43])
    assert np.array_equal(center_crop(image, *[min(image.shape[:2])] * 2), image[:, 7:48])
    assert functional.fit(image, 10, 30).shape == (10, 30, channels)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("sigma", "size"), [(0.1, 3), (0.8, 5), (2.0, 23), (2.0, 11)])
def test_blur_is_torchvisions(sigma: float, size: int, dtype: str, channels: int) -> None:
    """To 1 level for uint8, to 1e-5 for float32."""
    image = make_image(dtype, channels)
    expected = array(reference.gaussian_blur(tensor(image), [size, size], [sigma, sigma]))
    assert difference(functional.blur(image, sigma, size), expected) <= (1 if dtype == "uint8" else 1e-5)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_blur_keeps_most_of_the_gaussian(sigma: float) -> None:
    """To 2 % of white against scipy, which reaches 8 standard deviations; uint16 to half a level of the formula."""
    image = make_image("float32", 1)
    expected = ndimage.gaussian_filter(image[:, :, 0].astype(np.float64), sigma, mode="mirror", truncate=8)
    assert difference(functional.blur(image, sigma)[:, :, 0], expected) < 0.02
    deep = np.rint(image * 65535).astype(np.uint16)
    of_floats = functional.blur((deep / 65535).astype(np.float32), sigma)
    assert difference(functional.blur(deep, sigma), of_floats * 65535.0) <= 1
    assert np.array_equal(functional.blur(np.full_like(deep, 65535), sigma), np.full_like(deep, 65535))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_remap_and_warp_are_scipys(dtype: str, channels: int) -> None:
    """To 1 level of 255 on smooth images; also far outside, where the image is reflected several times."""
    image = make_image(dtype, channels, sigma=3.0)
    x, y = coordinates(1)
    matrix = np.array([[1.1, 0.3, -5.0], [-0.2, 0.9, 60.0]])
    rows, columns = np.mgrid[:30, :40]
    warped_x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2]
    warped_y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
    for result, at_x, at_y in (
        (functional.remap(image, x, y), x, y),
        (functional.remap(image, x + 150, y - 200), x + 150, y - 200),
        (functional.warp(image, matrix, (30, 40)), warped_x, warped_y),
    ):
        expected = [
            ndimage.map_coordinates(image[:, :, channel].astype(np.float64), [at_y, at_x], order=1, mode="mirror")
            for channel in range(channels)
        ]
        assert difference(result, np.stack(expected, axis=2)) <= white(dtype) / 255


@pytest.mark.parametrize("angle", [0.0, 10.0, 45.0, 137.0, -80.0, 90.0, 270.0])
def test_rotate_is_torchvisions(angle: float) -> None:
    """To 1 level of 255 on smooth images, inside the circle that stays in the image."""
    image = make_image("uint8", 3, 61, 61, sigma=2.0)
    expected = array(reference.rotate(tensor(image), angle, InterpolationMode.BILINEAR))
    rows, columns = np.mgrid[-30:31, -30:31]
    inside = rows**2 + columns**2 < 28**2
    assert difference(warps.rotate(image, angle)[inside], expected[inside]) <= 1


def test_zoom_of_whole_pixels_is_crop_resize() -> None:
    """To 1 level, away from the rectangle's edge, beyond which zoom sees the image and crop_resize does not."""
    image = make_image("uint8", 3, sigma=1.0)
    zoomed = warps.zoom(image, 5, 8, 20, 24, (40, 48))
    cut = crop_resize(image, 5, 8, 20, 24, (40, 48))
    assert difference(zoomed[2:-2, 2:-2], cut[2:-2, 2:-2]) <= 1


@pytest.mark.parametrize("channels", [1, 3, 13])
def test_convolve_correlates(channels: int) -> None:
    """Against scipy: uint8 and uint16 to 1, float32 to 1e-6."""
    kernel = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    kernel /= kernel.sum()
    for dtype in DTYPES:
        image = make_image(dtype, channels)
        expected = ndimage.correlate(image.astype(np.float64), kernel[:, :, None].astype(np.float64), mode="mirror")
        assert difference(functional.convolve(image, kernel), expected) <= (1e-6 if dtype == "float32" else 1)
    spike = np.zeros((5, 5, channels), np.float32)
    spike[2, 2] = 1.0
    sharp = functional.convolve(spike, np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32))
    assert np.array_equal(sharp, spike), "overshoots are clipped"


@pytest.mark.parametrize("channels", [1, 3, 5, 13])
@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_and_add_saturates(dtype: str, channels: int) -> None:
    """To rounding: half a level for integers (0.51 for uint16), 1e-6 for floats."""
    image, peak = make_image(dtype, channels), white(dtype)
    for gain, offset in ((1.7, -0.2), (0.4, 0.5), (0.0, 0.3), (1.0, 0.0), (-1.0, 1.0)):
        expected = np.clip(gain * image.astype(np.float64) + offset * peak, 0, peak)
        result = functional.scale_and_add(image, gain, offset * peak)
        assert difference(result, expected) <= (1e-6 if dtype == "float32" else 0.51)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_mix_channels_is_a_matrix_product(dtype: str, channels: int) -> None:
    """uint8 to 0.75 levels, as OpenCV's weights are 10-bit; uint16 to 1; float32 to 1e-6."""
    image, peak = make_image(dtype, channels), white(dtype)
    matrix = np.random.default_rng(1).normal(0, 0.6, (channels, channels + 1)).astype(np.float32)
    matrix[:, -1] *= peak
    expected = np.clip(image @ matrix[:, :-1].astype(np.float64).T + matrix[:, -1], 0, peak)
    tolerance = {"uint8": 0.75, "uint16": 1.0, "float32": 1e-6}[dtype]
    assert difference(functional.mix_channels(image, matrix), expected) <= tolerance


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 13])
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics(dtype: str, channels: int) -> None:
    image = make_image(dtype, channels)
    expected = image.astype(np.float64).mean(axis=(0, 1))
    assert functional.channel_means(image) == pytest.approx(expected.tolist(), rel=1e-9)
    if dtype == "float32":
        image = np.rint(image * 255) / np.float32(255)
    levels = np.rint(image / white(dtype) * 255).astype(int)
    counts = functional.histogram(image)
    assert counts.shape == (channels, 256)
    assert counts.dtype == np.int64
    for channel in range(channels):
        assert np.array_equal(counts[channel], np.bincount(levels[:, :, channel].ravel(), minlength=256))


@pytest.mark.parametrize("channels", [1, 3, 5, 13])
def test_look_up_takes_one_table_or_one_for_each_channel(channels: int) -> None:
    image = make_image("uint8", channels)
    assert np.array_equal(functional.look_up(image, TABLE), 255 - image)
    tables = np.random.default_rng(0).integers(0, 256, (256, channels), np.uint8)
    expected = np.stack([tables[image[:, :, channel], channel] for channel in range(channels)], axis=2)
    assert np.array_equal(functional.look_up(image, tables), expected)


@pytest.mark.parametrize("angle", [0.0, 10.0, 30.0, 45.0, 60.0, 89.0, 90.0, 135.0, 200.0])
def test_inscribed_side_holds_only_original_pixels(angle: float) -> None:
    """The corners of the square, turned back, lie in the image; a square two px larger has some that do not."""
    for side in (41, 100):
        for change, holds in ((0, True), (2, False)):
            half = (inscribed_side(side, angle) + change) / 2
            radians = math.radians(angle)
            reach = half * (abs(math.cos(radians)) + abs(math.sin(radians)))
            assert (reach <= side / 2 + 1e-6) == holds
