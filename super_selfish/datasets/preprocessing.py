"""Settling the preprocessing of a data set from a look at its images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.datasets.preprocessed import MINIMUM_SIDE, ImageDataset, Preprocessing, check_channels
from super_selfish.errors import (
    ConfigurationError,
    DataError,
    UnreadableImage,
    check_choice,
    did_you_mean,
    validate_keywords,
)
from super_selfish.images.functional import Image
from super_selfish.images.image_files import MAX_PIXELS, printable

__all__ = ["DEFAULT_SIDE", "ImageDataset", "Preprocessing", "fit_preprocessing"]

DEFAULT_SIDE = 225
_HEADERS, _HEADERS_OF_DATASET, _VALUES, _MOMENTS = 2_000, 16, 64, 1_000
_PIXELS_AN_IMAGE = 1 << 16  # enough for percentiles
_FULL_SCALES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # 8, 10, 12, 14 and 16 bits
_SMALLEST_STD = 1e-3

_T = TypeVar("_T")
_Rows = tuple[tuple[float, ...], tuple[float, ...]]


@validate_keywords()
def fit_preprocessing(
    source: ImageSource | None,
    *,
    resolution: int | tuple[int, int] | None = None,
    channels: int | None = None,
    value_range: str | tuple[float, float] = "auto",
    normalize: str | tuple[Sequence[float], Sequence[float]] | None = None,
    max_pixels: int = MAX_PIXELS,
    on_error: str = "raise",
) -> Preprocessing:
    """Settle size, channels and scale, from a sample of the images where they are not given.

    Args:
        source: The images; without them, 225×225 and 3 channels are assumed.
        resolution: A side, or height and width, at least 32. None: 225×225 for files and for images of several sizes;
            images of one size in memory stay as they are, enlarged to at least 32.
        channels: None: what all images have; 3 where they differ.
        value_range: "auto", or what becomes 0 and 1 where pixels are not uint8. "auto": uint16 from 0 to the smallest
            full scale of 8, 10, 12, 14 or 16 bits that holds the sample; floats in [0, 1] as they are, else from the
            0.1 percentile, or 0 if that is lower, to the 99.9 percentile.
        normalize: None, "dataset" (mean and std of up to 1,000 images), or (mean, std) on the scale [0, 1].
        max_pixels: The largest image that will be decoded.
        on_error: "raise", or "skip" to pass over unreadable images in the sample.

    Raises:
        ConfigurationError: If an argument cannot work.
        DataError: If an image cannot be read, or none can; if values are not finite; if channels cannot be converted.
    """
    _check(resolution, channels, max_pixels, on_error)
    explicit_range = _explicit_range(value_range)
    sample = _Sample(source, on_error == "skip") if source is not None else None
    settled = channels or (sample.channels() if sample else 3)
    if sample:
        sample.check(settled)
    fitted = Preprocessing(
        _resolution(resolution, sample),
        settled,
        explicit_range or (sample.value_range() if sample else None),
        None,
        None,
        max_pixels,
    )
    if normalize is None:
        return fitted
    mean, std = _moments(normalize, fitted, sample)
    return Preprocessing(fitted.resolution, settled, fitted.value_range, mean, std, max_pixels)


class _Sample:
    """Headers of evenly spaced images, and more looks at the images themselves."""

    def __init__(self, source: ImageSource, skip: bool) -> None:
        self.source = source
        self.skip = skip
        count = _HEADERS_OF_DATASET if source.kind == "dataset" else 1 if source.kind == "arrays" else _HEADERS
        self.headers = dict(self._each(evenly_spaced(len(source), count), source.header))

    def channels(self) -> int:
        found = {header.channels for header in self.headers.values()}
        return found.pop() if len(found) == 1 else 3

    def check(self, channels: int) -> None:
        for index, header in self.headers.items():
            try:
                check_channels(header.channels, channels)
            except DataError as error:
                if not self.skip:
                    raise DataError(f"{self._name(index)}: {error}") from error

    def common_size(self) -> tuple[int, int] | None:
        sizes = {header[:2] for header in self.headers.values()}
        return sizes.pop() if len(sizes) == 1 and self.source.kind != "files" else None

    def _is_finite(self, index: int, image: Image) -> bool:
        finite = bool(np.isfinite(image).all())
        if not finite and not self.skip:
            raise UnreadableImage(
                f"{self._name(index)}: pixel values are not finite.",
                fix='Mask or replace them, or leave the image out by on_error="skip".',
            )
        return finite

    def value_range(self) -> tuple[float, float] | None:
        deep = [index for index, header in self.headers.items() if header.dtype != "uint8"]
        if self.source.kind == "arrays" and deep:
            deep = list(range(len(self.source)))
        elif self.source.kind == "dataset":
            deep = evenly_spaced(len(self.source), _VALUES) if deep else []
        chosen = [deep[place] for place in evenly_spaced(len(deep), _VALUES)]
        if not chosen:
            return None
        values, whole, lowest, highest = [], True, np.inf, -np.inf
        for index, image in self._each(chosen, self.source.read):
            if image.dtype == np.uint8:
                continue
            if not self._is_finite(index, image):
                continue
            whole = whole and image.dtype == np.uint16
            lowest, highest = min(lowest, float(image.min())), max(highest, float(image.max()))
            values.append(_thinned(image))
        if not values:
            return None
        if whole:
            return (0.0, next(scale for scale in _FULL_SCALES if scale >= highest))
        all_float = all(part.dtype == np.float32 for part in values)
        if all_float and lowest >= 0 and highest <= 1:
            return None
        low, high = np.percentile(np.concatenate([part.astype(np.float64) for part in values]), [0.1, 99.9])
        low = min(0.0, float(low))
        return (low, float(high) if high > low else low + 1.0)

    def moments(self, preprocessing: Preprocessing) -> _Rows:
        source = self.source.covering(preprocessing.resolution)

        def look(index: int) -> npt.NDArray[np.float64]:
            image = preprocessing.image(source.read(index))
            pixels = image.reshape(-1, image.shape[2]).astype(np.float64)
            if image.dtype == np.uint8:
                pixels /= 255.0
            return np.stack([pixels.mean(axis=0), (pixels**2).mean(axis=0)])

        looks = [look for _, look in self._each(evenly_spaced(len(self.source), _MOMENTS), look)]
        mean, square = np.mean(looks, axis=0)
        std = np.maximum(np.sqrt(np.maximum(square - mean**2, 0.0)), _SMALLEST_STD)
        return tuple(mean.tolist()), tuple(std.tolist())

    def _each(self, indices: Iterable[int], look: Callable[[int], _T]) -> Iterator[tuple[int, _T]]:
        """Look at images one after the other; unreadable ones are passed over if they may, but not all of them."""
        seen, last = 0, None
        for index in indices:
            try:
                found = look(index)
            except DataError as error:
                if not self.skip:
                    raise
                last = error
                continue
            seen += 1
            yield index, found
        if not seen and last is not None:
            raise DataError(f"None of the images that were looked at can be read; the last: {last}") from last

    def _name(self, index: int) -> str:
        return f"Image `{printable(self.source.name(index))}`"


def _thinned(image: Image) -> Image:
    pixels = image.reshape(-1)
    return pixels[:: -(-pixels.size // _PIXELS_AN_IMAGE)]


def _check(resolution: object, channels: object, max_pixels: object, on_error: str) -> None:
    sides = resolution if isinstance(resolution, (tuple, list)) else (resolution, resolution)
    if resolution is not None and (len(sides) != 2 or not all(_is_count(side, MINIMUM_SIDE) for side in sides)):
        raise ConfigurationError(
            "`resolution` cannot work.",
            expected=f"a side, or (height, width), of at least {MINIMUM_SIDE} pixels",
            received=f"resolution={resolution!r}",
        )
    if channels is not None and not _is_count(channels, 1):
        raise ConfigurationError("`channels` must be a positive integer or None.", received=f"channels={channels!r}")
    if not _is_count(max_pixels, 1):
        raise ConfigurationError("`max_pixels` must be a positive integer.", received=f"max_pixels={max_pixels!r}")
    check_choice("on_error", on_error, ("raise", "skip"))


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least


def _resolution(resolution: Any, sample: _Sample | None) -> tuple[int, int]:
    if resolution is not None:
        height, width = resolution if isinstance(resolution, (tuple, list)) else (resolution, resolution)
        return int(height), int(width)
    size = sample.common_size() if sample else None
    if size is None:
        return DEFAULT_SIDE, DEFAULT_SIDE
    scale = max(1.0, MINIMUM_SIDE / min(size))
    return round(size[0] * scale), round(size[1] * scale)


def _explicit_range(value_range: Any) -> tuple[float, float] | None:
    if isinstance(value_range, str) and value_range == "auto":
        return None
    try:
        low, high = (float(number) for number in value_range)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if isinstance(value_range, str) or not (np.isfinite([low, high]).all() and low < high):
        raise ConfigurationError(
            "`value_range` cannot work.",
            expected='"auto", or (low, high) with low < high',
            received=f"value_range={value_range!r}",
            fix=did_you_mean(value_range, ("auto",)),
        )
    return low, high


def _moments(normalize: Any, fitted: Preprocessing, sample: _Sample | None) -> _Rows:
    if isinstance(normalize, str) and normalize == "dataset":
        if sample is None:
            raise ConfigurationError('`normalize="dataset"` needs images.', fix="Give the data set, or (mean, std).")
        return sample.moments(fitted)
    try:
        mean, std = (tuple(float(number) for number in row) for row in normalize)
    except (TypeError, ValueError):
        mean, std = (), ()
    lengths_fit = len(mean) == len(std) == fitted.channels
    if isinstance(normalize, str) or not lengths_fit or not np.isfinite([mean, std]).all() or min(std) <= 0:
        raise ConfigurationError(
            "`normalize` cannot work.",
            expected=f'None, "dataset", or (mean, std) of {fitted.channels} numbers each, std positive',
            received=f"normalize={normalize!r}",
            fix=did_you_mean(normalize, ("dataset",)),
        )
    return mean, std
