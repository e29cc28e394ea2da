"""Images that are there twice: exact copies by their pixels, near duplicates by thumbnails."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.image_source import ImageSource
from super_selfish.images.functional import Image

_BITS = 64
_BAND = 16  # bits that two alike hashes share at least once
_FEW_BITS = 3
_ALIKE = 6.0  # levels of 255 that thumbnails of one image differ by on average


class Copies:
    """Finds images that are the same as an earlier one in every pixel.

    Args:
        source: Where images are compared at their full size.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self._first: dict[bytes, int] = {}

    def original(self, index: int, image: Image) -> int | None:
        """The first image that image ``index`` is a copy of, if there is one.

        Args:
            index: Of the image.
            image: Its pixels, at full or at reduced size.
        """
        digest = hashlib.blake2b(repr((image.shape, image.dtype.str)).encode() + image.tobytes(), digest_size=16)
        first = self._first.setdefault(digest.digest(), index)
        return first if first != index and _are_equal(self.source.read(first), self.source.read(index)) else None


def _are_equal(image: Image, other: Image) -> bool:
    """Whether images are the same in every pixel; NaN, which may mean that there is no data, equals NaN."""
    return np.array_equal(image, other, equal_nan=image.dtype == np.float32)


def near_duplicates(thumbs: npt.NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Pairs of thumbnails that show the same, each with the first of its kind."""
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
            alike = np.abs(thumbs[others] - thumbs[index]).mean((1, 2)) <= _ALIKE
            if (near & alike).any():
                yield int(others[near & alike][0]), index
                continue  # the first stands for all of its kind
        for key, table in zip(keys, seen, strict=True):
            table.setdefault(int(key[index]), []).append(index)
