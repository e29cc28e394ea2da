"""What turns an image into an exercise: pretext data sets and the key that drives their randomness."""

from __future__ import annotations

import contextlib
import contextvars
import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor
from torch.utils.data import Dataset

from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.datasets.scaling import as_float
from super_selfish.datasets.sources import open_source
from super_selfish.errors import ConfigurationError, UnreadableImage, is_count
from super_selfish.images.functional import Image
from super_selfish.images.image_files import to_image
from super_selfish.seeding import KeyedGenerator, generator_from_torch

logger = logging.getLogger("super_selfish")

Sample = tuple[Any, ...]

_current_key: contextvars.ContextVar[tuple[int, ...] | None] = contextvars.ContextVar("sample_key", default=None)


@contextlib.contextmanager
def sample_key(*key: int) -> Iterator[None]:
    """Within the block, the randomness of views and pretexts is that of this key."""
    token = _current_key.set(key)
    try:
        yield
    finally:
        _current_key.reset(token)


def current_generator() -> KeyedGenerator:
    """The stream of the key that a loader has set; outside a loader, one drawn from torch's global generator."""
    key = _current_key.get()
    return generator_from_torch() if key is None else KeyedGenerator(*key)


class PretextDataset(Dataset[Sample]):
    """Images of a wrapped data set, each made into an exercise.

    A subclass implements :meth:`sample`. Indexing gives what :meth:`sample` gives with images as float32 tensors
    C×H×W in [0, 1]; the training loader calls :meth:`sample` itself, so that images stay uint8 until they are on the
    device.

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


def is_image(field: object) -> TypeGuard[Image]:
    """Whether a field of a sample is an image: an array; tensors and numbers are something else."""
    return isinstance(field, np.ndarray)


def check_indexed(dataset: Any, images: int) -> None:
    """Make sure, before training, that items tell which image they are of: the first two and the last are tried.

    Raises:
        ConfigurationError: If the last field of an item is not its own index.
    """
    if not hasattr(dataset, "__getitem__"):
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
    if not hasattr(dataset, "__getitem__"):
        return []  # of a user-supplied loader
    try:
        with sample_key(0, 0, 0):
            return [custom_sample(dataset[0])]
    except UnreadableImage:
        return []  # training decides whether that is an error
