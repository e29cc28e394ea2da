"""What every collection of images offers, wherever they come from."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from super_selfish.images.functional import Image
from super_selfish.images.image_files import Header

NO_LABEL = np.iinfo(np.int64).min

logger = logging.getLogger("super_selfish")


class ImageSource(ABC):
    """A fixed number of images, read by index. Plain and picklable, so that worker processes can have a copy.

    Attributes:
        kind: "files", "arrays" or "dataset".
        class_names: The names behind the labels, if they have names.
        thread_safe: Whether several threads may read at once; a source has to say so.
        overrides_indexing: Whether a subclass overrides ``__getitem__``: its items then are the images.
    """

    kind: str = "files"
    class_names: tuple[str, ...] | None = None
    thread_safe: bool = False
    overrides_indexing: bool = False
    _labels: npt.NDArray[np.int64] | None = None
    _alpha_told: bool = False

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

    def with_target(self, index: int) -> tuple[Image, Any]:
        """Image and target of any kind at the cost of one reading; None: it has none."""
        return self.item(index)

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

    def _log_alpha(self, alpha: bool) -> None:
        if alpha and not self._alpha_told:
            self._alpha_told = True
            logger.info("Some images have an alpha channel; it is dropped.")
