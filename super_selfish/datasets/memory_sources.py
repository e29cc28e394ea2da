"""Images in memory, and images that a data set of the user's own hands out."""

from __future__ import annotations

import copy
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow

from super_selfish.datasets.image_source import ImageSource, Loaded
from super_selfish.datasets.items import (
    LABEL_KEYS,
    as_label,
    class_names,
    find_image,
    is_encoded,
    is_nested_numbers,
    looks_like_image,
    part_of,
    without_image,
)
from super_selfish.errors import ConfigurationError, DataError, UnreadableImage
from super_selfish.images import image_files
from super_selfish.images.arrays import (
    apply_orientation,
    blended,
    canonical,
    channels_last,
    exif_orientation,
    from_pillow,
    has_alpha,
    to_image,
    to_numpy,
)
from super_selfish.images.functional import Image
from super_selfish.images.image_files import DROP_ALPHA, AlphaRule, Header
from super_selfish.images.open_image import Mask

_TARGET_KEYS = (*LABEL_KEYS, "targets", "mask", "annotation")
_SAMPLED = 64


class ArraySource(ImageSource):
    """All images in one array or tensor.

    Args:
        data: N×H×W, N×H×W×C or N×C×H×W of any real dtype. What a masked array masks holds no data.

    Raises:
        ConfigurationError: If it has other axes or another dtype.
        DataError: If no axis can be the channels.
    """

    kind = "arrays"
    thread_safe = True

    def __init__(self, data: npt.NDArray[Any] | torch.Tensor) -> None:
        is_tensor = isinstance(data, torch.Tensor)
        array: npt.NDArray[Any] = to_numpy(data) if isinstance(data, torch.Tensor) else data
        received = f"{'a tensor' if is_tensor else 'an array'} of shape {tuple(array.shape)} and type {array.dtype}"
        if array.dtype.kind not in "buif" or array.ndim not in (3, 4) or 0 in array.shape[1:]:
            raise ConfigurationError(
                "The array does not hold images.", expected="numbers as N×H×W, N×H×W×C or N×C×H×W", received=received
            )
        if array.ndim == 3 and array.shape[2] <= 4 < array.shape[0]:
            raise ConfigurationError(
                "This looks like one image, H×W×C.",
                expected="several images, N×H×W×C",
                received=received,
                fix="Collect your images in a list, or stack them.",
            )
        if array.ndim == 4 and not channels_last(array.shape[1:], default_last=not is_tensor):
            array = np.moveaxis(array, 1, -1)
        self.array = np.ma.getdata(array)
        self.mask = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.array)

    def read(self, index: int) -> Image:
        """A copy of image ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} images; number {index} is not one of them.")
        return canonical(self.array[index])

    def load(self, index: int) -> Loaded:
        """A copy of image ``index``, with its label and mask."""
        missing = None if self.mask is None else self.mask[index].reshape(*self.mask.shape[1:3], -1)
        return Loaded(self.read(index), self.label(index), missing)

    def header(self, index: int) -> Header:
        """The shape that all images share."""
        shape, dtype = self.array.shape, self.array.dtype
        if dtype.kind in "iu" and dtype not in (np.uint8, np.uint16):
            name = self.read(index).dtype.name  # the values decide
        else:
            name = {"b": "uint8", "f": "float32"}.get(dtype.kind, dtype.name)
        return Header(shape[1], shape[2], shape[3] if len(shape) == 4 else 1, name)

    def fingerprint(self) -> dict[str, int | str]:
        """A hash of shape, dtype and up to 64 evenly spaced images."""
        digest = hashlib.sha256(repr((self.array.shape, self.array.dtype.str)).encode())
        for index in evenly_spaced(len(self), _SAMPLED):
            digest.update(np.ascontiguousarray(self.array[index]).tobytes())
        return {"kind": self.kind, "length": len(self), "sha256": digest.hexdigest()}


class DatasetSource(ImageSource):
    """A map-style data set, or a list of images.

    Args:
        dataset: Anything with ``len`` and integer indexing. An item is an image, a tuple that begins with one (an
            integer after it is the label), or a dict that contains one. Images may be PIL images, arrays, tensors,
            encoded bytes, or paths.
        max_pixels: The largest image that is decoded here.
        thread_safe: Whether several threads may index it at once.
        image_key: The key, or the place in a tuple, of the image. None: of a dict, the one usual name of an image that
            it has, or else its only image; of a tuple, its first part.
    """

    kind = "dataset"

    def __init__(
        self, dataset: Any, max_pixels: int, thread_safe: bool = False, image_key: str | int | None = None
    ) -> None:
        self.dataset = dataset
        self.max_pixels = max_pixels
        self.thread_safe = thread_safe
        self.image_key = image_key
        self._alpha = DROP_ALPHA
        self._warned = set()  # shared by copies
        self.class_names = class_names(dataset)

    def __len__(self) -> int:
        """The length of the data set."""
        return len(self.dataset)

    def read(self, index: int) -> Image:
        """The image of item ``index``."""
        return self.item(index)[0]

    def label(self, index: int) -> int | None:
        """The integer that comes with item ``index``; costs as much as reading the image."""
        if self._labels is not None:
            return super().label(index)
        return self._split(self._fetch(index), index)[1]

    def item(self, index: int) -> tuple[Image, int | None]:
        """Image and label of item ``index``, which is asked for once."""
        image, label, _ = self.load(index)
        return image, label

    def load(self, index: int) -> Loaded:
        """Image, label and mask of item ``index``, which is asked for once."""
        value, label = self._split(self._fetch(index), index)
        return self._read(value, index, label if self._labels is None else super().label(index))

    def with_target(self, index: int) -> tuple[Loaded, Any]:
        """Image and target of item ``index``, the target as the data set returns it."""
        item = self._fetch(index)
        value, label = self._split(item, index)
        target: Any = label
        if self._labels is not None:
            target = super().label(index)
        elif isinstance(item, Mapping):
            target = next((item[key] for key in _TARGET_KEYS if item.get(key) is not None), None)
        elif value is not item and len(item) > 1:
            target = item[1]
        return self._read(value, index, label), target

    def _read(self, value: Any, index: int, label: int | None) -> Loaded:
        try:
            image, missing = self._to_image(value, index)
        except DataError as error:
            raise UnreadableImage(f"Item {index} of the data set: {error}") from error
        except Exception as error:  # lazily loaded PIL images fail here, in any way
            raise UnreadableImage(
                f"Item {index} of the data set cannot be read: {error or type(error).__name__}"
            ) from error
        return Loaded(image, label, missing)

    def with_alpha(self, rule: AlphaRule) -> DatasetSource:
        """The same images with another rule for alpha channels, where they are Pillow images or encoded."""
        other = copy.copy(self)
        other._alpha = rule
        return other

    def header(self, index: int) -> Header:
        """The shape of image ``index``, which has to be read for it."""
        image = self.read(index)
        height, width, channels = image.shape
        return Header(height, width, channels, image.dtype.name)

    def fingerprint(self) -> dict[str, int | str]:
        """A hash of length and type: the content would have to be read."""
        kind = type(self.dataset)
        text = f"{kind.__module__}.{kind.__qualname__}:{len(self)}"
        return {"kind": self.kind, "length": len(self), "sha256": hashlib.sha256(text.encode()).hexdigest()}

    def _fetch(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} images; number {index} is not one of them.")
        try:
            return self.dataset[int(index)]
        except Exception as error:  # a user's code
            reason = f"{type(error).__name__}: {error}"
            raise UnreadableImage(f"Item {index} of the data set cannot be read: {reason}") from error

    def _split(self, item: Any, index: int) -> tuple[Any, int | None]:
        """The image of an item, not decoded, and its label."""
        if isinstance(item, Mapping) and not is_encoded(item):
            if self.image_key is None:
                self.image_key = find_image(item, index)
            label = next((found for name in LABEL_KEYS if (found := as_label(item.get(name))) is not None), None)
            return part_of(item, self.image_key, list(item), index), label
        if isinstance(item, (tuple, list)) and item and not is_nested_numbers(item):
            place = self._place(item)
            others = [part for number, part in enumerate(item) if number != place]
            return part_of(item, place, range(len(item)), index), as_label(others[0]) if others else None
        if self.image_key is not None:
            raise without_image(index, f"one {type(item).__name__}", f"Leave out image_key={self.image_key!r}.")
        return item, None

    def _place(self, item: Sequence[Any]) -> str | int:
        """Where the image is in a tuple; it is logged once if the tuple has several."""
        if self.image_key is not None:
            return self.image_key
        several = [place for place, part in enumerate(item) if looks_like_image(part)]
        if len(several) > 1:
            message = "Items hold images at %s: the first is used. image_key= chooses another."
            self._warn_once("several", message, several)
        return 0

    def _to_image(self, value: Any, index: int) -> tuple[Image, Mask | None]:
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, (bytes, bytearray)):
            value = io.BytesIO(value)
        if isinstance(value, (str, os.PathLike, io.BytesIO)):
            found = image_files.load(value, self.max_pixels, "encoded bytes", alpha=self._alpha)
            self._warn_of(str(index), found.image.shape[2], found.alpha, found.left_out, found.notes)
            return found.image, found.missing
        if isinstance(value, Pillow.Image) and has_alpha(value):
            return self._from_pillow(value, index), None
        if isinstance(value, np.ma.MaskedArray):
            return _masked(value)
        return to_image(np.asarray(value) if isinstance(value, (list, tuple)) else value), None

    def _from_pillow(self, picture: Pillow.Image, index: int) -> Image:
        """A Pillow image with an alpha channel by the rule for these."""
        image = from_pillow(picture, alpha=True)
        if self._alpha.channels != image.shape[2]:
            if self._alpha.background is None:
                self._warn_of(str(index), image.shape[2] - 1, True, 0, ())
                return to_image(picture)
            image = blended(image, self._alpha.background)
        return apply_orientation(image, exif_orientation(picture))


def _masked(value: np.ma.MaskedArray[Any, Any]) -> tuple[Image, Mask]:
    """An image and what is masked of it, in the same layout."""
    data, mask = np.ma.getdata(value), np.ma.getmaskarray(value)
    if value.ndim == 3 and 0 not in value.shape and not channels_last(value.shape, default_last=True):
        data, mask = np.moveaxis(data, 0, -1), np.moveaxis(mask, 0, -1)
    return canonical(data), mask[:, :, None] if mask.ndim == 2 else mask


def evenly_spaced(length: int, count: int) -> list[int]:
    """Up to ``count`` of the numbers below ``length``, first and last included."""
    if length <= count:
        return list(range(length))
    return [step * (length - 1) // max(1, count - 1) for step in range(count)]
