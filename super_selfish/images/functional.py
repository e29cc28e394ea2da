"""Operations on one image: pure functions from an H×W×C array to an H×W×C array of the same dtype.

Images are uint8 in [0, 255], uint16 in [0, 65535] or float32 in [0, 1], with any number of channels. Here stands the
geometry and what needs OpenCV; this is the one file that imports it. Operations that are made of these are in
``colour`` and ``operations``.
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

_MANY = 96 * 96  # pixels that are worth thirty calls
_PEAKS = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0, np.dtype(np.float32): 1.0}

cv2.setNumThreads(0)  # one image is too little work to share; workers and prefetching threads give the parallelism


def _with_channels(image: Image) -> Image:
    return image[:, :, None] if image.ndim == 2 else image  # OpenCV drops the axis of a single channel


def _groups_of_four(image: Image) -> list[Image]:
    return [np.ascontiguousarray(image[:, :, first : first + 4]) for first in range(0, image.shape[2], 4)]


def resize(image: Image, height: int, width: int) -> Image:
    """Resample to exactly ``height`` × ``width``: by area when shrinking, bilinearly when enlarging."""
    if image.shape[:2] == (height, width):
        return image
    shrinking = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    groups = [image] if image.shape[2] <= 4 else _groups_of_four(image)  # OpenCV averages areas of four at a time
    resized = [_with_channels(cv2.resize(group, (width, height), interpolation=method)) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)


def fit(image: Image, height: int, width: int) -> Image:
    """Scale until the image covers ``height`` × ``width`` with nothing to spare on one side, then crop the middle."""
    if image.shape[:2] == (height, width):
        return image
    scale = max(height / image.shape[0], width / image.shape[1])
    covering = (max(height, round(image.shape[0] * scale)), max(width, round(image.shape[1] * scale)))
    return center_crop(resize(image, *covering), height, width)


def resample(image: Image, size: tuple[int, ...], cubic: bool = False) -> Image:
    """Bring an image to a size, as if there was nothing around it.

    Args:
        image: H×W×C.
        size: Height and width of the result.
        cubic: Interpolate bicubically (a = -0.75) instead of bilinearly. An axis that is at least twice as long as in
            the result is first averaged over whole blocks of pixels.
    """
    height, width, channels = image.shape
    if height >= 2 * size[0] or width >= 2 * size[1]:  # whole blocks are several times faster than parts of pixels
        down, across = block(height, size[0]), block(width, size[1])
        rows, columns = height % down, width % across  # a pixel or two, half of them on each side
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
    """Float images clipped to [0, 1] after an operation that overshoots; integers saturate by themselves."""
    return np.clip(image, 0.0, 1.0, out=image) if overshoots and image.dtype == np.float32 else image


def peak(image: Image) -> float:
    """What white is: 255, 65535 or 1."""
    return _PEAKS[image.dtype]


def flip(image: Image) -> Image:
    """Mirror left and right."""
    return _with_channels(cv2.flip(image, 1))


def quarter_turns(image: Image, count: int) -> Image:
    """Turn counter-clockwise by right angles: 0 to 3 of them."""
    if count == 0 or image.shape[2] > 4:
        return np.rot90(image, count)
    codes = cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE  # a tenth of the time of numpy
    return _with_channels(cv2.rotate(image, codes[count - 1]))


def repeated(values: Image, channels: int) -> Image:
    """The same values (H, W) in each of so many channels."""
    return _with_channels(cv2.merge([values] * channels))


def warp(image: Image, matrix: npt.NDArray[Any], size: tuple[int, int]) -> Image:
    """An affine map, bilinear, with the image reflected at its border.

    Args:
        image: H×W×C.
        matrix: 2×3; takes (x, y) of the result to (x, y) in the image, in px from the centre of the first pixel.
        size: Height and width of the result.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = [
        _with_channels(cv2.warpAffine(group, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101))
        for group in ([image] if image.shape[2] <= 4 else _groups_of_four(image))  # OpenCV warps four at a time
    ]
    return warped[0] if len(warped) == 1 else np.concatenate(warped, axis=2)


def remap(image: Image, x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> Image:
    """Take each pixel of the result from (x, y) in the image, bilinearly, with the image reflected at its border.

    Args:
        image: H×W×C.
        x: Columns (height, width) in px from the centre of the first pixel.
        y: Rows likewise, in an array of its own: OpenCV 5.0.0 gives rubbish if one array is both.
    """
    moved = [
        _with_channels(cv2.remap(group, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))
        for group in ([image] if image.shape[2] <= 4 else _groups_of_four(image))
    ]
    return moved[0] if len(moved) == 1 else np.concatenate(moved, axis=2)


def blur(image: Image, sigma: float, size: int | None = None) -> Image:
    """Gaussian blur, with the image reflected at its border.

    Args:
        image: H×W×C.
        sigma: Standard deviation in px, positive.
        size: Taps of the kernel, odd; None: as many as reach 2.5 standard deviations, which hold 0.988 of the weight.
    """
    taps = 2 * math.ceil(2.5 * sigma) + 1 if size is None else size
    kernel = _gaussian(taps, sigma)
    return _with_channels(cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101))


@lru_cache(maxsize=512)
def _gaussian(taps: int, sigma: float) -> Image:
    return cv2.getGaussianKernel(taps, sigma, cv2.CV_32F)


def convolve(image: Image, kernel: npt.NDArray[np.float32]) -> Image:
    """Correlate each channel with a small kernel of odd sides, with the image reflected at its border."""
    return bounded(_with_channels(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)))


def mix_channels(image: Image, matrix: npt.NDArray[np.float32], saturating: bool = True) -> Image:
    """Each pixel's channels times a matrix.

    Args:
        image: H×W×C with at most 4 channels.
        matrix: C×(C+1); the last column is added, on the scale of the image.
        saturating: Clip what is no image any more; integers saturate in any case.
    """
    return bounded(_with_channels(cv2.transform(image, matrix)), saturating)


def power(image: Image, exponent: float) -> Image:
    """Each value of a float image, not negative, to a power."""
    return _with_channels(cv2.pow(image, exponent))


def scale_and_add(image: Image, gain: float, offset: float) -> Image:
    """``gain * image + offset``, saturating; for any number of channels."""
    return bounded(_with_channels(cv2.addWeighted(image, gain, image, 0.0, offset)))


def channel_means(image: Image) -> tuple[float, ...]:
    """The mean of each channel."""
    if image.shape[2] <= 4:
        return tuple(cv2.mean(image)[: image.shape[2]])
    return tuple(image.mean(axis=(0, 1), dtype=np.float64).tolist())


def channel_moments(image: Image) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Mean and standard deviation of each channel."""
    mean, deviation = cv2.meanStdDev(image)
    return mean[:, 0], deviation[:, 0]


def turn_hue(image: Image, turns: float) -> Image:
    """Shift the hue of an RGB image in HSV.

    Args:
        image: H×W×3.
        turns: Of the colour circle, in [-0.5, 0.5]. 8-bit images of fewer than 9216 px hold the circle in 256 steps.
    """
    if image.dtype == np.uint8:
        if image.shape[0] * image.shape[1] >= _MANY:
            return _turned(image, turns)
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        values = hsv.reshape(-1)
        values += _hue_step(round(turns * 256) & 255)[: values.size]  # wraps around, as the circle does
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    top = np.float32(peak(image))
    hsv = cv2.cvtColor(image if image.dtype == np.float32 else image / top, cv2.COLOR_RGB2HSV)
    hue = hsv[:, :, 0]
    np.mod(hue + np.float32(360.0 * turns), np.float32(360.0), out=hue)
    turned = bounded(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    return turned if image.dtype == np.float32 else np.rint(turned * top).astype(image.dtype)


def _turned(image: Image, turns: float) -> Image:
    """The hue of bytes, turned without hues: in half the time of HSV there and back, and to half a level.

    A pixel's highest and lowest value stay. Over the circle each channel is high for a third, falls for a sixth, is low
    for a third, and rises. Its neighbour tells when it begins to fall or to rise, and how far it goes is the turn times
    the chroma. Thirds of a turn exchange channels, half a turn mirrors the values.
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
        moved = cv2.subtract(plane, cv2.subtract(neighbour, nearly_high))  # saturating: nothing but what is beyond
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
    """What is added to pixels in HSV; to add it to all bytes is several times faster than to every third."""
    block = np.zeros(3 * _MANY, np.uint8)
    block[::3] = step
    block.flags.writeable = False
    return block


def look_up(image: Image, table: Image) -> Image:
    """Replace each value of a uint8 image by what a table says.

    Args:
        image: H×W×C of uint8.
        table: (256,) for all channels, or (256, C) with a column for each.
    """
    if table.ndim == 2 and image.shape[2] != 1:
        table = table.reshape(256, 1, -1)
    return _with_channels(cv2.LUT(image, table))


def decode(data: bytes, colour: bool, reduction: int = 1, alpha: bool = False) -> Image | None:
    """Decode a file in memory: RGB or grey, uint8 or uint16 as stored, without its orientation.

    Args:
        data: The content of the file.
        colour: Whether the image is to be RGB, else grey.
        reduction: 1, 2, 4 or 8: a JPEG is decoded at that fraction of its size, rounded up.
        alpha: Keep transparency as the last channel, instead of dropping it.

    Returns:
        H×W×C, or None if OpenCV cannot decode it.
    """
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION | colour
    flags |= 8 * reduction if reduction > 1 else 0  # as OpenCV numbers its IMREAD_REDUCED flags
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if alpha else flags)
    if image is None or (alpha and image.ndim + image.shape[-1] != 7):  # H×W×4, also of grey with alpha
        return None
    if alpha:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA) if colour else np.ascontiguousarray(image[:, :, 2:])
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if colour else _with_channels(image)


def histogram(image: Image) -> npt.NDArray[np.int64]:
    """How many pixels of each channel are nearest to each of 256 even levels from black to white: (C, 256)."""
    white = peak(image)
    ends = [-white / 510, white + white / 510]  # half a level beyond black and white, so that levels are bins' centres
    row = [np.ascontiguousarray(image).reshape(1, -1, image.shape[2])]
    counts = np.empty((image.shape[2], 256), np.float32)
    for channel, bins in enumerate(counts):
        cv2.calcHist(row, [channel], None, [256], ends, bins)
    return counts.astype(np.int64)
