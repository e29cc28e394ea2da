"""Brightness, contrast, saturation, hue and grey: as few passes over the pixels as the order of the steps allows.

With ``grey`` the luma of a pixel, brightness, contrast, saturation, a shift and any sequence of them have the form
``gain * x + mix * grey + offset``. Such a sequence is one matrix and one pass; a hue step, which is not linear, ends
it if it mixes channels. Values are clipped after each pass, not after each step.
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
"""The kinds of steps; strengths are factors, the hue's is in turns of the colour circle, the shift's is added."""

_MATRIX = struct.Struct("12f")

LUMA = (0.299, 0.587, 0.114)  # Rec. 601
_ORDERS = tuple(itertools.permutations(range(4)))
_PRINCIPAL = np.array([[2, 2, 2], [3, 0, -3], [1, -2, 1]], np.float32) / np.sqrt([[12], [18], [6]], dtype=np.float32)


def adjust(image: Image, steps: Sequence[tuple[int, float]]) -> Image:
    """Apply steps of colour in their order.

    Args:
        image: H×W×C of uint8, uint16 or float32. Unless there are three channels, saturation and hue are left out.
        steps: Pairs of a kind and its strength: ``(BRIGHTNESS, factor)``, ``(CONTRAST, factor)``,
            ``(SATURATION, factor)`` with factors of at least 0, ``(HUE, turns)`` with turns in [-0.5, 0.5], and
            ``(SHIFT, part)``, which adds a part of white.

    Returns:
        The adjusted image, which may share the memory of the image if nothing was to be done.

    Examples:
        >>> adjust(np.full((1, 1, 3), 100, np.uint8), [(BRIGHTNESS, 1.5), (SATURATION, 0.0)]).ravel().tolist()
        [150, 150, 150]
    """
    if not steps:
        return image
    coloured = image.shape[2] == 3
    row = adjusted = np.ascontiguousarray(image).reshape(1, -1, image.shape[2])  # short rows would leave remainders
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
            if mix:  # a turn and what does the same to all channels may change places
                adjusted, gain, mix, offset = _linear(adjusted, gain, mix, offset), 1.0, 0.0, 0.0
            adjusted = functional.turn_hue(adjusted, strength)
    adjusted = _linear(adjusted, gain, mix, offset)
    return image if adjusted is row else adjusted.reshape(image.shape)


def jitter(strengths: Sequence[float], draws: Sequence[float], additive: bool = False) -> tuple[tuple[int, float], ...]:
    """Steps for :func:`adjust`: brightness, contrast, saturation and hue in random order.

    Args:
        strengths: Of brightness, contrast and saturation (factors from 1-s to 1+s, not below 0) and hue (turns from -s
            to s).
        draws: Five numbers in [0, 1): of the order, and of each strength.
        additive: Brightness from -s to s of white is added, instead of a factor.

    Examples:
        >>> jitter((0.4, 0.4, 0.4, 0.1), (0.0, 0.5, 0.5, 0.5, 0.5))
        ((0, 1.0), (1, 1.0), (2, 1.0), (3, 0.0))
    """
    brightness, contrast, saturation, hue = strengths
    order, b, c, s, h = draws
    drawn = (
        (SHIFT, brightness * (2 * b - 1)) if additive else (BRIGHTNESS, _factor(brightness, b)),
        (CONTRAST, _factor(contrast, c)),
        (SATURATION, _factor(saturation, s)),
        (HUE, hue * (2 * h - 1)),
    )
    first, second, third, fourth = _ORDERS[int(order * 24)]
    return drawn[first], drawn[second], drawn[third], drawn[fourth]


def is_jitter(strengths: Any) -> bool:
    """Whether these are four strengths of at least 0, that of the hue at most 0.5."""
    row = isinstance(strengths, tuple | list) and len(strengths) == 4
    return row and all(is_number(x, 0, math.inf) for x in strengths) and bool(strengths[3] <= 0.5)


def mean_grey(image: Image) -> float:
    """The mean luma of an RGB image, or the mean of all channels."""
    means = functional.channel_means(image)
    if len(means) != 3:
        return sum(means) / len(means)
    return LUMA[0] * means[0] + LUMA[1] * means[1] + LUMA[2] * means[2]


def to_grey(image: Image) -> Image:
    """The luma of an RGB image in all three channels."""
    return adjust(image, ((SATURATION, 0.0),))


def _factor(strength: float, u: float) -> float:
    """A factor from 1 - strength, but at least 0, to 1 + strength."""
    lowest = max(0.0, 1.0 - strength)
    return lowest + (1.0 + strength - lowest) * u


def principal_contrast(image: Image, factors: Sequence[float]) -> Image:
    """Change the contrast along each of the three principal directions of colour, about the mean colour.

    Of natural images they are nearly the same, whatever the images: light to dark, red to blue, and green to purple.

    Args:
        image: H×W×3.
        factors: For these directions, in this order; at least 0.

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
    """Replace saturation and value, in [0, 1], by gain · x^power + offset, clipped to [0, 1]; the hue stays.

    Args:
        image: H×W×3. Grey pixels, which have no hue, stay grey.
        saturation: Power (positive), gain and offset of S = 1 - min(R, G, B) / max(R, G, B).
        value: Power, gain and offset of V = max(R, G, B).

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
    spread = np.divide(_curved(old, saturation), chroma, out=np.zeros_like(chroma), where=coloured)
    planes = (1.0 - (high - planes) * spread) * (_curved(high, value) * white)
    if image.dtype != np.float32:
        np.rint(planes, out=planes)
    curved: Image = np.clip(planes, 0, white).astype(image.dtype).transpose(1, 2, 0)
    return np.ascontiguousarray(curved)


def _curved(values: Image, curve: Sequence[float]) -> Image:
    power, gain, offset = (np.float32(number) for number in curve)
    curved: Image = np.log(np.maximum(values, np.float32(1e-30)))  # several times as fast as np.power
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
    matrix = np.frombuffer(rows, np.float32).reshape(3, 4)  # four times as fast as an array of tuples
    return functional.mix_channels(image, matrix)
