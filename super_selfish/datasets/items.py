"""Items of custom data sets: extraction of image and label."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow

from super_selfish.errors import DataError, UnreadableImage
from super_selfish.images.arrays import to_numpy
from super_selfish.images.formats import EXTENSIONS

_IMAGE_KEYS = ("image", "img", "pixel_values", "picture", "photo", "images", "x")
LABEL_KEYS = ("label", "labels", "fine_label", "class", "target")


def is_encoded(value: object) -> bool:
    """Whether this is an encoded image of a Hugging Face data set."""
    return isinstance(value, Mapping) and bool(value) and set(value) <= {"bytes", "path"}


def is_nested_numbers(value: object) -> bool:
    """Whether this is an H×W nested list of Python numbers, as Hugging Face returns unformatted arrays."""
    while isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and value:
        value = value[0]
        if isinstance(value, Sequence) and value and isinstance(value[0], numbers.Real):
            return True
    return False


def looks_like_image(value: object) -> bool:
    """Whether a part of an item can be an image."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.ndim in (2, 3)
    if isinstance(value, str):
        return value.lower().endswith(EXTENSIONS)
    return isinstance(value, Pillow.Image) or is_encoded(value) or is_nested_numbers(value)


def find_image(item: Mapping[str, Any], index: int) -> str:
    """Return the key of the image in an item: its only common image key, or else the key of its only image.

    Raises:
        DataError: If the item has no image, or several.
    """
    found = [key for key, part in item.items() if looks_like_image(part)]
    usual = [key for key in found if str(key).lower() in _IMAGE_KEYS]
    candidates = usual or found
    if len(candidates) > 1:
        raise DataError(
            f"Item {index} of the data set has several images.",
            expected="one image, or image_key=",
            received=f"images under the keys {', '.join(map(repr, candidates))}",
            fix=f"Choose one, for example image_key={candidates[0]!r}; pass it to the supervisor or open_source().",
        )
    if not candidates:
        raise without_image(index, f"keys {list(item)}", "Pass the key of the image as image_key=.")
    return candidates[0]


def part_of(item: Any, key: str | int, keys: Sequence[Any], index: int) -> Any:
    """Return the part of an item with the given key.

    Raises:
        DataError: If the key is missing, or its value is None.
    """
    if key in keys and item[key] is not None:
        return item[key]
    raise without_image(index, f"keys {list(keys)}, without an image under {key!r}", None)


def without_image(index: int, received: str, fix: str | None) -> UnreadableImage:
    """Return the error for an item without an image."""
    return UnreadableImage(
        f"Item {index} of the data set has no image.",
        expected="a PIL image, an array, a tensor or encoded bytes under any key",
        received=received,
        fix=fix,
    )


def as_label(value: Any) -> int | None:
    """Convert a part of an item to an integer label; None if it is not an integer."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0 and to_array_kind(value) in "iu":
        return int(value)
    return None


def to_array_kind(value: torch.Tensor | npt.NDArray[Any]) -> str:
    """Return the NumPy kind of a dtype: "i" and "u" for integers, "f" for floats."""
    return to_numpy(value).dtype.kind if isinstance(value, torch.Tensor) else value.dtype.kind


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """Return the class names by label of a torchvision or Hugging Face data set, or of a ``Subset`` of one."""
    while isinstance(dataset, torch.utils.data.Subset):
        dataset = dataset.dataset
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):  # Hugging Face
        names = next((getattr(features[key], "names", None) for key in LABEL_KEYS if key in features), None)
    else:
        names = getattr(dataset, "classes", None)  # torchvision
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
