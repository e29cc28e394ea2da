"""Duplicate images: exact copies by their pixels, and near duplicates by thumbnails."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.image_source import ImageSource
from super_selfish.images.functional import Image

_BITS = 64
_BAND = 16  # bits per band; similar hashes agree in at least one band
_FEW_BITS = 3
_MAX_DIFFERENCE = 6.0  # maximum mean absolute difference of the thumbnails of near duplicates, on the scale [0, 255]


class Copies:
    """Finds images that are equal to an earlier image in every pixel.

    Args:
        source: Source of the images, for comparisons at full size.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self._first: dict[bytes, int] = {}

    def original(self, index: int, image: Image) -> int | None:
        """Return the first image that image ``index`` is a copy of, or None.

        Args:
            index: Index of the image.
            image: Pixels of the image, at full or reduced size.
        """
        digest = hashlib.blake2b(repr((image.shape, image.dtype.str)).encode() + image.tobytes(), digest_size=16)
        first = self._first.setdefault(digest.digest(), index)
        return first if first != index and _are_equal(self.source.read(first), self.source.read(index)) else None


def _are_equal(image: Image, other: Image) -> bool:
    """Whether two images are equal in every pixel; NaN, which may stand for no data, is equal to NaN."""
    return np.array_equal(image, other, equal_nan=image.dtype == np.float32)


def near_duplicates(thumbs: npt.NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Iterate over pairs of similar thumbnails; each duplicate is paired with the first image of its group."""
    small = thumbs.reshape(len(thumbs), 8, 2, 8, 2).mean((2, 4))
    steps = (np.diff(np.concatenate([small, small[:, :, :1]], axis=2), axis=2) > 0).reshape(len(thumbs), _BITS)
    bands = [steps[:, start : start + _BAND] for start in range(0, _BITS, _BAND)]
    keys = [np.packbits(band, axis=1).view(np.uint16)[:, 0] for band in bands]
    seen: list[dict[int, list[int]]] = [{} for _ in keys]
    for index in range(len(thumbs)):
        candidates = sorted(
            {other for key, table in zip(keys, seen, strict=True) for other in table.get(int(key[index]), ())}
        )
        if candidates:
            others = np.array(candidates)
            near = (steps[others] != steps[index]).sum(axis=1) <= _FEW_BITS
            similar = np.abs(thumbs[others] - thumbs[index]).mean((1, 2)) <= _MAX_DIFFERENCE
            if (near & similar).any():
                yield int(others[near & similar][0]), index
                continue  # later images are compared only with the first of a group
        for key, table in zip(keys, seen, strict=True):
            table.setdefault(int(key[index]), []).append(index)
