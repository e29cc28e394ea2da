"""Duplicate images: exact copies by their pixels, and near duplicates by thumbnails."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.preprocessed import LUMA
from super_selfish.images import functional
from super_selfish.images.functional import Image

_THUMB = 16  # side of thumbnails, in px
_BITS = 64
_BAND = 16  # bits per band; similar hashes agree in at least one band
_MAX_DIFFERENCE = 6.0  # maximum mean absolute difference of the thumbnails of near duplicates, on the scale [0, 255]
_MAX_RELATIVE = 0.15  # maximum distance of the patterns of near duplicates; that of unrelated images is about 1
_MAX_OF_TYPICAL = 0.2  # likewise, as a fraction of the typical distance of the images to their neighbours
_NEIGHBOUR = 10  # which neighbour: larger than most groups of near duplicates
_ENOUGH = 30  # minimum number of images to estimate what they have in common
_SAMPLE = 1000  # number of images whose neighbours are searched
_BLOCK = 4096  # number of images that are compared with them at a time
_MIN_CONTRAST = 0.05  # lower limit of the contrast of a thumbnail, as a fraction of the median


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


def thumbnail(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Grey thumbnail (16, 16) of an image (H, W, C) on the scale [0, 255]."""
    grey = values @ LUMA if values.shape[2] == 3 else values.mean(axis=2)
    return functional.resize(np.ascontiguousarray(grey[:, :, None]), _THUMB, _THUMB)[:, :, 0]


def near_duplicates(thumbs: npt.NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Iterate over pairs of similar thumbnails; each duplicate is paired with the first image of its group."""
    table = _Similar(thumbs)
    for index in range(len(thumbs)):
        first = table.first(index)
        if first is None:
            table.add(index)  # later images are compared only with the first of a group
        else:
            yield first, index


def similar_to_any(thumbs: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether each of some thumbnails (images, 16, 16) is a near duplicate of any of ``others``: (images,)."""
    table = _Similar(np.concatenate([others, thumbs]))
    for index in range(len(others)):
        table.add(index)
    found = [table.first(index) is not None for index in range(len(others), len(others) + len(thumbs))]
    return np.array(found, np.bool_)


class _Similar:
    """Finds thumbnails (images, 16, 16) that are similar to one of those that were added.

    Images of one kind, such as aligned X-rays, have most of their content in common. Thumbnails are therefore compared
    by their patterns: what is left without brightness, contrast and the mean of all images.
    """

    def __init__(self, thumbs: npt.NDArray[np.float32]) -> None:
        patterns = _patterns(thumbs)
        small = patterns.reshape(len(thumbs), 8, 2, 8, 2).mean((2, 4))
        steps = (np.diff(np.concatenate([small, small[:, :, :1]], axis=2), axis=2) > 0).reshape(len(thumbs), _BITS)
        bands = [steps[:, start : start + _BAND] for start in range(0, _BITS, _BAND)]
        self.thumbs, self.patterns = thumbs, patterns.reshape(len(thumbs), -1)
        self.most = min(_MAX_RELATIVE, _MAX_OF_TYPICAL * _typical_distance(self.patterns))
        self.keys = [np.packbits(band, axis=1).view(np.uint16)[:, 0] for band in bands]
        self.seen: list[dict[int, list[int]]] = [{} for _ in bands]

    def add(self, index: int) -> None:
        """Add a thumbnail."""
        for key, table in zip(self.keys, self.seen, strict=True):
            table.setdefault(int(key[index]), []).append(index)

    def first(self, index: int) -> int | None:
        """The first added thumbnail that is similar to thumbnail ``index``, or None."""
        pairs = zip(self.keys, self.seen, strict=True)
        candidates = sorted({other for key, table in pairs for other in table.get(int(key[index]), ())})
        if not candidates:
            return None
        others = np.array(candidates)
        near = np.linalg.norm(self.patterns[others] - self.patterns[index], axis=1) <= self.most
        similar = near & (np.abs(self.thumbs[others] - self.thumbs[index]).mean((1, 2)) <= _MAX_DIFFERENCE)
        return int(others[similar][0]) if similar.any() else None


def _patterns(thumbs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Thumbnails (images, 16, 16) without brightness, contrast and, of enough images, their mean.

    They are scaled so that the distance of two unrelated images of full contrast is about 1.
    """
    centred = thumbs - thumbs.mean((1, 2), keepdims=True)
    contrast = centred.std((1, 2), keepdims=True)
    scale = np.maximum(contrast, max(_MIN_CONTRAST * float(np.median(contrast)), 1e-6))
    patterns: npt.NDArray[np.float32] = centred / (scale * np.float32(np.sqrt(2) * _THUMB))
    if len(thumbs) >= _ENOUGH:
        patterns -= patterns.mean(0)
    return patterns


def _typical_distance(patterns: npt.NDArray[np.float32]) -> float:
    """Median distance of patterns (images, 256) to a near neighbour; infinity if there are too few images."""
    if len(patterns) < _ENOUGH:
        return np.inf
    sample = patterns[np.linspace(0, len(patterns) - 1, min(len(patterns), _SAMPLE)).astype(np.int64)]
    nearest = np.full((len(sample), 0), np.inf, np.float32)
    for start in range(0, len(patterns), _BLOCK):
        block = patterns[start : start + _BLOCK]
        squares = np.square(sample).sum(1)[:, None] + np.square(block).sum(1) - 2 * (sample @ block.T)
        nearest = np.concatenate([nearest, squares], axis=1)
        nearest = np.partition(nearest, min(_NEIGHBOUR, nearest.shape[1] - 1), axis=1)[:, : _NEIGHBOUR + 1]
    return float(np.sqrt(max(0.0, float(np.median(nearest.max(1))))))  # the nearest of all is the image itself
