"""Estimation of the preprocessing of a data set from a sample of its images."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from super_selfish.datasets.image_dataset import ImageDataset
from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.datasets.preprocessed import MINIMUM_SIDE, Preprocessing
from super_selfish.datasets.sample import Rows, Sample
from super_selfish.errors import ConfigurationError, DataError, check_choice, is_number, validate_keywords
from super_selfish.images.image_files import MAX_PIXELS, AlphaRule
from super_selfish.suggestions import did_you_mean

__all__ = ["DEFAULT_SIDE", "ImageDataset", "Preprocessing", "fit_preprocessing"]

DEFAULT_SIDE = 225
_MEASURED = 64  # images whose size is compared with the resolution
_CLEARLY_ENLARGED = 1.5
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of the RGB images of ImageNet, on the scale [0, 1]."""


@validate_keywords()
def fit_preprocessing(
    source: ImageSource | None,
    *,
    resolution: int | tuple[int, int] | None = None,
    channels: int | None = None,
    value_range: str | tuple[float, float] = "auto",
    normalize: str | tuple[Sequence[float], Sequence[float]] | None = None,
    max_pixels: int = MAX_PIXELS,
    fill: float | None = None,
    background: float | Sequence[float] | None = None,
    on_error: str = "raise",
    default_side: int = DEFAULT_SIDE,
) -> Preprocessing:
    """Determine the preprocessing; arguments that are not given are estimated from a sample of the images.

    Args:
        source: Source of the images. None: ``default_side`` and 3 channels are assumed.
        resolution: Side length, or (height, width), of at least 32 px. None: ``default_side`` for files and for images
            of several sizes; images in memory of one size keep it, enlarged to at least 32 px.
        channels: Number of channels. None: that of the images, or 3 if they differ.
        value_range: (low, high), which are mapped to 0 and 1 if images are not uint8, or "auto" or "all". "auto":
            uint16 from 0 to the smallest full scale of 8, 10, 12, 14 or 16 bits that contains the sample; floats in
            [0, 1] are not changed; other floats from the 0.1 percentile, or 0 if that is positive, to the 99.9
            percentile. "all": from the minimum to the maximum of all images that are not uint8; all images are read
            once. Pixels declared as no data are ignored.
        normalize: None, "dataset" (mean and std of up to 1,000 images), "imagenet" (those of ImageNet, for RGB images),
            or (mean, std) on the scale [0, 1].
        max_pixels: Maximum number of pixels of an image.
        fill: Value, on the scale of the files, of pixels that are declared as no data or not finite. None: pixels
            declared as no data get the lower end of the value range, and other non-finite pixels raise an error.
        background: Colour in [0, 1], one value or one per channel, that transparent images are blended with. None:
            alpha is dropped, unless ``channels`` includes it.
        on_error: "raise", or "skip" to skip unreadable images in the sample.
        default_side: Side length in px of images without a common size.

    Raises:
        ConfigurationError: If an argument is invalid.
        DataError: If an image (with "skip": all images) cannot be read, values are not finite, or channels cannot be
            converted.
    """
    _check(resolution, channels, max_pixels, on_error)
    explicit_range = _explicit_range(value_range)
    behind = _background(background)
    if source is not None:
        source = source.with_alpha(AlphaRule(channels, behind))
    sample = Sample(source, on_error == "skip", _fill(fill)) if source is not None else None
    settled = channels or (sample.channels() if sample else 3)
    if sample:
        sample.check(settled)
    fitted = Preprocessing(
        _resolution(resolution, sample, default_side),
        settled,
        explicit_range or (sample.value_range(of_all=value_range == "all") if sample else None),
        None,
        None,
        max_pixels,
        _fill(fill),
        behind,
    )
    if normalize is None:
        return fitted
    mean, std = _moments(normalize, fitted, sample)
    return dataclasses.replace(fitted, mean=mean, std=std)


def sufficient_side(sides: Iterable[int]) -> tuple[int, int]:
    """Return the median of the shorter sides of images, and the resolution that is sufficient for them, in px.

    Examples:
        >>> sufficient_side([50, 48, 64]), sufficient_side([20]), sufficient_side([4000])
        ((50, 50), (20, 32), (4000, 225))
    """
    ordered = sorted(sides)
    middle = ordered[len(ordered) // 2]
    return middle, max(MINIMUM_SIDE, min(middle, DEFAULT_SIDE))


def enlargement(images: ImageDataset) -> str | None:
    """Describe that images are clearly smaller than the resolution, and what to set; None if they are not.

    The sizes are those of a sample. Data sets of the user are not read.
    """
    if images.source.kind not in ("files", "arrays"):
        return None
    sides = []
    for index in evenly_spaced(len(images), _MEASURED):
        with contextlib.suppress(DataError):  # the training reports unreadable images
            sides.append(min(images.source.header(index)[:2]))
    if not sides:
        return None
    middle, enough = sufficient_side(sides)
    height, width = images.preprocessing.resolution
    if min(height, width) < _CLEARLY_ENLARGED * enough:
        return None
    size = f"{height} px" if height == width else f"{height}×{width} px"
    return (
        f"The images are of about {middle} px and are enlarged to {size}: resolution={enough} is sufficient, and about "
        f"{height * width / enough**2:.2g} times as fast."
    )


def _check(resolution: object, channels: object, max_pixels: object, on_error: str) -> None:
    sides = resolution if isinstance(resolution, (tuple, list)) else (resolution, resolution)
    if resolution is not None and (len(sides) != 2 or not all(_is_count(side, MINIMUM_SIDE) for side in sides)):
        raise ConfigurationError(
            "`resolution` is invalid.",
            expected=f"a side length, or (height, width), of at least {MINIMUM_SIDE} pixels",
            received=f"resolution={resolution!r}",
        )
    if channels is not None and not _is_count(channels, 1):
        raise ConfigurationError("`channels` must be a positive integer or None.", received=f"channels={channels!r}")
    if not _is_count(max_pixels, 1):
        raise ConfigurationError("`max_pixels` must be a positive integer.", received=f"max_pixels={max_pixels!r}")
    check_choice("on_error", on_error, ("raise", "skip"))


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least


def _resolution(resolution: Any, sample: Sample | None, default_side: int) -> tuple[int, int]:
    if resolution is not None:
        height, width = resolution if isinstance(resolution, (tuple, list)) else (resolution, resolution)
        return int(height), int(width)
    size = sample.common_size() if sample else None
    if size is None:
        return default_side, default_side
    scale = max(1.0, MINIMUM_SIDE / min(size))
    return round(size[0] * scale), round(size[1] * scale)


def _explicit_range(value_range: Any) -> tuple[float, float] | None:
    if isinstance(value_range, str) and value_range in ("auto", "all"):
        return None
    try:
        low, high = (float(number) for number in value_range)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if isinstance(value_range, str) or not (np.isfinite([low, high]).all() and low < high):
        raise ConfigurationError(
            "`value_range` is invalid.",
            expected='"auto", "all", or (low, high) with low < high',
            received=f"value_range={value_range!r}",
            fix=did_you_mean(value_range, ("auto",)),
        )
    return low, high


def _fill(fill: Any) -> float | None:
    if fill is not None and not is_number(fill, -math.inf, math.inf):
        raise ConfigurationError(
            "`fill` is invalid.", expected="None, or a number on the scale of the files", received=f"fill={fill!r}"
        )
    return None if fill is None else float(fill)


def _background(background: Any) -> tuple[float, ...] | None:
    if background is None:
        return None
    row = tuple(background) if isinstance(background, (tuple, list)) else (background,)
    if not all(is_number(part, 0, 1) for part in row) or len(row) not in (1, 3):
        raise ConfigurationError(
            "`background` is invalid.",
            expected="None, or one number or three (red, green, blue) in [0, 1]",
            received=f"background={background!r}",
        )
    return tuple(float(part) for part in row)


def _moments(normalize: Any, fitted: Preprocessing, sample: Sample | None) -> Rows:
    if isinstance(normalize, str) and normalize == "dataset":
        if sample is None:
            raise ConfigurationError('`normalize="dataset"` requires images.', fix="Pass a data set, or (mean, std).")
        return sample.moments(fitted)
    rows = IMAGENET if isinstance(normalize, str) and normalize == "imagenet" else normalize
    try:
        mean, std = (tuple(float(number) for number in row) for row in rows)
    except (TypeError, ValueError):
        mean, std = (), ()
    lengths_fit = len(mean) == len(std) == fitted.channels
    if isinstance(rows, str) or not lengths_fit or not np.isfinite([mean, std]).all() or min(std) <= 0:
        raise ConfigurationError(
            "`normalize` is invalid.",
            expected=f'None, "dataset", or (mean, std) of {fitted.channels} numbers each, std positive'
            + (', or "imagenet"' if fitted.channels == 3 else ""),
            received=f"normalize={normalize!r}",
            fix='Pass channels=3, or normalize="dataset".'
            if rows is IMAGENET
            else did_you_mean(normalize, ("dataset", "imagenet")),
        )
    return mean, std
