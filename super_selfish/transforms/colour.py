"""Brightness, contrast, saturation, hue and greyscale, fused into as few passes over the pixels as possible.

Let ``grey`` be the luma of a pixel. Brightness, contrast, saturation, a shift, and any sequence of them have the form
``gain * x + mix * grey + offset``. Such a sequence is applied in one pass as one matrix. A hue step is not linear: it
starts a new pass if the preceding steps mix channels. Values are clipped after each pass, not after each step.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from super_selfish.errors import is_number
from super_selfish.images import functional
from super_selfish.images.functional import Image

BRIGHTNESS, CONTRAST, SATURATION, HUE, SHIFT = range(5)
"""Step types. Strengths are factors, except that of HUE (turns of the colour circle) and SHIFT (added value)."""

_MATRIX = struct.Struct("12f")

LUMA = (0.299, 0.587, 0.114)  # Rec. 601
_ORDERS = tuple(itertools.permutations(range(4)))
_PRINCIPAL = np.array([[2, 2, 2], [3, 0, -3], [1, -2, 1]], np.float32) / np.sqrt([[12], [18], [6]], dtype=np.float32)


def adjust(image: Image, steps: Sequence[tuple[int, float]]) -> Image:
    """Apply a sequence of colour adjustments.

    Args:
        image: H×W×C array of uint8, uint16 or float32. Saturation and hue are skipped unless C is 3.
        steps: Pairs (type, strength), applied in order: ``(BRIGHTNESS, factor)``, ``(CONTRAST, factor)`` and
            ``(SATURATION, factor)`` with factors of at least 0, ``(HUE, turns)`` with turns in [-0.5, 0.5], and
            ``(SHIFT, offset)``, which adds a fraction of the maximum value (white).

    Returns:
        The adjusted image. It may share memory with the input if the steps change nothing.

    Examples:
        >>> adjust(np.full((1, 1, 3), 100, np.uint8), [(BRIGHTNESS, 1.5), (SATURATION, 0.0)]).ravel().tolist()
        [150, 150, 150]
    """
    if not steps:
        return image
    coloured = image.shape[2] == 3
    row = adjusted = np.ascontiguousarray(image).reshape(1, -1, image.shape[2])  # one long row vectorises better
    gain, mix, offset = 1.0, 0.0, 0.0
    for kind, strength in steps:
        if kind == BRIGHTNESS:
            gain, mix, offset = gain * strength, mix * strength, offset * strength
        elif kind == CONTRAST:
            grey = (gain + mix) * mean_grey(adjusted) + offset
            gain, mix, offset = gain * strength, mix * strength, offset * strength + (1.0 - strength) * grey
        elif kind == SHIFT:
            offset += strength * functional.peak(image)
        elif kind == SATURATION and coloured:
            gain, mix = gain * strength, mix + (1.0 - strength) * gain
        elif kind == HUE and coloured and strength:
            if mix:  # a hue shift commutes with operations that are equal for all channels
                adjusted, gain, mix, offset = _linear(adjusted, gain, mix, offset), 1.0, 0.0, 0.0
            adjusted = functional.turn_hue(adjusted, strength)
    adjusted = _linear(adjusted, gain, mix, offset)
    return image if adjusted is row else adjusted.reshape(image.shape)


def jitter(strengths: Sequence[float], draws: Sequence[float], additive: bool = False) -> tuple[tuple[int, float], ...]:
    """Return the steps of a colour jitter for :func:`adjust`, in random order.

    Args:
        strengths: Strengths s of brightness, contrast and saturation (factors in [max(0, 1-s), 1+s]) and of hue (turns
            in [-s, s]).
        draws: Five random numbers in [0, 1): one for the order, and one for each strength.
        additive: Add a value in [-s, s] of white as brightness, instead of multiplying by a factor.

    Examples:
        >>> jitter((0.4, 0.4, 0.4, 0.1), (0.0, 0.5, 0.5, 0.5, 0.5))
        ((0, 1.0), (1, 1.0), (2, 1.0), (3, 0.0))
    """
    brightness, contrast, saturation, hue = strengths
    order, b, c, s, h = draws
    steps = (
        (SHIFT, brightness * (2 * b - 1)) if additive else (BRIGHTNESS, _factor(brightness, b)),
        (CONTRAST, _factor(contrast, c)),
        (SATURATION, _factor(saturation, s)),
        (HUE, hue * (2 * h - 1)),
    )
    first, second, third, fourth = _ORDERS[int(order * 24)]
    return steps[first], steps[second], steps[third], steps[fourth]


def is_jitter(strengths: Any) -> bool:
    """Return whether a value is a sequence of four non-negative strengths, with a hue strength of at most 0.5."""
    is_sequence = isinstance(strengths, tuple | list) and len(strengths) == 4
    return is_sequence and all(is_number(x, 0, math.inf) for x in strengths) and bool(strengths[3] <= 0.5)


def mean_grey(image: Image) -> float:
    """Return the mean luma of an RGB image, or the mean over all channels of other images."""
    means = functional.channel_means(image)
    if len(means) != 3:
        return sum(means) / len(means)
    return LUMA[0] * means[0] + LUMA[1] * means[1] + LUMA[2] * means[2]


def to_grey(image: Image) -> Image:
    """Convert an RGB image to greyscale with three equal channels."""
    return adjust(image, ((SATURATION, 0.0),))


def _factor(strength: float, u: float) -> float:
    """Map ``u`` in [0, 1) to a factor in [max(0, 1 - strength), 1 + strength)."""
    lowest = max(0.0, 1.0 - strength)
    return lowest + (1.0 + strength - lowest) * u


def principal_contrast(image: Image, factors: Sequence[float]) -> Image:
    """Scale the contrast along each of the three principal components of colour, about the mean colour.

    The components are fixed, because they are nearly the same for all sets of natural images: light to dark, red to
    blue, and green to purple.

    Args:
        image: H×W×3 array.
        factors: One factor of at least 0 for each component, in this order.

    Examples:
        >>> principal_contrast(np.array([[[110, 90, 70], [90, 110, 130]]], np.uint8), (1, 0.5, 1)).tolist()
        [[[100, 90, 80], [100, 110, 120]]]

    References:
        Ohta, Kanade and Sakai, "Color information for region segmentation", 1980.
    """
    # Differs from the paper: directions that natural images have in common, not those of the data set
    mix = (_PRINCIPAL.T * np.asarray(factors, np.float32)) @ _PRINCIPAL
    means = np.array(functional.channel_means(image), np.float32)
    return functional.mix_channels(image, np.concatenate([mix, (means - mix @ means)[:, None]], axis=1))


def curve_saturation_value(image: Image, saturation: Sequence[float], value: Sequence[float]) -> Image:
    """Map saturation and value, in [0, 1], to gain · x^power + offset, clipped to [0, 1]. The hue is preserved.

    Args:
        image: H×W×3 array. Grey pixels have no hue and stay grey.
        saturation: Power (positive), gain and offset for S = 1 - min(R, G, B) / max(R, G, B).
        value: Power (positive), gain and offset for V = max(R, G, B).

    Examples:
        >>> curve_saturation_value(np.array([[[200, 100, 150]]], np.uint8), (1, 2, 0), (1, 0.5, 0)).tolist()
        [[[100, 0, 50]]]
    """
    white = np.float32(functional.peak(image))
    red, green, blue = planes = np.multiply(image.transpose(2, 0, 1), 1 / white, order="C", dtype=np.float32)
    high = np.maximum(np.maximum(red, green), blue)
    chroma = high - np.minimum(np.minimum(red, green), blue)
    coloured = chroma > 0  # Differs from the paper: grey pixels stay grey when saturations change
    old = np.divide(chroma, high, out=np.zeros_like(chroma), where=coloured)
    spread = np.divide(_power_curve(old, saturation), chroma, out=np.zeros_like(chroma), where=coloured)
    planes = (1.0 - (high - planes) * spread) * (_power_curve(high, value) * white)
    if image.dtype != np.float32:
        np.rint(planes, out=planes)
    curved: Image = np.clip(planes, 0, white).astype(image.dtype).transpose(1, 2, 0)
    return np.ascontiguousarray(curved)


def _power_curve(values: Image, curve: Sequence[float]) -> Image:
    power, gain, offset = (np.float32(number) for number in curve)
    curved: Image = np.log(np.maximum(values, np.float32(1e-30)))  # several times faster than np.power
    curved *= power
    np.exp(curved, out=curved)
    curved *= gain
    curved += offset
    return np.clip(curved, 0.0, 1.0, out=curved)


def _linear(image: Image, gain: float, mix: float, offset: float) -> Image:
    if mix == 0.0:
        return image if gain == 1.0 and offset == 0.0 else functional.scale_and_add(image, gain, offset)
    red, green, blue = mix * LUMA[0], mix * LUMA[1], mix * LUMA[2]
    rows = _MATRIX.pack(
        *(gain + red, green, blue, offset), *(red, gain + green, blue, offset), *(red, green, gain + blue, offset)
    )
    matrix = np.frombuffer(rows, np.float32).reshape(3, 4)  # four times as fast as np.array of tuples
    return functional.mix_channels(image, matrix)
