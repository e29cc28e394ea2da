"""Augmentation of MoCo v2."""

from __future__ import annotations

from dataclasses import dataclass

from super_selfish.renamed import old_names
from super_selfish.transforms.crop_and_colour import CropColourTransform


@dataclass(frozen=True)
class MoCoTransform(CropColourTransform):
    """Augmentation of MoCo v2: random resized crop, horizontal flip, strong colour jitter, greyscale and blur.

    Examples:
        >>> import torch
        >>> MoCoTransform(size=32)(torch.rand(3, 48, 64)).shape
        torch.Size([3, 32, 32])

    References:
        Chen, Fan, Girshick and He, "Improved Baselines with Momentum Contrastive Learning", 2020.
    """


MomentumContrastAugmentations = MoCoTransform()


__getattr__ = old_names(__name__)
