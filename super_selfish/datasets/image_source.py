"""What every collection of images offers, wherever they come from."""

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
    """An image with all that comes with it.

    Attributes:
        image: H×W×C of uint8, uint16 or float32.
        label: Its class, if it has one.
        missing: H×W×C or H×W×1, True where a pixel is declared to hold no data; None: nothing is declared.
    """

    image: Image
    label: int | None = None
    missing: Mask | None = None


def most_skipped(images: int) -> int:
    """How many of so many images ``on_error="skip"`` passes over before training stops."""
    return max(10, images // 100)


class ImageSource(ABC):
    """A fixed number of images, read by index. Plain and picklable, so that worker processes can have a copy.

    Attributes:
        kind: "files", "arrays" or "dataset".
        class_names: The names behind the labels, if they have names.
        thread_safe: Whether several threads may read at once; a source has to say so.
        left_out: Counts of the files below a folder that are not read, by extension, and of folders passed over.
        overrides_indexing: Whether a subclass overrides ``__getitem__``: its items then are the images.
    """

    kind: str = "files"
    class_names: tuple[str, ...] | None = None
    thread_safe: bool = False
    left_out: Mapping[str, int] = MappingProxyType({})
    overrides_indexing: bool = False
    _labels: npt.NDArray[np.int64] | None = None
    _warned: set[str] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def read(self, index: int) -> Image:
        """Image ``index`` as H×W×C of uint8, uint16 or float32.

        Raises:
            DataError: If it cannot be read; the message names the file or the index.
            IndexError: If there is no such image.
        """

    @abstractmethod
    def header(self, index: int) -> Header:
        """What :meth:`read` would return, as cheaply as can be.

        Raises:
            DataError: If it cannot be read.
        """

    @abstractmethod
    def fingerprint(self) -> dict[str, int | str]:
        """Kind, length and a hash that changes when other images take the place of these."""

    def stamp(self) -> str | None:
        """What is another as soon as any pixel may be another; None where nothing tells."""
        return None

    def keys(self) -> npt.NDArray[np.int64] | None:
        """A number for each image that it keeps when others come or go; None where images have no names."""
        return None

    def name(self, index: int) -> str:
        """What to call image ``index``."""
        return str(index)

    def label(self, index: int) -> int | None:
        """The class of image ``index``, if it has one."""
        if self._labels is None:
            return None
        label = int(self._labels[index])
        return None if label == NO_LABEL else label

    def item(self, index: int) -> tuple[Image, int | None]:
        """Image and label at the cost of one reading."""
        return self.read(index), self.label(index)

    def load(self, index: int) -> Loaded:
        """Image, label and mask of missing pixels at the cost of one reading."""
        return Loaded(*self.item(index))

    def with_target(self, index: int) -> tuple[Loaded, Any]:
        """What :meth:`load` returns, and the target of any kind at the cost of one reading; None: it has none."""
        loaded = self.load(index)
        return loaded, loaded.label

    def examine(self, index: int) -> tuple[Loaded, list[str]]:
        """What :meth:`load` returns, and what decoders report about the image: damage that they pass over."""
        return self.load(index), []

    def with_alpha(self, rule: AlphaRule) -> ImageSource:  # noqa: ARG002
        """The same images with another rule for alpha channels. Here: all as is."""
        return self

    def covering(self, resolution: tuple[int, int]) -> ImageSource:  # noqa: ARG002
        """The same images for somebody who needs no more than this height and width.

        What it reads may be smaller, but covers the resolution; headers tell the images' own sizes. Here: all as is.
        """
        return self

    def with_labels(self, labels: npt.NDArray[np.int64], class_names: tuple[str, ...] | None = None) -> ImageSource:
        """The same images with other labels."""
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
        """Warn once of each kind of thing that is not read as it is."""
        if alpha:
            self._warn_once(
                "alpha",
                "Image `%s` has an alpha channel, which is dropped; others may have one too. Pass channels=%d to keep "
                "it as a channel (a fourth band is often marked like this), or background=1.0 to blend it with white.",
                name,
                channels + 1,
            )
        if left_out:
            self._warn_once(
                "pages",
                "Image `%s` is the first of %d in its file; the others are not read. Write each into a file of its own "
                "to train on all of them.",
                name,
                left_out + 1,
            )
        if notes:
            self._warn_once("notes", "Image `%s`: %s.", name, "; ".join(notes))
