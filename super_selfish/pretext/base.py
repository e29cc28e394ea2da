"""What turns an image into an exercise: pretext data sets and the key that drives their randomness."""

from __future__ import annotations

import contextlib
import contextvars
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np
from torch.utils.data import Dataset

from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.datasets.scaling import as_float
from super_selfish.datasets.sources import open_source
from super_selfish.images.functional import Image
from super_selfish.seeding import Stream, stream_from_torch

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


def current_stream() -> Stream:
    """The stream of the key that a loader has set; outside a loader, one drawn from torch's global generator."""
    key = _current_key.get()
    return stream_from_torch() if key is None else Stream(*key)


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
    def foreign(self) -> bool:
        """Whether reading an image runs a user's code, which may draw from global generators.

        If not, several threads read at once.
        """
        return not self.images.thread_safe

    @abstractmethod
    def sample(self, index: int, stream: Stream) -> Sample:
        """The exercise of image ``index``: H×W×C arrays (images), tensors and numbers.

        Args:
            index: Of the image.
            stream: The only source of randomness.
        """

    @property
    def together(self) -> int:
        """How many exercises the loader begins before it finishes them: much of one kind of work takes less time."""
        return 1

    def begin(self, index: int, stream: Stream) -> Any:
        """The first half of :meth:`sample`: what :meth:`finish` needs."""
        return index, stream

    def finish(self, begun: Sequence[Any]) -> list[Sample]:
        """The second half of :meth:`sample`, for several images."""
        return [self.sample(*one) for one in begun]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        settled = self.images.preprocessing if isinstance(self.images, ImageDataset) else None
        fields = self.sample(int(index), current_stream())
        return tuple(as_float(field, settled) if is_image(field) else field for field in fields)


class LabelledDataset(PretextDataset):
    """Images with their labels, unchanged: item (image C×H×W, label)."""

    def sample(self, index: int, stream: Stream) -> Sample:  # noqa: ARG002 - nothing is random here
        """The image and its label."""
        return self.images.item(index)


def is_image(field: object) -> TypeGuard[Image]:
    """Whether a field of a sample is an image: an array; tensors and numbers are something else."""
    return isinstance(field, np.ndarray)
