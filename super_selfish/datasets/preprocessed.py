"""What an image means to a network: its size, channels and scale, settled once and kept with the weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.resized_cache import open_cache
from super_selfish.datasets.scaling import as_float
from super_selfish.datasets.sources import open_source
from super_selfish.errors import CheckpointError, DataError, UnreadableImage, is_count, is_number
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.image_files import MAX_PIXELS, Header
from super_selfish.images.rectangles import center_crop

MINIMUM_SIDE = 32
_DAMAGED = "The stored preprocessing is damaged."
_BILINEAR_UP_TO = 1.75  # shrinking: nearer to Lanczos than an average over areas up to 1.5, and several times faster
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601
_is_size = partial(is_count, least=1)
_is_finite = partial(is_number, low=-math.inf, high=math.inf)

logger = logging.getLogger("super_selfish")


@dataclass(frozen=True)
class Preprocessing:
    """How every image of a training is brought to one form.

    Args:
        resolution: Height and width in pixels.
        channels: 1 and 3 are converted into each other; other numbers have to be what the images have.
        value_range: What becomes 0 and 1 where pixels are not uint8; None if they already are in [0, 1].
            What lies outside is clipped.
        mean: One number a channel on the scale [0, 1], or None.
        std: Likewise, positive.
        max_pixels: The largest image that is decoded.

    Examples:
        >>> import numpy as np
        >>> Preprocessing((32, 32), 3, None, None, None).image(np.zeros((40, 60, 1), np.uint8)).shape
        (32, 32, 3)
    """

    resolution: tuple[int, int]
    channels: int
    value_range: tuple[float, float] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    max_pixels: int = MAX_PIXELS

    def image(self, image: Image) -> Image:
        """Bring a canonical image to resolution, channels and scale; normalisation is left to the network's side.

        Args:
            image: H×W×C, uint8, uint16 or float32.

        Returns:
            The middle of the image, scaled to cover the resolution: uint8 stays so, anything else is float32 in [0, 1].

        Raises:
            DataError: If the channels cannot be converted, or values are not finite.
        """
        return np.ascontiguousarray(_fitted(self._with_channels(self._scaled(image)), *self.resolution))

    def visible(self, images: Tensor) -> Tensor:
        """Images (..., C, H, W) from a network as they can be looked at: not normalised, clipped to [0, 1]."""
        if self.mean is not None and self.std is not None:
            mean, std = (images.new_tensor(row).view(-1, 1, 1) for row in (self.mean, self.std))
            images = images * std + mean
        return images.clamp(0.0, 1.0)

    def as_json(self) -> dict[str, Any]:
        """Plain types, for :meth:`from_json`."""
        return {
            "resolution": list(self.resolution),
            "channels": self.channels,
            "value_range": None if self.value_range is None else list(self.value_range),
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "max_pixels": self.max_pixels,
        }

    @classmethod
    def from_json(cls, fields: object) -> Preprocessing:
        """Rebuild what :meth:`as_json` gave.

        Raises:
            CheckpointError: If a field is missing, unknown or of another type.
        """
        names = ("resolution", "channels", "value_range", "mean", "std", "max_pixels")
        if not isinstance(fields, Mapping) or set(fields) != set(names):
            raise CheckpointError(_DAMAGED, expected=f"the fields {names}", received=f"{fields}")
        channels = fields["channels"]
        right = {
            "resolution": _is_row(fields["resolution"], 2, _is_size),
            "channels": _is_size(channels),
            "value_range": fields["value_range"] is None
            or (_is_row(fields["value_range"], 2, _is_finite) and fields["value_range"][0] < fields["value_range"][1]),
            "mean": (fields["mean"] is None) == (fields["std"] is None)
            and (fields["mean"] is None or _is_row(fields["mean"], channels, _is_finite)),
            "std": fields["std"] is None or (_is_row(fields["std"], channels, _is_finite) and min(fields["std"]) > 0),
            "max_pixels": _is_size(fields["max_pixels"]),
        }
        wrong = [name for name in names if not right[name]]
        if wrong:
            received = ", ".join(f"{name}={fields[name]!r}" for name in wrong)
            raise CheckpointError(_DAMAGED, received=received)
        rows = {
            name: None if fields[name] is None else tuple(float(number) for number in fields[name])
            for name in ("value_range", "mean", "std")
        }
        height, width = fields["resolution"]
        return cls((height, width), channels, max_pixels=fields["max_pixels"], **rows)  # type: ignore[arg-type]

    def describe(self) -> str:
        """One line for people."""
        height, width = self.resolution
        parts = [f"{height}×{width} pixels", f"{self.channels} channel{'s' if self.channels > 1 else ''}"]
        if self.value_range is not None:
            parts.append(f"values from {self.value_range[0]:g} to {self.value_range[1]:g} scaled to [0, 1]")
        if self.mean is not None and self.std is not None:
            mean, std = (", ".join(f"{number:.3f}" for number in row) for row in (self.mean, self.std))
            parts.append(f"normalised with mean ({mean}) and std ({std})")
        return ", ".join(parts)

    def _scaled(self, image: Image) -> Image:
        if image.dtype == np.uint8:
            return image
        values = image.astype(np.float32)
        if not np.isfinite(values).all():
            raise UnreadableImage(
                "Pixel values are not finite.", fix='Mask or replace them, or leave the image out by on_error="skip".'
            )
        full = (0.0, 65535.0) if image.dtype == np.uint16 else (0.0, 1.0)
        low, high = self.value_range or full
        values -= np.float32(low)
        values /= np.float32(high - low)
        np.clip(values, 0.0, 1.0, out=values)
        return values

    def _with_channels(self, image: Image) -> Image:
        found = image.shape[2]
        check_channels(found, self.channels)
        if found == self.channels:
            return image
        if found == 1:
            return np.repeat(image, self.channels, axis=2)
        grey: Image = (image.astype(np.float32) @ LUMA)[:, :, None]
        if image.dtype == np.uint8:
            return np.rint(grey).astype(np.uint8)
        return np.clip(grey, 0.0, 1.0)


def _fitted(image: Image, height: int, width: int) -> Image:
    """The middle of an image, as much of it as has the shape wanted, at the size wanted."""
    scale = max(height / image.shape[0], width / image.shape[1])
    if scale >= 1.0:
        return functional.fit(image, height, width)
    middle = [min(there, round(side / scale)) for there, side in zip(image.shape, (height, width), strict=False)]
    image = center_crop(image, *middle)
    if scale * _BILINEAR_UP_TO >= 1.0:
        return functional.resample(image, (height, width))
    return functional.resize(image, height, width)


def check_channels(found: int, wanted: int) -> None:
    """Refuse numbers of channels that have no stated conversion.

    Raises:
        DataError: If ``found`` is neither 1 nor ``wanted``, unless 3 channels become 1.
    """
    if found not in (1, wanted) and (found, wanted) != (3, 1):
        raise DataError(
            f"An image has {found} channels where {wanted} are used.",
            expected=f"images with {wanted} channels; one is repeated, and three are turned into one grey",
            fix="Keep images of different kinds apart, or choose the number by `channels=`.",
        )


def _is_row(value: object, length: object, is_valid: Callable[[object], bool]) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length and all(map(is_valid, value))


class ImageDataset(ImageSource):
    """A source whose images come preprocessed.

    Args:
        source: Where images are read.
        preprocessing: What is done to them.
        cache: A folder to keep 8-bit images of files in once they are preprocessed; None: keep none.
    """

    def __init__(self, source: ImageSource, preprocessing: Preprocessing, cache: Path | None = None) -> None:
        self.source = source
        self._folder = cache
        self._stamp = source.stamp() if cache is not None else None
        if cache is not None and self._stamp is None:
            logger.warning("`cache` keeps images of files only: a folder, a list of paths or a CSV file.")
        self.preprocessing = preprocessing
        self.kind, self.class_names, self.thread_safe = source.kind, source.class_names, source.thread_safe
        self.overrides_indexing = type(self).__getitem__ is not ImageDataset.__getitem__

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to the images; may be set."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing
        self._large_enough = self.source.covering(preprocessing.resolution)
        self._cache = None
        if self._folder is not None and self._stamp is not None:
            self._cache = open_cache(self._folder, self._stamp, len(self.source), preprocessing.as_json())

    @classmethod
    def from_(cls, data: object, preprocessing: Preprocessing, minimum: int = 1) -> ImageDataset:
        """Open anything that :func:`open_source` takes; another ImageDataset is preprocessed anew from its source.

        Raises:
            ConfigurationError: If this kind of data is not accepted.
            DataError: If there are fewer than ``minimum`` images.
        """
        if isinstance(data, ImageDataset) and not data.overrides_indexing:
            data = data.source
        return cls(open_source(data, max_pixels=preprocessing.max_pixels, minimum=minimum), preprocessing)

    @property
    def cached(self) -> bool:
        """Whether preprocessed images are kept."""
        return self._cache is not None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Image ``index`` as a float tensor C×H×W in [0, 1] that is not normalised, and its label, or 0 without one."""
        image, label = self.item(index)
        return as_float(image), 0 if label is None else label

    def read(self, index: int) -> Image:
        """Image ``index``, preprocessed: H×W×C, uint8 in [0, 255] or float32 in [0, 1]."""
        kept = None if self._cache is None else self._cache.get(index)
        return self._apply(self._large_enough.read(index), index) if kept is None else kept

    def item(self, index: int) -> tuple[Image, int | None]:
        """Preprocessed image and label at the cost of one reading."""
        kept = None if self._cache is None else self._cache.get(index)
        if kept is not None:
            return kept, self.label(index)
        image, label = self._large_enough.item(index)
        return self._apply(image, index), label if self._labels is None else self.label(index)

    def with_target(self, index: int) -> tuple[Image, Any]:
        """Preprocessed image and target; the target as the source returns it."""
        image, target = self._large_enough.with_target(index)
        return self._apply(image, index), target if self._labels is None else self.label(index)

    def header(self, index: int) -> Header:
        """What :meth:`read` returns."""
        dtype = "uint8" if self.source.header(index).dtype == "uint8" else "float32"
        return Header(*self.preprocessing.resolution, self.preprocessing.channels, dtype)

    def name(self, index: int) -> str:
        """What the source calls image ``index``."""
        return self.source.name(index)

    def label(self, index: int) -> int | None:
        """The label that the source gives image ``index``."""
        return self.source.label(index) if self._labels is None else super().label(index)

    def keys(self) -> npt.NDArray[np.int64] | None:
        """The keys of the source."""
        return self.source.keys()

    def fingerprint(self) -> dict[str, int | str]:
        """The fingerprint of the source."""
        return self.source.fingerprint()

    def _apply(self, image: Image, index: int) -> Image:
        try:
            made = self.preprocessing.image(image)
        except DataError as error:
            raise type(error)(f"Image `{self.source.name(index)}`: {error}") from error
        if self._cache is not None:
            self._cache.put(index, made)
        return made
