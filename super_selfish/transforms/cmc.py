"""Augmentation of Contrastive Multiview Coding."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from super_selfish.renamed import old_names
from super_selfish.transforms.crop_and_colour import CropColourTransform


@dataclass(frozen=True)
class CMCTransform(CropColourTransform):
    """Augmentation of Contrastive Multiview Coding: random resized crop of 20 to 100 % of the area, horizontal flip.

    Colours are not changed. Greyscale would remove the ab view, and colour jitter would decorrelate it from the L view.

    Examples:
        >>> import torch
        >>> CMCTransform(size=32)(torch.rand(3, 48, 64)).shape
        torch.Size([3, 32, 32])

    References:
        Tian, Krishnan and Isola, "Contrastive Multiview Coding", 2019.
    """

    _: KW_ONLY
    jitter_p: float = 0.0
    grey: float = 0.0
    blur: float | None = 0.0


__getattr__ = old_names(__name__)
