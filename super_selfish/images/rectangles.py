"""Rectangles within an image: of random area, shape and place, and blocks that an image is averaged over."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy.typing as npt

from super_selfish.seeding import KeyedGenerator

_TRIES = 12


def random_rectangle(
    generator: KeyedGenerator, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """A rectangle of random area, shape and place within an image.

    Args:
        generator: Where the draws come from.
        height: Of the image in px.
        width: Of the image in px.
        scale: Smallest and largest area, relative to the image.
        ratio: Smallest and largest width/height, drawn uniformly on a logarithmic scale.

    Returns:
        Top, left, height and width in whole px. After twelve draws that do not fit, the largest rectangle in the middle
        whose shape comes nearest to the allowed ones.
    """
    for _ in range(_TRIES // 4):
        u = generator.sixteen()
        for first in (0, 4, 8, 12):
            rectangle = rectangle_of(u[first : first + 4], height, width, scale, ratio)
            if rectangle is not None:
                return rectangle
    down, across = min(height, round(width / ratio[0])), min(width, round(height * ratio[1]))
    down, across = max(1, down), max(1, across)
    return (height - down) // 2, (width - across) // 2, down, across


def rectangle_of(
    place: list[float], height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int] | None:
    """The rectangle that four numbers in [0, 1) stand for, if it fits into the image."""
    area, shape, top, left = place
    area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
    shape = ratio[0] * (ratio[1] / ratio[0]) ** shape
    across, down = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
    if 0 < across <= width and 0 < down <= height:
        return int(top * (height - down + 1)), int(left * (width - across + 1)), down, across
    return None


@lru_cache(maxsize=4096)
def block(length: int, size: int) -> int:
    """How many pixels to average before ``length`` of them are resampled to ``size``: blocks that leave few over."""
    most = max(1, length // size)
    return min(range(most, max(1, 3 * most // 4) - 1, -1), key=lambda pixels: length % pixels)


def center_crop(image: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """The middle ``height`` × ``width`` of an image that is at least as large; odd remainders favour top and left."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
