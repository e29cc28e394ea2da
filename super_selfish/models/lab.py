"""Conversion between sRGB and CIE Lab."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from super_selfish.models.backbones import map_of, pooled_of

TO_XYZ = (
    (0.412453 / 0.95047, 0.357580 / 0.95047, 0.180423 / 0.95047),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.08883, 0.119193 / 1.08883, 0.950227 / 1.08883),
)
"""Matrix from linear sRGB to CIE XYZ, relative to the white point D65 (IEC 61966-2-1)."""
LINEAR_BELOW = 0.008856
"""(6 / 29)³: below this threshold, the cube root is replaced by 7.787 x + 16 / 116."""


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB images to CIE Lab with the white point D65.

    Args:
        images: (..., 3, height, width) in [0, 1]. Values outside the range are clipped.

    Returns:
        (..., 3, height, width): L in [0, 100], a in about [-86, 98], b in about [-108, 95].

    Examples:
        >>> [round(value) for value in rgb_to_lab(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).flatten().tolist()]
        [53, 80, 67]

    References:
        IEC 61966-2-1:1999 (sRGB); CIE 15:2004 (Lab).
    """
    values = images.clamp(0.0, 1.0)
    linear = torch.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    matrix = torch.tensor(TO_XYZ, dtype=images.dtype, device=images.device)
    xyz = torch.einsum("ij,...jhw->...ihw", matrix, linear)
    root = torch.where(xyz > LINEAR_BELOW, xyz.clamp_min(LINEAR_BELOW) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def lab_to_rgb(images: Tensor) -> Tensor:
    """Convert CIE Lab with the white point D65 to sRGB.

    Args:
        images: Lab images (..., 3, height, width), as returned by :func:`rgb_to_lab`.

    Returns:
        (..., 3, height, width) in [0, 1]. Colours outside the sRGB gamut are clipped.

    Examples:
        >>> lab_to_rgb(torch.tensor([100.0, 0.0, 0.0]).view(3, 1, 1)).flatten().round().tolist()
        [1.0, 1.0, 1.0]
    """
    lightness, a, b = images.unbind(-3)
    y = (lightness + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], dim=-3)
    xyz = torch.where(root > LINEAR_BELOW ** (1 / 3), root**3, (root - 16 / 116) / 7.787)
    matrix = torch.linalg.inv(torch.tensor(TO_XYZ, dtype=torch.float64)).to(images)
    linear = torch.einsum("ij,...jhw->...ihw", matrix, xyz).clamp(0.0, 1.0)
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)


class LabScale(NamedTuple):
    """Normalisation of L, a and b: (value - middle) / width.

    Attributes:
        middle: Offsets of L, a and b.
        width: Scales of L, a and b.
    """

    middle: tuple[float, float, float]
    width: tuple[float, float, float]


SYMMETRIC = LabScale((50.0, 0.0, 0.0), (50.0, 110.0, 110.0))
"""L / 50 - 1, a / 110, b / 110."""
FULL_RANGE = LabScale((50.0, 6.025, -6.69), (50.0, 92.208, 101.168))
"""Maps the sRGB gamut to [-1, 1]: L in [0, 100], a in [-86.18, 98.23], b in [-107.86, 94.48]."""


def _width_and_shift(scale: LabScale, like: Tensor) -> tuple[Tensor, Tensor]:
    shift = [middle / width for middle, width in zip(*scale, strict=True)]
    return like.new_tensor(scale.width).view(3, 1, 1), like.new_tensor(shift).view(3, 1, 1)


def normalised_lab(lab: Tensor, scale: LabScale = SYMMETRIC) -> Tensor:
    """Normalise Lab (..., 3, height, width) to about [-1, 1]."""
    width, shift = _width_and_shift(scale, lab)
    return lab / width - shift


def plain_lab(normalised: Tensor, scale: LabScale = SYMMETRIC) -> Tensor:
    """Invert :func:`normalised_lab`."""
    width, shift = _width_and_shift(scale, normalised)
    return (normalised + shift) * width


class RGBInput(nn.Module):
    """Wraps a backbone for normalised Lab so that it accepts RGB. The weights are shared, not copied.

    Args:
        backbone: Backbone for inputs (batch, 3, height, width), normalised by :func:`normalised_lab`.
        scale: Normalisation of Lab.

    Examples:
        >>> RGBInput(nn.Flatten())(torch.zeros(1, 3, 1, 1)).round().tolist()
        [[-1.0, 0.0, 0.0]]
    """

    image_channels = 3

    def __init__(self, backbone: nn.Module, scale: LabScale = SYMMETRIC) -> None:
        super().__init__()
        self.backbone = backbone
        self.scale = scale

    def map(self, x: Tensor) -> Tensor:
        """Compute the backbone's feature map of RGB images in [0, 1]."""
        return map_of(self.backbone, normalised_lab(rgb_to_lab(x), self.scale))

    def pooled(self, x: Tensor) -> Tensor:
        """Compute the backbone's pooled features of RGB images in [0, 1]."""
        return pooled_of(self.backbone, normalised_lab(rgb_to_lab(x), self.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the backbone's features of RGB images in [0, 1]."""
        features: Tensor = self.backbone(normalised_lab(rgb_to_lab(x), self.scale))
        return features
