"""Statistics of a sample of the images of a source: size, channels, value range, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.image_source import ImageSource, Loaded
from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.datasets.preprocessed import Preprocessing, check_channels, not_finite
from super_selfish.errors import DataError, UnreadableImage
from super_selfish.images.functional import Image
from super_selfish.images.image_files import printable

_HEADERS, _HEADERS_OF_DATASET, _VALUES, _MOMENTS = 2_000, 16, 64, 1_000
_PIXELS_PER_IMAGE = 1 << 16  # enough for percentiles
_FULL_SCALES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # 8, 10, 12, 14 and 16 bits
_SMALLEST_STD = 1e-3

_T = TypeVar("_T")
Rows = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel."""


class Sample:
    """Headers of evenly spaced images, and statistics of their pixels.

    Args:
        source: Source of the images.
        skip: Skip unreadable images.
        fill: Value of pixels that are not finite. None: these raise an error.
    """

    def __init__(self, source: ImageSource, skip: bool, fill: float | None = None) -> None:
        self.source = source
        self.skip = skip
        self.fill = fill
        count = _HEADERS_OF_DATASET if source.kind == "dataset" else 1 if source.kind == "arrays" else _HEADERS
        self.headers = dict(self._each(evenly_spaced(len(source), count), source.header))

    def channels(self) -> int:
        """Return the number of channels of the images; 3 if they differ."""
        found = {header.channels for header in self.headers.values()}
        return found.pop() if len(found) == 1 else 3

    def check(self, channels: int) -> None:
        """Check that the images can be converted to ``channels`` channels.

        Raises:
            DataError: If an image cannot be converted.
        """
        for index, header in self.headers.items():
            try:
                check_channels(header.channels, channels)
            except DataError as error:
                if not self.skip:
                    raise DataError(f"{self._name(index)}: {error}") from error

    def common_size(self) -> tuple[int, int] | None:
        """Return the height and width of images in memory if all have the same size, else None."""
        sizes = {header[:2] for header in self.headers.values()}
        return sizes.pop() if len(sizes) == 1 and self.source.kind != "files" else None

    def _valid(self, index: int, loaded: Loaded) -> Image | None:
        """Return the valid values of an image; None if the image has to be skipped."""
        bad = not_finite(loaded.image, loaded.missing)
        if bad is not None and self.fill is None:
            if self.skip:
                return None
            raise UnreadableImage(
                f"{self._name(index)}: pixel values are not finite.",
                fix="Declare these pixels as no data in the file, pass fill= to replace them, or pass "
                'on_error="skip" to skip the image.',
            )
        left_out = loaded.missing if bad is None else bad if loaded.missing is None else bad | loaded.missing
        if left_out is None or not left_out.any():
            return loaded.image
        valid: Image = loaded.image[~np.broadcast_to(left_out, loaded.image.shape)]
        if valid.size and valid.min() >= 0 and valid.max() <= 65535 and np.array_equal(valid, np.rint(valid)):
            return valid.astype(np.uint16) if loaded.image.dtype != np.uint8 else valid
        return valid

    def _deep(self, of_all: bool) -> list[int]:
        """Return the indices of the images whose values are examined: those that are not uint8."""
        if of_all:
            return list(range(len(self.source)))
        deep = [index for index, header in self.headers.items() if header.dtype != "uint8"]
        if self.source.kind == "arrays" and deep:
            deep = list(range(len(self.source)))
        elif self.source.kind == "dataset":
            deep = evenly_spaced(len(self.source), _VALUES) if deep else []
        return [deep[place] for place in evenly_spaced(len(deep), _VALUES)]

    def value_range(self, of_all: bool = False) -> tuple[float, float] | None:
        """Return the values that are mapped to 0 and 1 if images are not uint8; None: floats in [0, 1].

        Args:
            of_all: From the minimum to the maximum of all images, instead of an estimate from a sample.

        Raises:
            DataError: If values are neither finite nor declared as no data, unless they are filled or skipped.
        """
        values, integers_only, lowest, highest = [], True, np.inf, -np.inf
        for index, loaded in self._each(self._deep(of_all), self.source.load):
            valid = None if loaded.image.dtype == np.uint8 else self._valid(index, loaded)
            if valid is None or not valid.size:
                continue
            integers_only = integers_only and valid.dtype == np.uint16
            lowest, highest = min(lowest, float(valid.min())), max(highest, float(valid.max()))
            values.append(_thinned(valid) if not of_all else valid.reshape(-1)[:1])
        if not values:
            return None
        if of_all:
            return (lowest, highest if highest > lowest else lowest + 1.0)
        if integers_only:
            return (0.0, next(scale for scale in _FULL_SCALES if scale >= highest))
        if all(part.dtype == np.float32 for part in values) and lowest >= 0 and highest <= 1:
            return None
        low, high = np.percentile(np.concatenate([part.astype(np.float64) for part in values]), [0.1, 99.9])
        low = min(0.0, float(low))
        return (low, float(high) if high > low else low + 1.0)

    def moments(self, preprocessing: Preprocessing) -> Rows:
        """Return mean and standard deviation per channel of up to 1,000 preprocessed images, without missing pixels.

        Raises:
            DataError: If no image has a valid pixel.
        """
        source = self.source.covering(preprocessing.resolution)

        def image_moments(index: int) -> npt.NDArray[np.float64] | None:
            image, _, missing = source.load(index)
            bad = not_finite(image, missing)
            missing = missing if bad is None else bad if missing is None else bad | missing
            made = preprocessing.image(image, missing)
            pixels = made.reshape(-1, made.shape[2])
            if missing is not None:
                pixels = pixels[~preprocessing.mask(missing).reshape(-1)]
            if not len(pixels):
                return None
            pixels = pixels.astype(np.float64)
            if made.dtype == np.uint8:
                pixels /= 255.0
            return np.stack([pixels.mean(axis=0), (pixels**2).mean(axis=0)])

        results = self._each(evenly_spaced(len(self.source), _MOMENTS), image_moments)
        moments = [found for _, found in results if found is not None]
        if not moments:
            raise DataError("None of the images in the sample has a valid pixel.")
        mean, square = np.mean(moments, axis=0)
        std = np.maximum(np.sqrt(np.maximum(square - mean**2, 0.0)), _SMALLEST_STD)
        return tuple(mean.tolist()), tuple(std.tolist())

    def _each(self, indices: Iterable[int], function: Callable[[int], _T]) -> Iterator[tuple[int, _T]]:
        """Apply a function to each image; with ``skip``, unreadable images are skipped unless all are unreadable."""
        seen, last = 0, None
        for index in indices:
            try:
                found = function(index)
            except DataError as error:
                if not self.skip:
                    raise
                last = error
                continue
            seen += 1
            yield index, found
        if not seen and last is not None:
            raise DataError(f"None of the images in the sample can be read. The last error: {last}") from last

    def _name(self, index: int) -> str:
        return f"Image `{printable(self.source.name(index))}`"


def _thinned(image: Image) -> Image:
    pixels = image.reshape(-1)
    return pixels[:: -(-pixels.size // _PIXELS_PER_IMAGE)]
