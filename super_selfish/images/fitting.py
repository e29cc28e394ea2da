"""Memory-efficient resizing and centre cropping: only the part of the image that is used gets resampled."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from super_selfish.images import functional
from super_selfish.images.functional import Image

_BILINEAR_UP_TO = 1.75  # downscaling factor; up to 1.5, closer to Lanczos than area averaging, and several times faster
_ENLARGED_WHOLE_UP_TO = 3.0  # ratio of enlarged pixels to pixels of the result; beyond it, only the centre is enlarged


class Fit(NamedTuple):
    """Parameters of resizing an image: the part that is used, and its scale.

    Attributes:
        size: Height and width of the result.
        scale: Scale factor of both sides.
        rows: Start (inclusive) and end (exclusive) of the rows that are used.
        columns: Start (inclusive) and end (exclusive) of the columns that are used.
        whole: Height and width of the image.
    """

    size: tuple[int, int]
    scale: float
    rows: tuple[int, int]
    columns: tuple[int, int]
    whole: tuple[int, int]

    @classmethod
    def of(cls, shape: tuple[int, ...], size: tuple[int, int]) -> Fit:
        """Compute the smallest scale at which the image covers ``size``, and the centre crop.

        Args:
            shape: Shape of the image; the first two entries are height and width.
            size: Height and width of the result.
        """
        whole = shape[0], shape[1]
        scale = max(size[0] / whole[0], size[1] / whole[1])
        rows, columns = (0, whole[0]), (0, whole[1])
        if scale < 1.0:
            rows, columns = (_middle(there, round(side / scale)) for there, side in zip(whole, size, strict=True))
        elif _enlarges_too_much(whole, size, scale):
            rows, columns = (_used(there, side, scale) for there, side in zip(whole, size, strict=True))
        return cls(size, scale, rows, columns, whole)

    def crop(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the part of an image that is used."""
        return image[slice(*self.rows), slice(*self.columns)]

    def resample(self, part: Image) -> Image:
        """Resample this part to the size of the result."""
        if self.scale < 1.0:
            shrunk = functional.resample if self.scale * _BILINEAR_UP_TO >= 1.0 else _by_area
            return shrunk(part, self.size)
        if not _enlarges_too_much(self.whole, self.size, self.scale):
            return functional.fit(part, *self.size)
        spans = zip(self.whole, self.size, (self.rows, self.columns), strict=True)
        y, x = (_positions(there, side, self.scale, first, last) for there, side, (first, last) in spans)
        across, down = np.meshgrid(x, y)
        return functional.remap(np.ascontiguousarray(part), across, down)


def _by_area(image: Image, size: tuple[int, int]) -> Image:
    return functional.resize(image, *size)


def _middle(length: int, wanted: int) -> tuple[int, int]:
    wanted = min(length, wanted)
    first = (length - wanted) // 2
    return first, first + wanted


def _covering(length: int, wanted: int, scale: float) -> int:
    return max(wanted, round(length * scale))


def _enlarges_too_much(whole: tuple[int, int], size: tuple[int, int], scale: float) -> bool:
    covering = math.prod(_covering(there, side, scale) for there, side in zip(whole, size, strict=True))
    return covering > _ENLARGED_WHOLE_UP_TO * math.prod(size)


def _used(length: int, wanted: int, scale: float) -> tuple[int, int]:
    """Return the range of pixels along one axis from which the enlarged centre is interpolated."""
    first, last = _sources(length, wanted, scale)[[0, -1]]
    return max(0, math.floor(first)), min(length, math.floor(last) + 2)


def _sources(length: int, wanted: int, scale: float) -> npt.NDArray[np.float64]:
    """Return the position of each pixel of the enlarged centre in the image, in px from the centre of pixel 0."""
    covering = _covering(length, wanted, scale)
    found: npt.NDArray[np.float64] = (np.arange(wanted, dtype=np.float64) + (covering - wanted) // 2 + 0.5) * (
        length / covering
    ) - 0.5
    return found


def _positions(length: int, wanted: int, scale: float, first: int, last: int) -> npt.NDArray[np.float32]:
    return np.clip(_sources(length, wanted, scale) - first, 0, last - first - 1).astype(np.float32)
