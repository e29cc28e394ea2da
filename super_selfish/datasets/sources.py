"""Opening any supported type of data: :func:`open_source`."""

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

from super_selfish.datasets.file_sources import FileSource, open_folder, open_paths, report_remarks
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
    """Open any supported type of data as an image source.

    Args:
        data: A folder (searched recursively), a list of paths, a CSV file with a column of paths, an array N×H×W[×C],
            a tensor N×C×H×W or N×H×W, a list of images, a tuple (images, labels), a map-style Dataset, a Hugging Face
            data set, or an ImageSource, which is returned unchanged.
        max_pixels: Maximum number of pixels of an image.
        minimum: Minimum number of images.
        image_key: Key of the image in dict items of a data set, or its index in tuples. None: the only common image key
            of a dict (such as ``"image"``), or else its only image; the first entry of a tuple.

    Raises:
        ConfigurationError: If the type of ``data`` is not supported, or a path is not a folder.
        DataError: If there are fewer than ``minimum`` images.
    """
    source = _open(data, max_pixels)
    if isinstance(data, (str, os.PathLike)):
        report_remarks(source, os.fspath(data))
    if image_key is not None:
        source = _with_image_key(source, image_key)
    if len(source) < max(1, minimum):
        raise DataError(
            "There are too few images.",
            expected=f"at least {max(1, minimum)}",
            received=f"{len(source)}",
            fix="Add more images." if minimum > 1 else None,
        )
    return source


def _with_image_key(source: ImageSource, key: str | int) -> ImageSource:
    """Return a copy of a data set source with ``image_key`` set."""
    if not isinstance(source, DatasetSource):
        raise ConfigurationError(
            "`image_key` is not supported for this type of data.",
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
        raise ConfigurationError("`data` is not the path of a folder.", received=repr(data))
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
            received=f"a file with extension {path.suffix}" if path.suffix else "a file without an extension",
            fix="Pass the folder of the image." if single else "Extract archives, and load arrays first (np.load).",
        )
    raise ConfigurationError(
        f"The folder `{printable(path)}` does not exist.",
        received=f"a path relative to `{printable(Path.cwd())}`" if not path.is_absolute() else None,
        fix="Check the spelling, or pass an absolute path.",
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
        return DatasetSource(
            data, max_pixels, thread_safe=in_memory
        )  # lazy decoding of Pillow images is not thread-safe
    kinds = sorted({type(item).__qualname__ for item in data})
    raise ConfigurationError(
        "The list does not hold images.",
        expected="only paths, or only PIL images, arrays, tensors or (image, label) pairs",
        received=f"a list of {', '.join(kinds[:5])}",
    )


def _is_labels(value: object) -> bool:
    """Whether the second entry of a pair is meant as labels, valid or not, instead of an image or a path."""
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
            "The labels do not match the images.",
            expected=f"{len(source)} integers in one dimension, one per image",
            received=f"labels of shape {tuple(array.shape)} and type {array.dtype}",
        )
    numbers = array.cpu().numpy() if isinstance(array, torch.Tensor) else array
    return source.with_labels(numbers.astype(np.int64))


def _open_dataset(data: object, max_pixels: int) -> ImageSource:
    if data is None:
        raise ConfigurationError("`data` is None.", expected=_ACCEPTED, received="None")
    if isinstance(data, DataLoader):
        raise ConfigurationError("A DataLoader is not a data set.", fix="Pass `loader.dataset` instead.")
    if isinstance(data, Mapping):
        raise ConfigurationError(
            "A dict is not a data set.",
            received=f"keys {list(data)[:8]}",
            fix="Pass one of its values, such as data['train'].",
        )
    streamed = isinstance(data, IterableDataset) or not hasattr(data, "__getitem__") or not hasattr(data, "__len__")
    if streamed and hasattr(data, "__iter__"):
        raise ConfigurationError(
            "Images must be readable by index, as shuffling, memory banks and exact resuming require it.",
            expected="a data set with `__len__` and `__getitem__`",
            received=f"{type(data).__qualname__}, which can only be iterated",
            fix="Convert it to a list (`list(dataset)`), or save it as a folder of files.",
        )
    if streamed or isinstance(data, (bytes, bytearray, type)):
        received = type(data).__qualname__
        raise ConfigurationError("This type of data is not supported.", expected=_ACCEPTED, received=received)
    return DatasetSource(data, max_pixels)
