"""Rectangles within an image: random crops, centre crops, and blocks of pixels to average."""

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
    """Sample a rectangle of random area, aspect ratio and position within an image.

    Args:
        generator: Random generator.
        height: Height of the image in px.
        width: Width of the image in px.
        scale: Minimum and maximum area, as a fraction of the area of the image.
        ratio: Minimum and maximum aspect ratio (width/height), sampled log-uniformly.

    Returns:
        Top, left, height and width in px. If twelve samples do not fit, the largest centred rectangle whose aspect
        ratio is closest to the allowed range.
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
    """Convert four numbers in [0, 1) to a rectangle; None if it does not fit into the image."""
    area, shape, top, left = place
    area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
    shape = ratio[0] * (ratio[1] / ratio[0]) ** shape
    across, down = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
    if 0 < across <= width and 0 < down <= height:
        return int(top * (height - down + 1)), int(left * (width - across + 1)), down, across
    return None


@lru_cache(maxsize=4096)
def block(length: int, size: int) -> int:
    """Return the block size for averaging before ``length`` is resampled to ``size``; leaves a small remainder."""
    most = max(1, length // size)
    return min(range(most, max(1, 3 * most // 4) - 1, -1), key=lambda pixels: length % pixels)


def center_crop(image: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Crop the central ``height`` × ``width`` pixels of an image at least as large; offsets are rounded down."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
