"""One door for every kind of data: :func:`open_source`."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from torch.utils.data import DataLoader, IterableDataset

from super_selfish.datasets.file_sources import FileSource, open_folder, open_paths
from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.items import to_array_kind
from super_selfish.datasets.memory_sources import ArraySource, DatasetSource, evenly_spaced
from super_selfish.datasets.tables import open_table
from super_selfish.errors import ConfigurationError, DataError, validate_keywords
from super_selfish.images.formats import EXTENSIONS
from super_selfish.images.image_files import MAX_PIXELS, printable

__all__ = ["ArraySource", "DatasetSource", "FileSource", "ImageSource", "evenly_spaced", "open_source"]

_ACCEPTED = (
    "a folder, a list of paths, a CSV file of paths, an array (N×H×W×C or N×H×W), a tensor (N×C×H×W or N×H×W), "
    "a list of images, (images, labels), a map-style Dataset or a Hugging Face data set"
)


@validate_keywords()
def open_source(
    data: object, *, max_pixels: int = MAX_PIXELS, minimum: int = 1, image_key: str | int | None = None
) -> ImageSource:
    """Open any kind of data as images that are read by index.

    Args:
        data: A folder (searched at any depth), a list of paths, a CSV file with a column of paths, an array N×H×W[×C],
            a tensor N×C×H×W or N×H×W, a list of images, a tuple (images, labels), a map-style Dataset, a Hugging Face
            data set, or an ImageSource, which is returned as it is.
        max_pixels: The largest image, in pixels, that is decoded.
        minimum: How many images there have to be.
        image_key: Where the items of a data set hold the image: a key of a dict, or a place in a tuple. None: of a
            dict, the one usual name of an image that it has (``"image"``, say), or else its only image; of a tuple, the
            first.

    Raises:
        ConfigurationError: If this kind of data is not accepted, or a path leads to no folder.
        DataError: If there are fewer than ``minimum`` images.
    """
    source = _open(data, max_pixels)
    if image_key is not None:
        source = _with_image_key(source, image_key)
    if len(source) < max(1, minimum):
        raise DataError(
            "There are too few images.",
            expected=f"at least {max(1, minimum)}",
            received=f"{len(source)}",
            fix="Self-supervised learning compares images with each other: add more." if minimum > 1 else None,
        )
    return source


def _with_image_key(source: ImageSource, key: str | int) -> ImageSource:
    """The same data set with the images under a key."""
    if not isinstance(source, DatasetSource):
        raise ConfigurationError(
            "`image_key` has no place here.",
            expected="a data set, or a list, whose items are dicts or tuples",
            received=f"image_key={key!r} for {source.kind}",
        )
    chosen = copy.copy(source)
    chosen.image_key = key
    return chosen


def _open(data: object, max_pixels: int) -> ImageSource:
    if isinstance(data, ImageSource):
        return DatasetSource(data, max_pixels) if data.overrides_indexing else data
    if isinstance(data, (str, os.PathLike)):
        return _open_path(data, max_pixels)
    if isinstance(data, np.ndarray) and data.dtype.kind in "OUS":
        data = data.tolist()
    if isinstance(data, (np.ndarray, torch.Tensor)):
        return ArraySource(data)
    if isinstance(data, tuple) and len(data) == 2 and data[1] is None:
        return _open(data[0], max_pixels)
    if isinstance(data, tuple) and len(data) == 2 and _is_labels(data[1]):
        return _open_labelled(data[0], data[1], max_pixels)
    if isinstance(data, (list, tuple)):
        return _open_list(data, max_pixels)
    return _open_dataset(data, max_pixels)


def _open_path(data: str | os.PathLike[str], max_pixels: int) -> ImageSource:
    text = os.fspath(data)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ConfigurationError("This is not the path of a folder.", received=repr(data))
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    if path.is_dir():
        return open_folder(str(path), max_pixels)
    if path.suffix.lower() == ".csv" and path.is_file():
        return open_table(path, max_pixels)
    if path.is_file():
        single = path.suffix.lower() in EXTENSIONS
        raise ConfigurationError(
            f"`{printable(path)}` is a single image." if single else f"`{printable(path)}` is not a folder.",
            expected="a folder of images, or a .csv file that lists them",
            received=f"a file ending in {path.suffix or 'nothing'}",
            fix="Give the folder it lies in." if single else "Unpack archives, and load arrays first (np.load).",
        )
    raise ConfigurationError(
        f"There is no folder `{printable(path)}`.",
        received=f"a path that is looked for from `{printable(Path.cwd())}`" if not path.is_absolute() else None,
        fix="Check the spelling, or give an absolute path.",
    )


def _open_list(data: list[Any] | tuple[Any, ...], max_pixels: int) -> ImageSource:
    if not data:
        raise DataError("The list of images is empty.")
    paths = sum(isinstance(item, (str, os.PathLike)) for item in data)
    if paths == len(data):
        return open_paths(data, max_pixels)
    first = data[0]
    if paths == 0 and isinstance(first, (Pillow.Image, np.ndarray, torch.Tensor, tuple, list, Mapping, bytes)):
        in_memory = all(isinstance(item, (np.ndarray, torch.Tensor)) for item in data)
        return DatasetSource(data, max_pixels, thread_safe=in_memory)  # Pillow decodes on first use, not twice at once
    kinds = sorted({type(item).__qualname__ for item in data})
    raise ConfigurationError(
        "The list does not hold images.",
        expected="paths only, or PIL images, arrays, tensors or (image, label) pairs only",
        received=f"a list of {', '.join(kinds[:5])}",
    )


def _is_labels(value: object) -> bool:
    """Whether the second of two things is meant as labels, right or wrong, rather than as a second image or path."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return value.ndim < 2 or (value.ndim == 2 and 1 in value.shape)
    return isinstance(value, (list, tuple, range)) and not any(isinstance(item, Pillow.Image) for item in value)


def _open_labelled(images: object, labels: Any, max_pixels: int) -> ImageSource:
    source = _open(images, max_pixels)
    try:
        array: npt.NDArray[Any] | torch.Tensor = labels if isinstance(labels, torch.Tensor) else np.asarray(labels)
        right = array.ndim == 1 and to_array_kind(array) in "iub"
    except (ValueError, TypeError):  # ragged
        array, right = np.array(None), False
    if not right or array.shape[0] != len(source):
        raise ConfigurationError(
            "The labels do not fit the images.",
            expected=f"{len(source)} integers in one row, one for each image",
            received=f"labels of shape {tuple(array.shape)} and type {array.dtype}",
        )
    numbers = array.cpu().numpy() if isinstance(array, torch.Tensor) else array
    return source.with_labels(numbers.astype(np.int64))


def _open_dataset(data: object, max_pixels: int) -> ImageSource:
    if data is None:
        raise ConfigurationError("There is no data.", expected=_ACCEPTED, received="None")
    if isinstance(data, DataLoader):
        raise ConfigurationError("A DataLoader is not a data set.", fix="Pass `loader.dataset`: batches are made here.")
    if isinstance(data, Mapping):
        raise ConfigurationError(
            "A dict is not a data set.",
            received=f"keys {list(data)[:8]}",
            fix="Choose one part of it, such as data['train'].",
        )
    streamed = isinstance(data, IterableDataset) or not hasattr(data, "__getitem__") or not hasattr(data, "__len__")
    if streamed and hasattr(data, "__iter__"):
        raise ConfigurationError(
            "Images have to be readable by index: shuffling, memory banks and exact resuming need it.",
            expected="a data set with `__len__` and `__getitem__`",
            received=f"{type(data).__qualname__}, which can only be iterated",
            fix="Turn it into a list (`list(dataset)`), or write it to a folder of files.",
        )
    if streamed or isinstance(data, (bytes, bytearray, type)):
        received = type(data).__qualname__
        raise ConfigurationError("This kind of data is not accepted.", expected=_ACCEPTED, received=received)
    return DatasetSource(data, max_pixels)
