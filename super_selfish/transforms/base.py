"""Base class of the transforms.

A transform samples its random parameters from a generator, then applies them to the pixels. The training loader passes
an H×W×C array and a generator keyed by (seed, epoch, index). Called directly, a transform takes a PIL image, a tensor
or an array, returns the same type, and samples from torch's global generator.
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

_logged_channels: set[int] = set()


AnyImage = TypeVar("AnyImage", Pillow.Image, Tensor, Image)


class Transform(UserCodeNames, ABC):
    """Base class for random augmentations. Subclasses implement :meth:`augment`."""

    runs_user_code = False
    """Whether the transform calls user code, which may sample from global generators."""

    @abstractmethod
    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """Return a random view of an image, H×W×C. The result is a function of the image and the generator's key.

        Args:
            image: H×W×C array of uint8, uint16 or float32. It is not modified.
            generator: The only source of randomness.
        """

    def plan(self, height: int, width: int, generator: KeyedGenerator) -> Any:  # noqa: ARG002 - for subclasses
        """Sample the random parameters of a view of a ``height`` × ``width`` px image, for :meth:`make_all`."""
        return KeyedGenerator(generator.bits())

    def make_all(self, images: Sequence[Image], plans: Sequence[Any]) -> list[Image]:
        """Apply the parameters sampled by :meth:`plan` to a sequence of images."""
        return [self.augment(image, plan) for image, plan in zip(images, plans, strict=True)]

    def __call__(self, image: AnyImage) -> AnyImage:
        """Return a random view, sampled from torch's global generator.

        Args:
            image: PIL image, C×H×W tensor or H×W×C array of uint8, uint16, or floats in [0, 1].

        Returns:
            The view, of the same type and dtype. PIL images with a palette or an alpha channel are converted to RGB.

        Raises:
            DataError: If the input is not an image, or has another dtype or range.
        """
        array = to_image(image)
        check_white(image, array)
        view = np.ascontiguousarray(self.augment(array, generator_from_torch()))
        if isinstance(image, Pillow.Image):
            return Pillow.fromarray(view[:, :, 0] if view.shape[2] == 1 else view)
        if isinstance(image, Tensor):
            tensor = torch.from_numpy(view).movedim(-1, 0).contiguous().to(image.device)
            return tensor.to(image.dtype) if image.is_floating_point() else tensor
        return view.astype(image.dtype, copy=False) if image.dtype.kind == "f" else view


def is_size(value: object) -> bool:
    """Return whether a value is None, a side length in px, or (height, width)."""
    sides = value if isinstance(value, tuple | list) and len(value) == 2 else (value,)
    return value is None or all(is_count(side, 1) for side in sides)


def _is_sequence(value: Any, length: int) -> bool:
    return isinstance(value, tuple | list) and len(value) == length and all(is_number(x, 0, math.inf) for x in value)


def is_range(value: Any, largest: float = math.inf) -> bool:
    """Return whether a value is a pair of numbers with 0 < minimum <= maximum <= ``largest``."""
    return _is_sequence(value, 2) and 0 < value[0] <= value[1] <= largest


def _check(transform: Any, name: str, is_valid: bool, expected: str) -> None:
    check_argument(is_valid, name, getattr(transform, name), expected)


def log_skipped_colour_operations(channels: int) -> None:
    """Log, once per number of channels, that the RGB-only operations are skipped."""
    if channels not in _logged_channels:
        _logged_channels.add(channels)
        logger.info("Images have %d channels: saturation, hue and greyscale require RGB and are skipped.", channels)


__getattr__ = old_names(__name__)
