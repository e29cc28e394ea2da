"""What turns an image into an exercise: pretext data sets and the key that drives their randomness."""

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
    """Within the block, randomness is a function of this key, and another in each call of :func:`current_generator`."""
    token = _current_keys.set(itertools.chain([key], ((*key, call) for call in itertools.count(1))))
    try:
        yield
    finally:
        _current_keys.reset(token)


def current_generator() -> KeyedGenerator:
    """The next stream of the key that a loader has set; outside a loader, one drawn from torch's global generator."""
    keys = _current_keys.get()
    return generator_from_torch() if keys is None else KeyedGenerator(*next(keys))


class PretextDataset(UserCodeNames, Dataset[Sample]):
    """Images of a wrapped data set, each made into an exercise.

    A subclass implements :meth:`sample`. Indexing gives what :meth:`sample` gives with images as float32 tensors
    C×H×W in [0, 1]; the training loader calls :meth:`sample` itself, so that images stay uint8 until they are on the
    device. If a subclass overrides ``__getitem__``, the training loader indexes instead.

    Args:
        dataset: Anything that :func:`super_selfish.data.open_source` accepts, or an ``ImageDataset``.
    """

    batched = False
    """Whether a sample is a little batch, to be joined with others along its first axis."""

    def __init__(self, dataset: object) -> None:
        self.images = open_source(dataset)

    @property
    def runs_user_code(self) -> bool:
        """Whether reading an image runs a user's code, which may draw from global generators.

        If not, several threads read at once.
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
        """The exercise of image ``index``: H×W×C arrays (images), tensors and numbers.

        Args:
            index: Of the image.
            generator: The only source of randomness.
        """

    @property
    def together(self) -> int:
        """How many exercises the loader begins before it finishes them: much of one kind of work takes less time."""
        return 1

    def begin(self, index: int, generator: KeyedGenerator) -> Any:
        """The first half of :meth:`sample`: what :meth:`finish` needs."""
        return index, generator

    def finish(self, begun: Sequence[Any]) -> list[Sample]:
        """The second half of :meth:`sample`, for several images."""
        return [self.sample(*one) for one in begun]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        settled = self.images.preprocessing if isinstance(self.images, ImageDataset) else None
        fields = self.sample(int(index), current_generator())
        return tuple(as_float(field, settled) if is_image(field) else field for field in fields)


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
    """Whether a field of a sample is an image: an array; tensors and numbers are something else."""
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
            "The bank has a row for each image, and the data set does not say how many there are.",
            expected="a data set with __len__ and __getitem__, whose items end in the index of the image",
            received=type(dataset).__name__,
        )
    return len(dataset)


def check_indexed(dataset: Any, images: int) -> None:
    """Make sure, before training, that items tell which image they are of: the first two and the last are tried.

    Raises:
        ConfigurationError: If the last field of an item is not its own index.
    """
    if not is_indexable(dataset):
        return
    for index in sorted({0, min(1, images - 1), images - 1}):
        try:
            with sample_key(0, 0, index):
                item = dataset[index]
        except Exception:  # a user's data set may raise anything: training says so when it comes to it, or skips it
            logger.debug("Item %d cannot be read.", index, exc_info=True)
            continue
        last = item[-1] if isinstance(item, Sequence) and item else None
        if isinstance(last, Tensor | np.generic) and last.ndim == 0:
            last = last.item()
        if not is_count(last, 0) or last != index:
            raise ConfigurationError(
                "The bank has to know which image an item is of.",
                expected=f"items that end in the index of the image, from 0 to {images - 1}: item {index} in {index}",
                received=f"an item that ends in {last if is_count(last, 0) else type(last).__name__}",
                fix="For instance AugmentationIndexedDataset(images, transform).",
            )


def custom_sample(item: Any) -> Any:
    """A user's item as a sample: PIL images and H×W×C uint8 arrays are images, everything else is what it is.

    Tuples, lists and dictionaries are looked into.
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
    """The first item of a data set as a list, to check before training; empty if it cannot be read by index."""
    if not is_indexable(dataset):
        return []  # of a user-supplied loader
    try:
        with sample_key(0, 0, 0):
            return [custom_sample(dataset[0])]
    except UnreadableImage:
        return []  # training decides whether that is an error
