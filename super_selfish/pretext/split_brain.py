"""Pretext task of the split-brain autoencoder: predict colours from lightness, and lightness from colours."""

from __future__ import annotations

import math

import numpy as np
import torch

from super_selfish.errors import DataError, Rule, is_count, is_number, validate_arguments
from super_selfish.images import functional
from super_selfish.images.image_files import printable
from super_selfish.pretext.base import PretextDataset, Sample
from super_selfish.pretext.rotation import checked_crop, checked_flip
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms.crop_and_colour import CropColourTransform
from super_selfish.transforms.lab import LabBins, lab_of, normalised_lab_of, roots

TargetSize = int | tuple[int, int] | None

_OFFSET = Rule(lambda offset: is_number(offset, -1e6, 1e6), "a number")


def _is_size(size: object) -> bool:
    sides = size if isinstance(size, tuple | list) and len(size) == 2 else (size,)
    return size is None or all(is_count(side, 1) for side in sides)


RULES = {
    "l_step": Rule(lambda step: is_number(step, 0.5, 50), "a number from 0.5 to 50"),
    "l_offset": _OFFSET,
    "ab_step": Rule(lambda step: is_number(step, 4, 128), "a number from 4 to 128"),
    "a_offset": _OFFSET,
    "b_offset": _OFFSET,
    "target_size": Rule(_is_size, "None, a side in px, or (height, width)"),
}


def target_shape(target_size: TargetSize, height: int, width: int) -> tuple[int, int]:
    """Height and width of the class maps of an image in px, at most the image size.

    Args:
        target_size: Side of a square, or (height, width). None: an eighth of the image size, but at least 16.
        height: Height of the image in px.
        width: Width of the image in px.
    """
    if target_size is None:
        chosen = max(16, math.ceil(height / 8)), max(16, math.ceil(width / 8))
    else:
        chosen = (target_size, target_size) if isinstance(target_size, int) else target_size
    return min(chosen[0], height), min(chosen[1], width)


class SplitBrainDataset(PretextDataset):
    """Images in Lab, with class maps of their lightness and of their colours.

    Item: (lab 3×H×W, classes 2×h×w). Lab is float32, as L / 50 - 1, a / 110, b / 110. The classes are int64. They are
    the bins of L, and the joint bins of a and b, after averaging over areas:
    ``min(floor((L + l_offset) / l_step), bins - 1)`` with ``ceil(100 / l_step)`` bins, and ``bin(a) · n + bin(b)`` with
    ``n = ceil(256 / ab_step)``.

    Args:
        dataset: RGB images; anything that :func:`super_selfish.data.open_source` accepts.
        l_step: Width of the bins of lightness L.
        l_offset: Offset that is added to L, which is in [0, 100], before binning.
        ab_step: Width of the bins of a and of b.
        a_offset: Offset that is added to a, which is in about [-86, 98], before binning.
        b_offset: Offset that is added to b, which is in about [-108, 95], before binning.
        target_size: Size of the class maps in px, at most the image size: side of a square, or (height, width). None:
            an eighth of the image size, but at least 16.
        crop: Smallest and largest area of a random crop relative to the image; it is resized to the image size. None:
            no crop.
        flip: Probability of a horizontal flip, in [0, 1].

    Raises:
        ConfigurationError: If an argument is out of range.
        DataError: When an image without three channels is read.

    Examples:
        >>> lab, classes = SplitBrainDataset(np.full((2, 32, 64, 3), 255, np.uint8))[0]
        >>> lab.shape, classes.shape, classes[:, 0, 0]
        (torch.Size([3, 32, 64]), torch.Size([2, 16, 16]), tensor([49, 44]))

    References:
        Zhang, Isola and Efros, "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction", 2016.
    """

    @validate_arguments(RULES)
    def __init__(
        self,
        dataset: object,
        l_step: float = 2,
        l_offset: float = 0,
        ab_step: float = 26,
        a_offset: float = 128,
        b_offset: float = 128,
        *,
        target_size: TargetSize = None,
        crop: tuple[float, float] | None = None,
        flip: float = 0.0,
    ) -> None:
        super().__init__(dataset)
        self.crop, self.flip = checked_crop(crop), checked_flip(flip)
        self.view = CropColourTransform(scale=self.crop or (1.0, 1.0), flip=0.0, jitter_p=0.0, grey=0.0, blur=0.0)
        self.bins = LabBins(l_step, l_offset, ab_step, a_offset, b_offset)
        self.target_size = target_size

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The image in Lab and its class maps."""
        image = self.images.read(index)
        if image.shape[2] != 3:
            raise DataError(
                f"{printable(self.images.name(index))} has no colours to predict.",
                expected="an RGB image",
                received=f"{image.shape[2]} channels",
            )
        image = image if self.crop is None else self.view.augment(image, generator)
        root = roots(functional.flip(image) if generator.chance(self.flip) else image)
        small = functional.resize(root, *target_shape(self.target_size, *image.shape[:2]))
        return torch.from_numpy(np.moveaxis(normalised_lab_of(root), 2, 0)), self.bins.labels(lab_of(small))
