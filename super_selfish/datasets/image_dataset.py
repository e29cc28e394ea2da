"""Preprocessed images of a source."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from super_selfish.datasets.image_source import ImageSource, Loaded
from super_selfish.datasets.preprocessed import Preprocessing
from super_selfish.datasets.resized_cache import open_cache
from super_selfish.datasets.scaling import as_float
from super_selfish.datasets.sources import open_source
from super_selfish.errors import DataError
from super_selfish.images.functional import Image
from super_selfish.images.image_files import Header, printable

_CLIPPED_BY_PERCENTILES = 0.01  # fraction of float values; their range excludes 0.2 % of the sample by design
_OUTSIDE_UNIT = 0.01  # fraction of values that resampling may move out of [0, 1]

logger = logging.getLogger("super_selfish")


class ImageDataset(ImageSource):
    """Data set of the preprocessed images of a source.

    Args:
        source: Source of the images.
        preprocessing: Preprocessing applied to each image.
        cache: Folder in which preprocessed 8-bit images of files are cached. None: no cache.
        sampled_range: Whether the value range was estimated from a sample; values outside it then log a warning.
    """

    def __init__(
        self,
        source: ImageSource,
        preprocessing: Preprocessing,
        cache: Path | None = None,
        sampled_range: bool = False,
    ) -> None:
        self.source = source
        self.sampled_range = sampled_range
        self._folder = cache
        self._stamp = source.stamp() if cache is not None else None
        if cache is not None and self._stamp is None:
            logger.warning("`cache` supports image files only: a folder, a list of paths or a CSV file.")
        self.preprocessing = preprocessing
        self.kind, self.class_names, self.thread_safe = source.kind, source.class_names, source.thread_safe
        self.overrides_indexing = type(self).__getitem__ is not ImageDataset.__getitem__

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing applied to each image; can be set."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing
        self._large_enough = self.source.with_alpha(preprocessing.alpha_rule).covering(preprocessing.resolution)
        self._cache = None
        if self._folder is not None and self._stamp is not None:
            self._cache = open_cache(self._folder, self._stamp, len(self.source), preprocessing.as_json())

    @classmethod
    def from_(cls, data: object, preprocessing: Preprocessing, minimum: int = 1) -> ImageDataset:
        """Open any data that :func:`open_source` accepts; of an ImageDataset, the source is used.

        Raises:
            ConfigurationError: If the type of ``data`` is not supported.
            DataError: If there are fewer than ``minimum`` images.
        """
        if isinstance(data, ImageDataset) and not data.overrides_indexing:
            data = data.source
        return cls(open_source(data, max_pixels=preprocessing.max_pixels, minimum=minimum), preprocessing)

    @property
    def cached(self) -> bool:
        """Whether preprocessed images are cached."""
        return self._cache is not None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return image ``index`` as a float tensor C×H×W in [0, 1], not normalised, and its label (0 if None)."""
        image, label = self.item(index)
        return as_float(image), 0 if label is None else label

    def read(self, index: int) -> Image:
        """Return the preprocessed image ``index``: H×W×C, uint8 in [0, 255] or float32 in [0, 1]."""
        kept = None if self._cache is None else self._cache.get(index)
        return self._apply(self._large_enough.load(index), index) if kept is None else kept

    def item(self, index: int) -> tuple[Image, int | None]:
        """Return the preprocessed image and its label; the item is read once."""
        kept = None if self._cache is None else self._cache.get(index)
        if kept is not None:
            return kept, self.label(index)
        loaded = self._large_enough.load(index)
        return self._apply(loaded, index), loaded.label if self._labels is None else self.label(index)

    def with_target(self, index: int) -> tuple[Loaded, Any]:
        """Return the preprocessed image and its target, which is not changed."""
        loaded, target = self._large_enough.with_target(index)
        image = self._apply(loaded, index)
        return Loaded(image, loaded.label), target if self._labels is None else self.label(index)

    def header(self, index: int) -> Header:
        """Return the shape and dtype of the result of :meth:`read`."""
        dtype = "uint8" if self.source.header(index).dtype == "uint8" else "float32"
        return Header(*self.preprocessing.resolution, self.preprocessing.channels, dtype)

    def name(self, index: int) -> str:
        """Return the name of image ``index`` in the source."""
        return self.source.name(index)

    def label(self, index: int) -> int | None:
        """Return the label of image ``index``."""
        return self.source.label(index) if self._labels is None else super().label(index)

    def keys(self) -> npt.NDArray[np.int64] | None:
        """Return the keys of the source."""
        return self.source.keys()

    def fingerprint(self) -> dict[str, int | str]:
        """Return the fingerprint of the source."""
        return self.source.fingerprint()

    def _apply(self, loaded: Loaded, index: int) -> Image:
        try:
            made = self.preprocessing.image(loaded.image, loaded.missing)
        except DataError as error:
            raise type(error)(f"Image `{printable(self.source.name(index))}`: {error}") from error
        if self.sampled_range and loaded.image.dtype != np.uint8:
            self._warn_of_clipping(loaded, index)
        elif self.preprocessing.value_range is None and loaded.image.dtype == np.float32:
            self._warn_of_scale(loaded, index)
        if self._cache is not None:
            self._cache.put(index, made)
        return made

    def _warn_of_scale(self, loaded: Loaded, index: int) -> None:
        fraction = self.preprocessing.clipped(loaded.image, loaded.missing)
        if fraction > _OUTSIDE_UNIT:
            self._warn_once(
                "scale",
                "%.2g %% of the values of image `%s` are outside the range 0 to 1 that is expected of floats here, and "
                "are clipped. Pass 8-bit values as uint8, or divide them by 255.",
                100 * fraction,
                printable(self.source.name(index)),
            )

    def _warn_of_clipping(self, loaded: Loaded, index: int) -> None:
        fraction = self.preprocessing.clipped(loaded.image, loaded.missing)
        allowed = 0.0 if loaded.image.dtype == np.uint16 else _CLIPPED_BY_PERCENTILES
        if fraction > allowed:
            low, high = self.preprocessing.value_range or (0.0, 1.0)
            self._warn_once(
                "clipped",
                "%.2g %% of the values of image `%s` are outside the range %g to %g, which was estimated from a sample "
                'of the images, and are clipped. Other images may be affected. Pass value_range="all" to use the range '
                "of all images, or value_range=(low, high). `super-selfish check` counts such values.",
                100 * fraction,
                printable(self.source.name(index)),
                low,
                high,
            )
