"""Sources of images in memory, and of custom data sets."""

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
    from_pillow,
    has_alpha,
    precision_notes,
    to_image,
    to_numpy,
)
from super_selfish.images.exif import exif_orientation
from super_selfish.images.functional import Image
from super_selfish.images.image_files import DROP_ALPHA, AlphaRule, Header
from super_selfish.images.open_image import Mask

_TARGET_KEYS = (*LABEL_KEYS, "targets", "mask", "annotation")
_SAMPLED = 64


class ArraySource(ImageSource):
    """All images in one array or tensor.

    Args:
        data: N×H×W, N×H×W×C or N×C×H×W of any real dtype. Masked pixels of a masked array are missing.

    Raises:
        ConfigurationError: If ``data`` has another number of axes or another dtype.
        DataError: If no axis can be the channels.
    """

    kind = "arrays"
    thread_safe = True

    def __init__(self, data: npt.NDArray[Any] | torch.Tensor) -> None:
        is_tensor = isinstance(data, torch.Tensor)
        if isinstance(data, torch.Tensor) and (data.is_meta or data.layout is not torch.strided):
            raise ConfigurationError(
                "The tensor does not hold images.",
                expected="a dense tensor with values",
                received=f"a tensor of layout {data.layout} on device {data.device}",
            )
        array: npt.NDArray[Any] = to_numpy(data) if isinstance(data, torch.Tensor) else data
        received = f"{'a tensor' if is_tensor else 'an array'} of shape {tuple(array.shape)} and type {array.dtype}"
        if array.dtype.kind not in "buif" or array.ndim not in (3, 4) or 0 in array.shape[1:]:
            raise ConfigurationError(
                "The array does not hold images.", expected="N×H×W, N×H×W×C or N×C×H×W, real numbers", received=received
            )
        if array.ndim == 3 and array.shape[2] <= 4 < array.shape[0]:
            raise ConfigurationError(
                "The array looks like a single image, H×W×C.",
                expected="several images, N×H×W×C",
                received=received,
                fix="Pass a list of images, or stack them.",
            )
        if array.ndim == 4 and not channels_last(array.shape[1:], default_last=not is_tensor):
            array = np.moveaxis(array, 1, -1)
        self.array = np.ma.getdata(array)
        self.mask = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.array)

    def read(self, index: int) -> Image:
        """Return a copy of image ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} is out of range for {len(self)} images.")
        with precision_notes() as notes:
            image = canonical(self.array[index])
        self._warn_of(str(index), 0, False, 0, notes)
        return image

    def load(self, index: int) -> Loaded:
        """Return a copy of image ``index``, with its label and mask."""
        missing = None if self.mask is None else self.mask[index].reshape(*self.mask.shape[1:3], -1)
        return Loaded(self.read(index), self.label(index), missing)

    def header(self, index: int) -> Header:
        """Return the shape, which all images share, and the dtype of image ``index``."""
        shape, dtype = self.array.shape, self.array.dtype
        if dtype.kind in "iu" and dtype not in (np.uint8, np.uint16):
            name = self.read(index).dtype.name  # depends on the values
        else:
            name = {"b": "uint8", "f": "float32"}.get(dtype.kind, dtype.name)
        return Header(shape[1], shape[2], shape[3] if len(shape) == 4 else 1, name)

    def fingerprint(self) -> dict[str, int | str]:
        """Return a hash of shape, dtype and up to 64 evenly spaced images."""
        digest = hashlib.sha256(repr((self.array.shape, self.array.dtype.str)).encode())
        for index in evenly_spaced(len(self), _SAMPLED):
            digest.update(np.ascontiguousarray(self.array[index]).tobytes())
        return {"kind": self.kind, "length": len(self), "sha256": digest.hexdigest()}


class DatasetSource(ImageSource):
    """A map-style data set, or a list of images.

    Args:
        dataset: Any object with ``__len__`` and integer indexing. An item is an image, a tuple whose first entry is an
            image (an integer after it is the label), or a dict that contains an image. Images may be PIL images,
            arrays, tensors, encoded bytes, or paths.
        max_pixels: Maximum number of pixels of an image that is decoded here.
        thread_safe: Whether several threads may index ``dataset`` at the same time.
        image_key: Key of the image in a dict, or its index in a tuple. None: the only common image key of a dict, or
            else its only image; the first entry of a tuple.
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
        """Return the length of the data set."""
        return len(self.dataset)

    def read(self, index: int) -> Image:
        """Return the image of item ``index``."""
        return self.item(index)[0]

    def label(self, index: int) -> int | None:
        """Return the label of item ``index``; this takes as long as reading the image."""
        if self._labels is not None:
            return super().label(index)
        return self._split(self._fetch(index), index)[1]

    def item(self, index: int) -> tuple[Image, int | None]:
        """Return the image and label of item ``index``, which is fetched once."""
        image, label, _ = self.load(index)
        return image, label

    def load(self, index: int) -> Loaded:
        """Return the image, label and mask of item ``index``, which is fetched once."""
        value, label = self._split(self._fetch(index), index)
        return self._read(value, index, label if self._labels is None else super().label(index))

    def with_target(self, index: int) -> tuple[Loaded, Any]:
        """Return the image and the target of item ``index``; the target is not changed."""
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
            with precision_notes() as notes:
                image, missing = self._to_image(value, index)
            self._warn_of(str(index), 0, False, 0, notes)
        except DataError as error:
            raise UnreadableImage(f"Item {index} of the data set: {error}") from error
        except Exception as error:  # lazily loaded PIL images can raise arbitrary exceptions here
            raise UnreadableImage(
                f"Item {index} of the data set cannot be read: {error or type(error).__name__}"
            ) from error
        return Loaded(image, label, missing)

    def with_alpha(self, rule: AlphaRule) -> DatasetSource:
        """Return the same images with another rule for alpha channels, which applies to PIL and encoded images."""
        other = copy.copy(self)
        other._alpha = rule
        return other

    def header(self, index: int) -> Header:
        """Return the shape and dtype of image ``index``, which has to be read."""
        image = self.read(index)
        height, width, channels = image.shape
        return Header(height, width, channels, image.dtype.name)

    def fingerprint(self) -> dict[str, int | str]:
        """Return a hash of length and type; hashing the content would require reading all images."""
        kind = type(self.dataset)
        text = f"{kind.__module__}.{kind.__qualname__}:{len(self)}"
        return {"kind": self.kind, "length": len(self), "sha256": hashlib.sha256(text.encode()).hexdigest()}

    def _fetch(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} is out of range for {len(self)} images.")
        try:
            return self.dataset[int(index)]
        except Exception as error:  # user code
            reason = f"{type(error).__name__}: {error}"
            raise UnreadableImage(f"Item {index} of the data set cannot be read: {reason}") from error

    def _split(self, item: Any, index: int) -> tuple[Any, int | None]:
        """Return the image of an item, not decoded, and its label."""
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
            raise without_image(index, f"one {type(item).__name__}", f"Remove image_key={self.image_key!r}.")
        return item, None

    def _place(self, item: Sequence[Any]) -> str | int:
        """Return the index of the image in a tuple; log once if the tuple has several images."""
        if self.image_key is not None:
            return self.image_key
        several = [place for place, part in enumerate(item) if looks_like_image(part)]
        if len(several) > 1:
            message = "Items have images at positions %s; the first is used. Pass image_key= to use another one."
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

    def _from_pillow(self, original: Pillow.Image, index: int) -> Image:
        """Convert a Pillow image with an alpha channel by the rule for alpha channels."""
        image = from_pillow(original, alpha=True)
        if self._alpha.channels != image.shape[2]:
            if self._alpha.background is None:
                self._warn_of(str(index), image.shape[2] - 1, True, 0, ())
                return to_image(original)
            image = blended(image, self._alpha.background)
        return apply_orientation(image, exif_orientation(original))


def _masked(value: np.ma.MaskedArray[Any, Any]) -> tuple[Image, Mask]:
    """Return the image and mask of a masked array, both as H×W×C."""
    data, mask = np.ma.getdata(value), np.ma.getmaskarray(value)
    if value.ndim == 3 and 0 not in value.shape and not channels_last(value.shape, default_last=True):
        data, mask = np.moveaxis(data, 0, -1), np.moveaxis(mask, 0, -1)
    return canonical(data), mask[:, :, None] if mask.ndim == 2 else mask


def evenly_spaced(length: int, count: int) -> list[int]:
    """Return up to ``count`` evenly spaced integers in [0, length), including the first and the last."""
    if length <= count:
        return list(range(length))
    return [step * (length - 1) // max(1, count - 1) for step in range(count)]
