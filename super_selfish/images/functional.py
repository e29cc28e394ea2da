"""Operations on one image: pure functions from an H×W×C array to an H×W×C array of the same dtype.

Images are uint8 in [0, 255], uint16 in [0, 65535] or float32 in [0, 1], with any number of channels. This module has
the geometric operations and those that require OpenCV; no other module imports OpenCV. Operations composed of these
are in ``colour`` and ``operations``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from super_selfish.images.rectangles import block, center_crop

Image = npt.NDArray[Any]
OPENCV = str(cv2.__version__)

_MANY = 96 * 96  # pixels from which an algorithm of thirty calls is the faster one
_PEAKS = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0, np.dtype(np.float32): 1.0}

cv2.setNumThreads(0)  # one image is too little work to parallelise; workers and prefetching threads run in parallel


def _with_channels(image: Image) -> Image:
    return image[:, :, None] if image.ndim == 2 else image  # OpenCV drops the axis of a single channel


def _groups_of_four(image: Image) -> list[Image]:
    return [np.ascontiguousarray(image[:, :, first : first + 4]) for first in range(0, image.shape[2], 4)]


def resize(image: Image, height: int, width: int) -> Image:
    """Resize to ``height`` × ``width``: area interpolation for downscaling, bilinear for upscaling."""
    if image.shape[:2] == (height, width):
        return image
    shrinking = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    groups = [image] if image.shape[2] <= 4 else _groups_of_four(image)  # INTER_AREA supports up to four channels
    resized = [_with_channels(cv2.resize(group, (width, height), interpolation=method)) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)


def fit(image: Image, height: int, width: int) -> Image:
    """Resize to the smallest size that covers ``height`` × ``width`` at the same aspect ratio; crop the centre."""
    if image.shape[:2] == (height, width):
        return image
    scale = max(height / image.shape[0], width / image.shape[1])
    covering = (max(height, round(image.shape[0] * scale)), max(width, round(image.shape[1] * scale)))
    return center_crop(resize(image, *covering), height, width)


def resample(image: Image, size: tuple[int, ...], cubic: bool = False) -> Image:
    """Resize an image, which may be a crop: pixels outside of it are not used.

    Args:
        image: H×W×C.
        size: Height and width of the result.
        cubic: Use bicubic interpolation (a = -0.75) instead of bilinear. An axis that is at least twice as long as in
            the result is first averaged over whole blocks of pixels.
    """
    height, width, channels = image.shape
    if height >= 2 * size[0] or width >= 2 * size[1]:  # averaging whole pixels is several times faster than fractions
        down, across = block(height, size[0]), block(width, size[1])
        rows, columns = height % down, width % across  # the remainder, half of it removed on each side
        image = image[rows // 2 : rows // 2 + height - rows, columns // 2 : columns // 2 + width - columns]
        image = resize(image, height // down, width // across)
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    method = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    if channels == 3:
        return bounded(cv2.resize(image, size[::-1], interpolation=method), cubic)
    groups = [image] if channels <= 4 else _groups_of_four(image)
    resized = [_with_channels(cv2.resize(group, size[::-1], interpolation=method)) for group in groups]
    return bounded(resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2), cubic)


def bounded(image: Image, overshoots: bool = True) -> Image:
    """Clip float images to [0, 1] after an operation that can overshoot; OpenCV saturates integers."""
    return np.clip(image, 0.0, 1.0, out=image) if overshoots and image.dtype == np.float32 else image


def peak(image: Image) -> float:
    """Return the value of white: 255, 65535 or 1."""
    return _PEAKS[image.dtype]


def flip(image: Image) -> Image:
    """Flip horizontally."""
    return _with_channels(cv2.flip(image, 1))


def quarter_turns(image: Image, count: int) -> Image:
    """Rotate counter-clockwise by ``count`` × 90°, with ``count`` from 0 to 3."""
    if count == 0 or image.shape[2] > 4:
        return np.rot90(image, count)
    codes = cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE  # ten times as fast as NumPy
    return _with_channels(cv2.rotate(image, codes[count - 1]))


def repeated(values: Image, channels: int) -> Image:
    """Repeat values (H, W) along a new last axis of ``channels`` channels."""
    return _with_channels(cv2.merge([values] * channels))


def warp(image: Image, matrix: npt.NDArray[Any], size: tuple[int, int]) -> Image:
    """Apply an affine transform with bilinear interpolation and reflection padding.

    Args:
        image: H×W×C.
        matrix: 2×3; maps (x, y) of the result to (x, y) in the image, in px from the centre of the first pixel.
        size: Height and width of the result.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = [
        _with_channels(cv2.warpAffine(group, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101))
        for group in ([image] if image.shape[2] <= 4 else _groups_of_four(image))  # OpenCV warps up to four channels
    ]
    return warped[0] if len(warped) == 1 else np.concatenate(warped, axis=2)


def remap(image: Image, x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> Image:
    """Sample the image at positions (x, y), with bilinear interpolation and reflection padding.

    Args:
        image: H×W×C.
        x: Column positions (height, width) in px from the centre of the first pixel.
        y: Row positions; must not be the same array as ``x``, for which OpenCV 5.0.0 returns wrong results.
    """
    moved = [
        _with_channels(cv2.remap(group, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))
        for group in ([image] if image.shape[2] <= 4 else _groups_of_four(image))
    ]
    return moved[0] if len(moved) == 1 else np.concatenate(moved, axis=2)


def blur(image: Image, sigma: float, size: int | None = None) -> Image:
    """Apply a Gaussian blur with reflection padding.

    Args:
        image: H×W×C.
        sigma: Standard deviation in px, positive.
        size: Kernel size, odd. None: the kernel covers ±2.5 standard deviations, which is 0.988 of the weight.
    """
    taps = 2 * math.ceil(2.5 * sigma) + 1 if size is None else size
    kernel = _gaussian(taps, sigma)
    return _with_channels(cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101))


@lru_cache(maxsize=512)
def _gaussian(taps: int, sigma: float) -> Image:
    return cv2.getGaussianKernel(taps, sigma, cv2.CV_32F)


def convolve(image: Image, kernel: npt.NDArray[np.float32]) -> Image:
    """Correlate each channel with a small kernel of odd size, with reflection padding."""
    return bounded(_with_channels(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)))


def mix_channels(image: Image, matrix: npt.NDArray[np.float32], saturating: bool = True) -> Image:
    """Multiply the channels of each pixel by a matrix.

    Args:
        image: H×W×C with at most 4 channels.
        matrix: C×(C+1); the last column is an offset, on the scale of the image.
        saturating: Clip float images to [0, 1]; integers always saturate.
    """
    return bounded(_with_channels(cv2.transform(image, matrix)), saturating)


def power(image: Image, exponent: float) -> Image:
    """Raise each value of a non-negative float image to a power."""
    return _with_channels(cv2.pow(image, exponent))


def scale_and_add(image: Image, gain: float, offset: float) -> Image:
    """Compute ``gain * image + offset``, saturating, for any number of channels."""
    return bounded(_with_channels(cv2.addWeighted(image, gain, image, 0.0, offset)))


def channel_means(image: Image) -> tuple[float, ...]:
    """Return the mean of each channel."""
    if image.shape[2] <= 4:
        return tuple(cv2.mean(image)[: image.shape[2]])
    return tuple(image.mean(axis=(0, 1), dtype=np.float64).tolist())


def channel_moments(image: Image) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the mean and standard deviation of each channel."""
    mean, deviation = cv2.meanStdDev(image)
    return mean[:, 0], deviation[:, 0]


def turn_hue(image: Image, turns: float) -> Image:
    """Shift the hue of an RGB image in HSV.

    Args:
        image: H×W×3.
        turns: Shift in turns of the hue circle, in [-0.5, 0.5]; rounded to 1/256 for 8-bit images below 9216 px.
    """
    if image.dtype == np.uint8:
        if image.shape[0] * image.shape[1] >= _MANY:
            return _turned(image, turns)
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        values = hsv.reshape(-1)
        values += _hue_step(round(turns * 256) & 255)[: values.size]  # overflow wraps around, like the hue circle
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    top = np.float32(peak(image))
    hsv = cv2.cvtColor(image if image.dtype == np.float32 else image / top, cv2.COLOR_RGB2HSV)
    hue = hsv[:, :, 0]
    np.mod(hue + np.float32(360.0 * turns), np.float32(360.0), out=hue)
    turned = bounded(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    return turned if image.dtype == np.float32 else np.rint(turned * top).astype(image.dtype)


def _turned(image: Image, turns: float) -> Image:
    """Shift the hue of a uint8 image without HSV: twice as fast as the conversion, and exact to half a level.

    The maximum and minimum of each pixel do not change. Over the hue circle, each channel is high for a third, falls
    for a sixth, is low for a third, and rises for a sixth. The neighbouring channel determines where it starts to fall
    or rise; the change is the turn times the chroma. A third of a turn permutes channels, half a turn inverts values.
    """
    sixths = round(6.0 * turns)
    rest = 6.0 * turns - sixths
    planes = list(np.empty((3, *image.shape[:2]), np.uint8))
    cv2.split(image, planes)
    high = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    low = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    way = cv2.convertScaleAbs(high - low, alpha=abs(rest))
    nearly_high, nearly_low = high - way, np.add(low, way, out=way)
    turned = []
    for channel, plane in enumerate(planes):
        neighbour = planes[(channel + 1) % 3 if rest > 0 else channel - 1]
        moved = cv2.subtract(plane, cv2.subtract(neighbour, nearly_high))  # saturates: only the part above nearly_high
        cv2.add(moved, cv2.subtract(nearly_low, neighbour), moved)
        np.maximum(moved, low, out=moved)
        turned.append(np.minimum(moved, high, out=moved))
    if sixths % 2:
        turned = [np.subtract(high, np.subtract(plane, low, out=plane), out=plane) for plane in turned]
        sixths += 3
    thirds = sixths // 2 % 3
    return _with_channels(cv2.merge(turned[3 - thirds :] + turned[: 3 - thirds]))


@lru_cache(maxsize=256)
def _hue_step(step: int) -> Image:
    """Return the offsets added to HSV pixels; a contiguous addition is several times faster than a strided one."""
    block = np.zeros(3 * _MANY, np.uint8)
    block[::3] = step
    block.flags.writeable = False
    return block


def look_up(image: Image, table: Image) -> Image:
    """Apply a lookup table to each value of a uint8 image.

    Args:
        image: H×W×C of uint8.
        table: (256,) for all channels, or (256, C) with one column per channel.
    """
    if table.ndim == 2 and image.shape[2] != 1:
        table = table.reshape(256, 1, -1)
    return _with_channels(cv2.LUT(image, table))


def decode(data: bytes, colour: bool, reduction: int = 1, alpha: bool = False) -> Image | None:
    """Decode a file in memory to uint8 or uint16, as stored; the EXIF orientation is not applied.

    Args:
        data: Content of the file.
        colour: Whether to return RGB instead of grey.
        reduction: 1, 2, 4 or 8; JPEG files are decoded at 1/``reduction`` of their size, rounded up.
        alpha: Keep transparency as the last channel instead of dropping it.

    Returns:
        H×W×C, or None if OpenCV cannot decode it.
    """
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION | colour
    flags |= 8 * reduction if reduction > 1 else 0  # the values of OpenCV's IMREAD_REDUCED flags
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if alpha else flags)
    if image is None or (alpha and image.ndim + image.shape[-1] != 7):  # H×W×4, also for grey with alpha
        return None
    if alpha:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA) if colour else np.ascontiguousarray(image[:, :, 2:])
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if colour else _with_channels(image)


def histogram(image: Image) -> npt.NDArray[np.int64]:
    """Compute the histogram of each channel with 256 equally spaced levels from black to white: (C, 256)."""
    white = peak(image)
    ends = [-white / 510, white + white / 510]  # half a level beyond black and white: levels are the centres of bins
    row = [np.ascontiguousarray(image).reshape(1, -1, image.shape[2])]
    counts = np.empty((image.shape[2], 256), np.float32)
    for channel, bins in enumerate(counts):
        cv2.calcHist(row, [channel], None, [256], ends, bins)
    return counts.astype(np.int64)
