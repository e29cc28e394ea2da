"""Base classes of pretext data sets, and the key that seeds their randomness."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.datasets.scaling import as_float
from super_selfish.datasets.sources import open_source
from super_selfish.errors import ConfigurationError, DataError, UnreadableImage, is_count
from super_selfish.images.functional import Image
from super_selfish.images.image_files import to_image
from super_selfish.renamed import UserCodeNames
from super_selfish.seeding import KeyedGenerator, generator_from_torch

logger = logging.getLogger("super_selfish")

Sample = tuple[Any, ...]

_current_keys: contextvars.ContextVar[Iterator[tuple[int, ...]] | None] = contextvars.ContextVar(
    "sample_keys", default=None
)


@contextlib.contextmanager
def sample_key(*key: int) -> Iterator[None]:
    """Context manager that seeds randomness with a key; each call of :func:`current_generator` gets another seed."""
    token = _current_keys.set(itertools.chain([key], ((*key, call) for call in itertools.count(1))))
    try:
        yield
    finally:
        _current_keys.reset(token)


def current_generator() -> KeyedGenerator:
    """Next random generator of the :func:`sample_key`; without a key, seeded by torch's global generator."""
    keys = _current_keys.get()
    return generator_from_torch() if keys is None else KeyedGenerator(*next(keys))


class PretextDataset(UserCodeNames, Dataset[Sample]):
    """Base class of data sets that turn images into samples of a pretext task.

    A subclass implements :meth:`sample`. Indexing returns the sample with images as float32 tensors C×H×W in [0, 1].
    The training loader calls :meth:`sample` instead, so that images stay uint8 until they are on the device.
    If a subclass overrides ``__getitem__``, the training loader indexes instead.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts, or an ``ImageDataset``.
    """

    batched = False
    """Whether a sample is a batch itself; samples are then concatenated along the first axis."""

    def __init__(self, dataset: object) -> None:
        self.images = open_source(dataset)

    @property
    def runs_user_code(self) -> bool:
        """Whether reading an image runs user code, which may use global random generators.

        If not, several threads read images in parallel.
        """
        return not self.images.thread_safe

    @property
    def overrides_indexing(self) -> bool:
        """Whether a subclass overrides ``__getitem__``: items are then trained as they are indexed."""
        return type(self).__getitem__ is not PretextDataset.__getitem__

    @property
    def overrides_halves(self) -> bool:
        """Whether :meth:`sample` is overridden below :meth:`begin` and :meth:`finish`, which then have no effect."""
        classes = type(self).__mro__
        depth = {
            method: next(place for place, cls in enumerate(classes) if method in vars(cls))
            for method in ("sample", "begin", "finish")
        }
        return "sample" in vars(self) or depth["sample"] < min(depth["begin"], depth["finish"])

    @abstractmethod
    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The sample of image ``index``: a tuple of images (H×W×C arrays), tensors and numbers.

        Args:
            index: Index of the image.
            generator: Random generator; the only source of randomness.
        """

    @property
    def together(self) -> int:
        """Number of samples that the loader passes to :meth:`finish` at once; 1 by default."""
        return 1

    def begin(self, index: int, generator: KeyedGenerator) -> Any:
        """First stage of :meth:`sample`; returns the input of :meth:`finish`."""
        return index, generator

    def finish(self, begun: Sequence[Any]) -> list[Sample]:
        """Second stage of :meth:`sample`, for several images.

        Args:
            begun: Results of :meth:`begin`.
        """
        return [self.sample(*arguments) for arguments in begun]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        preprocessing = self.images.preprocessing if isinstance(self.images, ImageDataset) else None
        fields = self.sample(int(index), current_generator())
        return tuple(as_float(field, preprocessing) if is_image(field) else field for field in fields)


class LabelledDataset(PretextDataset):
    """Images with their labels, unchanged: item (image C×H×W, label)."""

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:  # noqa: ARG002 - nothing is random here
        """The image and its label."""
        return self.images.item(index)


class TargetDataset(PretextDataset):
    """Images with targets of any kind, as the data set returns them: item (image C×H×W, target).

    Targets become tensors without another value range: float64 as float32, PIL images as class ids (H, W).

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        targets: One for each image; None: those of the data set.
    """

    def __init__(self, dataset: object, targets: Any = None) -> None:
        super().__init__(dataset)
        self.targets = targets

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:  # noqa: ARG002 - nothing is random here
        """The image and its target.

        Raises:
            DataError: If there is no target, or it is a mask of an image that was resized.
        """
        (image, *_), target = self.images.with_target(index)
        if self.targets is not None:
            target = self.targets[index]
        if target is None:
            raise DataError(f"{self.images.name(index)} has no target.", expected="an item (image, target)")
        target = as_target(target)
        source = self.images.source if isinstance(self.images, ImageDataset) else self.images
        if isinstance(target, Tensor) and target.ndim >= 2 and target.shape[-2:] != image.shape[:2]:
            header = source.header(index)
            if tuple(target.shape[-2:]) == (header.height, header.width):
                raise DataError(
                    "The images are resized or cropped, and masks do not follow.",
                    expected="images and masks of the same size",
                    received=f"images of {image.shape[0]}×{image.shape[1]}, masks of {header.height}×{header.width}",
                    fix=f"Pass resolution=({header.height}, {header.width}), or resize both in the data set.",
                )
        return image, target


def as_target(target: Any) -> Any:
    """A target as it is collated: arrays and PIL images become tensors, float64 becomes float32."""
    if isinstance(target, PILImage.Image):
        return torch.from_numpy(np.array(target, np.int64))
    if isinstance(target, np.ndarray | np.generic | float | list):
        target = torch.as_tensor(np.array(target))
    if isinstance(target, Tensor) and target.dtype == torch.float64:
        return target.float()
    return target


def split_targets(data: Any) -> tuple[Any, Any]:
    """``(images, targets)`` apart where targets are no class ids in one row; otherwise the data, and None."""
    if not (isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], np.ndarray | Tensor | list)):
        return data, None
    images, targets = data
    try:
        rows = targets if isinstance(targets, Tensor) else np.asarray(targets)
    except ValueError:  # ragged
        return data, None
    kind = rows.dtype.kind if isinstance(rows, np.ndarray) else ("f" if rows.is_floating_point() else "i")
    aligned = rows.ndim > 0 and hasattr(images, "__len__") and len(images) == len(rows) and kind in "fiub"
    is_row_of_ids = rows.ndim == 1 and kind in "iu"
    return (images, rows) if aligned and not is_row_of_ids and not isinstance(images, str) else (data, None)


def is_image(field: object) -> TypeGuard[Image]:
    """Whether a field of a sample is an image. Images are numpy arrays; other fields are tensors and numbers."""
    return isinstance(field, np.ndarray)


def is_indexable(dataset: object) -> bool:
    """Whether items are read by index; an ``IterableDataset`` has the method, which raises."""
    return hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset)


def image_count(dataset: Any) -> int:
    """The number of images of a data set, for each of which a bank has a row.

    Raises:
        ConfigurationError: If the data set does not say how many there are.
    """
    if not hasattr(dataset, "__len__"):
        raise ConfigurationError(
            "The memory bank needs the number of images, but the data set has no length.",
            expected="a data set with __len__ and __getitem__, whose items end with the index of the image",
            received=type(dataset).__name__,
        )
    return len(dataset)


def check_indexed(dataset: Any, images: int) -> None:
    """Check, before training, that items end with the index of their image. The first two and the last are tried.

    Args:
        dataset: Data set to check.
        images: Number of images.

    Raises:
        ConfigurationError: If the last field of an item is not its index.
    """
    if not is_indexable(dataset):
        return
    for index in sorted({0, min(1, images - 1), images - 1}):
        try:
            with sample_key(0, 0, index):
                item = dataset[index]
        except Exception:  # user code may raise anything; training reports or skips the item
            logger.debug("Item %d cannot be read.", index, exc_info=True)
            continue
        last = item[-1] if isinstance(item, Sequence) and item else None
        if isinstance(last, Tensor | np.generic) and last.ndim == 0:
            last = last.item()
        if not is_count(last, 0) or last != index:
            raise ConfigurationError(
                "The memory bank needs the index of the image of each item.",
                expected=f"items that end with the index of the image, 0 to {images - 1}: item {index} with {index}",
                received=f"an item that ends with {last if is_count(last, 0) else type(last).__name__}",
                fix="Use AugmentationIndexedDataset(images, transform), for example.",
            )


def custom_sample(item: Any) -> Any:
    """Convert an item of a custom data set to a sample.

    PIL images and uint8 arrays H×W×C become images, other arrays become tensors, and other values are kept.
    Tuples, lists and dictionaries are converted recursively.
    """
    if isinstance(item, PILImage.Image):
        return to_image(item)
    if isinstance(item, np.ndarray) and not (item.dtype == np.uint8 and item.ndim == 3):
        return torch.from_numpy(item)
    if isinstance(item, tuple | list):
        return tuple(custom_sample(part) for part in item)
    if isinstance(item, Mapping):
        return {key: custom_sample(part) for key, part in item.items()}
    return item


def first_items(dataset: Any) -> list[Any]:
    """The first item of a data set in a list, for checks before training; empty if it cannot be read by index."""
    if not is_indexable(dataset):
        return []  # the data set of a user-supplied loader
    try:
        with sample_key(0, 0, 0):
            return [custom_sample(dataset[0])]
    except UnreadableImage:
        return []  # handled by the loader during training
