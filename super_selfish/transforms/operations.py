"""Pixel-wise operations for augmentation: the AutoAugment operations, gamma correction and erasing.

Each operation is a pure function of an H×W×C array that returns an array of the same shape and dtype. Images are uint8
in [0, 255], uint16 in [0, 65535] or float32 in [0, 1], with any number of channels. Parameter ranges are documented
here and validated once, by the transforms. Geometric operations are in ``warps``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.rectangles import random_rectangle
from super_selfish.seeding import KeyedGenerator

_SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / np.float32(13)
_LEVELS = np.arange(256, dtype=np.int32)
_LOGARITHMS = np.concatenate([[-np.inf], np.log(_LEVELS[1:] / 255)])


def invert(image: Image) -> Image:
    """Invert an image: map each value x to white - x.

    Examples:
        >>> invert(np.array([[[0, 100]]], np.uint8)).ravel().tolist()
        [255, 155]
    """
    return 1.0 - image if image.dtype == np.float32 else ~image


def solarize(image: Image, threshold: float) -> Image:
    """Invert all values at or above a threshold.

    Args:
        image: H×W×C array.
        threshold: Threshold as a fraction of white, in [0, 1].

    Examples:
        >>> solarize(np.array([[[100, 127, 128, 255]]], np.uint8), 0.5).ravel().tolist()
        [100, 127, 127, 0]
    """
    if image.dtype == np.float32:
        inverted: Image = (image >= np.float32(threshold)) - image
        return np.abs(inverted, out=inverted)
    white = functional.peak(image)
    level = math.ceil(threshold * white - 1e-6)  # 128 / 255 has to give 128
    bright = image >= level
    if image.dtype == np.uint8:  # three times as fast as a lookup table
        mask: Image = np.negative(bright.view(np.uint8))
    else:
        mask = bright * image.dtype.type(white)
    mask ^= image
    return mask


def posterize(image: Image, bits: int) -> Image:
    """Reduce the number of bits of each value.

    Args:
        image: H×W×C array. Values of float images are rounded down to multiples of 1 / 2**bits, and 1.0 to the largest
            multiple below 1.
        bits: Number of most significant bits to keep, from 1 to 8.

    Examples:
        >>> posterize(np.array([[[100, 255]]], np.uint8), 2).ravel().tolist()
        [64, 192]
    """
    levels = 1 << bits
    if image.dtype != np.float32:
        masked: Image = image & image.dtype.type((levels - 1) << (8 * image.itemsize - bits))
        return masked
    kept: Image = image * np.float32(levels)
    np.floor(kept, out=kept)
    np.minimum(kept, np.float32(levels - 1), out=kept)
    kept *= np.float32(1 / levels)
    return kept


def equalize(image: Image) -> Image:
    """Equalize the histogram of each channel.

    For uint8 images the result equals that of PIL and torchvision. For other dtypes, the same lookup table is computed
    from a histogram of 256 levels and interpolated linearly. An 8-bit image therefore gives the same result in every
    dtype.

    Examples:
        >>> equalize(np.repeat(np.arange(100, 104, dtype=np.uint8), 255).reshape(1, -1, 1))[0, ::255, 0].tolist()
        [0, 85, 170, 255]
    """
    counts = functional.histogram(image).astype(np.int32)
    below = counts.cumsum(axis=1, dtype=np.int32)
    below -= counts
    pixels = image.shape[0] * image.shape[1]
    lower = [int(row[row.searchsorted(pixels) - 1]) for row in below]  # PIL excludes the highest occupied level
    step = np.array(lower, np.int32)[:, None] // 255
    below += step >> 1
    curve = np.minimum(below // np.maximum(step, 1), 255)
    if not step.all():
        # as in PIL, channels with too few pixels or a single level are unchanged
        curve = np.where(step > 0, curve, _LEVELS)
    if image.dtype == np.uint8:
        return functional.look_up(image, curve.T.astype(np.uint8))
    return _apply_curve(image, curve)


def _apply_curve(image: Image, curve: npt.NDArray[np.int32]) -> Image:
    """Apply a lookup table per channel, (C, 256) in [0, 255], with linear interpolation."""
    to_white = functional.peak(image) / 255
    values = (curve * to_white).astype(np.float32)
    slopes = np.diff(values, axis=1, append=values[:, -1:])
    result = np.empty(image.shape, image.dtype)
    for channel in range(image.shape[2]):
        position = image[:, :, channel] * np.float32(1 / to_white)
        level = position.astype(np.intp)
        position -= level
        position *= slopes[channel].take(level)
        position += values[channel].take(level)
        result[:, :, channel] = position if image.dtype == np.float32 else np.rint(position)
    return result


def autocontrast(image: Image) -> Image:
    """Stretch each channel so that its minimum becomes black and its maximum white. Constant channels are unchanged.

    Examples:
        >>> autocontrast(np.array([[[100], [150], [200]]], np.uint8)).ravel().tolist()
        [0, 128, 255]
    """
    columns = image.reshape(image.shape[0], -1)  # reductions over a short channel axis are slow
    low, high = (bound(axis=0).reshape(image.shape[1:]) for bound in (columns.min, columns.max))
    low, high = low.min(axis=0), high.max(axis=0)
    constant = high == low
    low[constant] = 0
    unit = np.where(constant, 1.0, (high - low) / functional.peak(image)).astype(np.float32)
    if image.dtype == np.uint8:
        table = (_LEVELS[:, None] - low).astype(np.float32)
        table /= unit
        np.clip(np.rint(table, out=table), 0, 255, out=table)
        return functional.look_up(image, table.astype(np.uint8))
    stretched: Image = (columns - np.tile(low, image.shape[1])).astype(np.float32, copy=False)
    stretched /= np.tile(unit, image.shape[1])
    if image.dtype != np.float32:
        stretched = np.rint(stretched, out=stretched).astype(image.dtype)
    return stretched.reshape(image.shape)


def sharpness(image: Image, factor: float) -> Image:
    """Blend an image with a smoothed copy of itself. Border pixels are unchanged.

    Args:
        image: H×W×C array.
        factor: Sharpness, at least 0. 0 gives the smoothed image (3×3 mean with a centre weight of 5), 1 the original
            image, and larger values a sharper image.

    Examples:
        >>> dot = np.zeros((3, 3, 1), np.uint8); dot[1, 1] = 130
        >>> sharpness(dot, 0.0)[1, 1].tolist(), sharpness(dot, 2.0)[1, 1].tolist()
        ([50], [210])
    """
    kernel = np.multiply(_SMOOTHING, 1.0 - factor, dtype=np.float32)
    kernel[1, 1] += factor
    sharpened = functional.convolve(image, kernel)
    for edge in (0, -1):
        sharpened[edge] = image[edge]
        sharpened[:, edge] = image[:, edge]
    return sharpened


def gamma(image: Image, exponent: float | Sequence[float]) -> Image:
    """Apply gamma correction: raise the values, scaled to [0, 1], to a power.

    Args:
        image: H×W×C array.
        exponent: Positive exponent, or one per channel. Exponents below 1 brighten the image.

    Examples:
        >>> gamma(np.array([[[64, 64]]], np.uint8), (1.0, 0.5)).ravel().tolist()
        [64, 128]
    """
    if image.dtype == np.uint8:
        logarithms = _LOGARITHMS if np.ndim(exponent) == 0 else _LOGARITHMS[:, None]
        table = np.exp(logarithms * exponent)  # twice as fast as np.power
        table *= 255
        return functional.look_up(image, np.rint(table, out=table).astype(np.uint8))
    powers = np.asarray(exponent, np.float32)
    if image.dtype == np.float32:
        return np.power(image, powers)
    white = np.float32(functional.peak(image))
    values = np.power(image / white, powers)
    values *= white
    return np.rint(values, out=values).astype(image.dtype)


def erase(image: Image, top: int, left: int, height: int, width: int, value: float | Sequence[float]) -> Image:
    """Fill a rectangle with a value. The part of the rectangle outside the image is ignored.

    Args:
        image: H×W×C array.
        top: First row, at least 0.
        left: First column, at least 0.
        height: Height in px.
        width: Width in px.
        value: Fill value on the scale of the image (white is 255, 65535 or 1), or one per channel.

    Examples:
        >>> erase(np.ones((2, 3, 1), np.uint8), top=0, left=1, height=1, width=5, value=9)[:, :, 0].tolist()
        [[1, 9, 9], [1, 1, 1]]
    """
    erased = image.copy()
    erased[top : top + height, left : left + width] = value
    return erased


def crop_and_flip(image: Image, generator: KeyedGenerator, scale: tuple[float, float] | None, flip: float) -> Image:
    """Return a random crop of an image at the size of the image, flipped at random.

    Args:
        image: H×W×C.
        generator: Random generator.
        scale: Smallest and largest area of the crop, as a fraction of the area of the image. Its aspect ratio is that
            of the image times a factor from 3/4 to 4/3, sampled log-uniformly. None: no crop.
        flip: Probability of a horizontal flip.
    """
    if scale is not None:
        height, width = image.shape[:2]
        ratio = (width / height * 3 / 4, width / height * 4 / 3)
        top, left, down, across = random_rectangle(generator, height, width, scale, ratio)
        image = functional.resample(image[top : top + down, left : left + across], (height, width))
    return functional.flip(image) if flip and generator.chance(flip) else image
