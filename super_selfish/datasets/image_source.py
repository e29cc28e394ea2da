"""Common interface of all image sources."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from super_selfish.images.functional import Image
from super_selfish.images.image_files import AlphaRule, Header
from super_selfish.images.open_image import Mask

NO_LABEL = np.iinfo(np.int64).min

logger = logging.getLogger("super_selfish")


class Loaded(NamedTuple):
    """An image with its label and mask.

    Attributes:
        image: H×W×C of uint8, uint16 or float32.
        label: Class label, or None.
        missing: H×W×C or H×W×1, True where a pixel is declared as no data. None: no pixel is.
    """

    image: Image
    label: int | None = None
    missing: Mask | None = None


def most_skipped(images: int) -> int:
    """Return how many of ``images`` images ``on_error="skip"`` may skip before training stops."""
    return max(10, images // 100)


FEW = 200
"""Number of images below which training logs a warning."""


def expectation_of_few(images: int) -> str | None:
    """What to expect of a training on so many images; None if there are at least :data:`FEW`."""
    if images >= FEW:
        return None
    return (
        f"{images} images are very few for self-supervised learning, which needs thousands: expect a network that "
        "memorises them, and features that are no better than those of an untrained network (super-selfish evaluate "
        "compares them). Add images, which need no labels, or start from trained weights: pass weights=NAME and "
        'recipe="adapt".'
    )


class ImageSource(ABC):
    """Base class of image sources: a fixed number of images, read by index. Sources must be picklable for workers.

    Attributes:
        kind: "files", "arrays" or "dataset".
        class_names: Class names by label, or None.
        thread_safe: Whether several threads may read at the same time; default: False.
        left_out: Counts of files below a folder that are not read, by extension, and of ignored folders.
        remarks: What is doubtful about the images or labels; see :func:`report_remarks`.
        overrides_indexing: Whether a subclass overrides ``__getitem__``; its items are then used as images.
    """

    kind: str = "files"
    class_names: tuple[str, ...] | None = None
    thread_safe: bool = False
    left_out: Mapping[str, int] = MappingProxyType({})
    remarks: tuple[str, ...] = ()
    overrides_indexing: bool = False
    _labels: npt.NDArray[np.int64] | None = None
    _warned: set[str] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def read(self, index: int) -> Image:
        """Return image ``index`` as H×W×C of uint8, uint16 or float32.

        Raises:
            DataError: If it cannot be read; the message names the file or the index.
            IndexError: If the index is out of range.
        """

    @abstractmethod
    def header(self, index: int) -> Header:
        """Return the shape and dtype of the result of :meth:`read`, without decoding if possible.

        Raises:
            DataError: If it cannot be read.
        """

    @abstractmethod
    def fingerprint(self) -> dict[str, int | str]:
        """Return the kind, the length, and a hash that identifies the images."""

    def stamp(self) -> str | None:
        """Return a hash that changes when any pixel may have changed; None if changes cannot be detected."""
        return None

    def keys(self) -> npt.NDArray[np.int64] | None:
        """Return a key for each image that does not depend on the other images; None if images have no names."""
        return None

    def name(self, index: int) -> str:
        """Return the name of image ``index`` for messages."""
        return str(index)

    def label(self, index: int) -> int | None:
        """Return the label of image ``index``, or None."""
        if self._labels is None:
            return None
        label = int(self._labels[index])
        return None if label == NO_LABEL else label

    def item(self, index: int) -> tuple[Image, int | None]:
        """Return the image and its label; the item is read once."""
        return self.read(index), self.label(index)

    def load(self, index: int) -> Loaded:
        """Return the image, its label and its mask of missing pixels; the item is read once."""
        return Loaded(*self.item(index))

    def with_target(self, index: int) -> tuple[Loaded, Any]:
        """Return the result of :meth:`load`, and the target of any type, or None; the item is read once."""
        loaded = self.load(index)
        return loaded, loaded.label

    def examine(self, index: int) -> tuple[Loaded, list[str], tuple[str, ...]]:
        """Return the result of :meth:`load`, messages of the decoder that may report damage, and notes."""
        return self.load(index), [], ()

    def with_alpha(self, rule: AlphaRule) -> ImageSource:  # noqa: ARG002
        """Return the same images with another rule for alpha channels; the default implementation changes nothing."""
        return self

    def covering(self, resolution: tuple[int, int]) -> ImageSource:  # noqa: ARG002
        """Return the same images, which may be decoded at reduced size, but not below ``resolution`` (height, width).

        Headers still return the original sizes. The default implementation changes nothing.
        """
        return self

    def with_labels(self, labels: npt.NDArray[np.int64], class_names: tuple[str, ...] | None = None) -> ImageSource:
        """Return the same images with other labels."""
        other = copy.copy(self)
        other._labels = labels
        other.class_names = class_names
        return other

    def _warn_once(self, kind: str, message: str, *args: object) -> None:
        if self._warned is None:
            self._warned = set()
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning(message, *args, extra={"once": kind})

    def _warn_of(self, name: str, channels: int, alpha: bool, left_out: int, notes: Sequence[str]) -> None:
        """Log each type of problem once: dropped alpha, images that are not read, notes."""
        if alpha:
            self._warn_once(
                "alpha",
                "Image `%s` has an alpha channel, which is dropped; others may have one too. Pass background=1.0 to "
                "blend it with white, or, if all images have one, channels=%d to keep it as a channel (a fourth band "
                "is often stored as alpha).",
                name,
                channels + 1,
            )
        if left_out:
            self._warn_once(
                "pages",
                "Image `%s` is the first of %d in its file; the others are not read. Save each as a separate file to "
                "train on all of them.",
                name,
                left_out + 1,
            )
        if notes:
            self._warn_once("notes", "Image `%s`: %s.", name, "; ".join(notes))
