"""The base of transforms: random parameters are drawn from a key, then applied to the pixels.

A transform is made once and called often. The training loader gives it an H×W×C array and a generator keyed by (seed,
epoch, index). Called by hand it takes a PIL image, a tensor or an array, returns the same kind, and draws from torch's
global generator.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from super_selfish.errors import check_argument, is_count, is_number
from super_selfish.images.arrays import check_white, to_image
from super_selfish.images.functional import Image
from super_selfish.renamed import UserCodeNames, old_names
from super_selfish.seeding import KeyedGenerator, generator_from_torch

logger = logging.getLogger("super_selfish")

_told: set[int] = set()


AnyImage = TypeVar("AnyImage", Pillow.Image, Tensor, Image)


class Transform(UserCodeNames, ABC):
    """Makes random views of images; a subclass implements :meth:`augment`."""

    runs_user_code = False
    """Whether a user's code is called, which may draw from global generators."""

    @abstractmethod
    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """A random view of an image, H×W×C; a function of the image and the stream's key.

        Args:
            image: H×W×C of uint8, uint16 or float32; it is not changed.
            generator: The only source of randomness.
        """

    def plan(self, height: int, width: int, generator: KeyedGenerator) -> Any:  # noqa: ARG002 - for those who need them
        """What is random about a view of an image of ``height`` × ``width`` px: what :meth:`make_all` needs."""
        return KeyedGenerator(generator.bits())

    def make_all(self, images: Sequence[Image], plans: Sequence[Any]) -> list[Image]:
        """The views of images that were planned."""
        return [self.augment(image, plan) for image, plan in zip(images, plans, strict=True)]

    def __call__(self, image: AnyImage) -> AnyImage:
        """A random view, drawn from torch's global generator.

        Args:
            image: A PIL image, a tensor C×H×W or an array H×W×C: uint8, uint16, or floats in [0, 1].

        Returns:
            The view, of the same kind and type of numbers; of a PIL image with a palette or alpha, in RGB.

        Raises:
            DataError: If it is no image, or of other numbers.
        """
        given = to_image(image)
        check_white(image, given)
        view = np.ascontiguousarray(self.augment(given, generator_from_torch()))
        if isinstance(image, Pillow.Image):
            return Pillow.fromarray(view[:, :, 0] if view.shape[2] == 1 else view)
        if isinstance(image, Tensor):
            moved = torch.from_numpy(view).movedim(-1, 0).contiguous().to(image.device)
            return moved.to(image.dtype) if image.is_floating_point() else moved
        return view.astype(image.dtype, copy=False) if image.dtype.kind == "f" else view


def is_size(value: object) -> bool:
    """Whether a value is None, a side in px, or (height, width)."""
    sides = value if isinstance(value, tuple | list) and len(value) == 2 else (value,)
    return value is None or all(is_count(side, 1) for side in sides)


def _is_row(value: Any, length: int) -> bool:
    return isinstance(value, tuple | list) and len(value) == length and all(is_number(x, 0, math.inf) for x in value)


def is_range(value: Any, largest: float = math.inf) -> bool:
    """Whether a value is a pair of numbers with 0 < smallest <= largest."""
    return _is_row(value, 2) and 0 < value[0] <= value[1] <= largest


def _check(transform: Any, name: str, is_valid: bool, expected: str) -> None:
    check_argument(is_valid, name, getattr(transform, name), expected)


def log_skipped_colour_operations(channels: int) -> None:
    """Say once, for a number of channels other than three, what is left out."""
    if channels not in _told:
        _told.add(channels)
        logger.info("Images have %d channels: saturation, hue and grey, which need RGB, are left out.", channels)


__getattr__ = old_names(__name__)
