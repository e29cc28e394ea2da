"""Images in memory, and images that a data set of the user's own hands out."""

from __future__ import annotations

import hashlib
import io
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow

from super_selfish.datasets.image_source import ImageSource
from super_selfish.errors import ConfigurationError, DataError, UnreadableImage
from super_selfish.images.arrays import ALPHA_MODES, canonical, channels_last, to_image, to_numpy
from super_selfish.images.formats import EXTENSIONS
from super_selfish.images.functional import Image
from super_selfish.images.image_files import Header, decode

_IMAGE_KEYS = ("image", "img", "pixel_values", "picture", "photo", "images", "x")
_LABEL_KEYS = ("label", "labels", "fine_label", "class", "target")
_TARGET_KEYS = (*_LABEL_KEYS, "targets", "mask", "annotation")
_SAMPLED = 64


class ArraySource(ImageSource):
    """All images in one array or tensor.

    Args:
        data: N×H×W, N×H×W×C or N×C×H×W of any real dtype.

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
        self.array = array

    def __len__(self) -> int:
        """The number of images."""
        return len(self.array)

    def read(self, index: int) -> Image:
        """A copy of image ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} images; number {index} is not one of them.")
        return canonical(self.array[index])

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
    """

    kind = "dataset"

    def __init__(self, dataset: Any, max_pixels: int, thread_safe: bool = False) -> None:
        self.dataset = dataset
        self.max_pixels = max_pixels
        self.thread_safe = thread_safe
        self._image_key: str | None = None
        self.class_names = _class_names(dataset)

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
        value, label = self._split(self._fetch(index), index)
        return self._read(value, index), label if self._labels is None else super().label(index)

    def with_target(self, index: int) -> tuple[Image, Any]:
        """Image and target of item ``index``, the target as the data set returns it."""
        item = self._fetch(index)
        value, target = self._split(item, index)
        if self._labels is not None:
            target = super().label(index)
        elif isinstance(item, Mapping):
            target = next((item[key] for key in _TARGET_KEYS if item.get(key) is not None), None)
        elif value is not item and len(item) > 1:
            target = item[1]
        return self._read(value, index), target

    def _read(self, value: Any, index: int) -> Image:
        try:
            return self._to_image(value)
        except DataError as error:
            raise UnreadableImage(f"Item {index} of the data set: {error}") from error
        except Exception as error:  # lazily loaded PIL images fail here, in any way
            raise UnreadableImage(
                f"Item {index} of the data set cannot be read: {error or type(error).__name__}"
            ) from error

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
        if isinstance(item, Mapping) and not _is_encoded(item):
            key = self._image_key
            if key is None or key not in item or not _looks_like_image(item[key]):
                key = self._image_key = _find_image(item, index)
            label = next((found for name in _LABEL_KEYS if (found := _as_label(item.get(name))) is not None), None)
            return item[key], label
        if isinstance(item, (tuple, list)) and item and not _is_nested_numbers(item):
            return item[0], _as_label(item[1]) if len(item) > 1 else None
        return item, None

    def _to_image(self, value: Any) -> Image:
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, (bytes, bytearray)):
            value = io.BytesIO(value)
        if isinstance(value, (str, os.PathLike, io.BytesIO)):
            image, alpha = decode(value, self.max_pixels, "encoded bytes")
            self._log_alpha(alpha)
            return image
        if isinstance(value, Pillow.Image):
            self._log_alpha(value.mode in ALPHA_MODES)
        return to_image(np.asarray(value) if isinstance(value, (list, tuple)) else value)


def evenly_spaced(length: int, count: int) -> list[int]:
    """Up to ``count`` of the numbers below ``length``, first and last included."""
    if length <= count:
        return list(range(length))
    return [step * (length - 1) // max(1, count - 1) for step in range(count)]


def _is_encoded(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and set(value) <= {"bytes", "path"}


def _is_nested_numbers(value: object) -> bool:
    """Whether this is H×W of Python numbers, which is how Hugging Face gives unformatted arrays."""
    while isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and value:
        value = value[0]
        if isinstance(value, Sequence) and value and isinstance(value[0], numbers.Real):
            return True
    return False


def _looks_like_image(value: object) -> bool:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.ndim in (2, 3)
    if isinstance(value, str):
        return value.lower().endswith(EXTENSIONS)
    return isinstance(value, Pillow.Image) or _is_encoded(value) or _is_nested_numbers(value)


def _find_image(item: Mapping[str, Any], index: int) -> str:
    for key in (*_IMAGE_KEYS, *item):
        if key in item and _looks_like_image(item[key]):
            return key
    raise DataError(
        f"Item {index} of the data set has no image.",
        expected="a PIL image, an array, a tensor or encoded bytes under some key",
        received=f"keys {list(item)}",
    )


def _as_label(value: Any) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0 and to_array_kind(value) in "iu":
        return int(value)
    return None


def to_array_kind(value: torch.Tensor | npt.NDArray[Any]) -> str:
    """The numpy letter of a dtype: "i" and "u" for integers, "f" for floats."""
    return to_numpy(value).dtype.kind if isinstance(value, torch.Tensor) else value.dtype.kind


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):  # Hugging Face
        names = next((getattr(features[key], "names", None) for key in _LABEL_KEYS if key in features), None)
    else:
        names = getattr(dataset, "classes", None)  # torchvision
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
