"""CIE Lab, the colour space in which lightness and colour are apart."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from super_selfish.models.backbones import map_of

TO_XYZ = (
    (0.412453 / 0.95047, 0.357580 / 0.95047, 0.180423 / 0.95047),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.08883, 0.119193 / 1.08883, 0.950227 / 1.08883),
)
"""Linear sRGB to CIE XYZ over the white point D65 (IEC 61966-2-1)."""
LINEAR_BELOW = 0.008856
"""(6 / 29)³: below it the root is a line, 7.787 x + 16 / 116."""


def rgb_to_lab(images: Tensor) -> Tensor:
    """SRGB images as CIE Lab with the white point D65.

    Args:
        images: (..., 3, height, width) in [0, 1]; values beyond are clipped.

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
    """CIE Lab with the white point D65 as sRGB, for pictures.

    Args:
        images: (..., 3, height, width) as :func:`rgb_to_lab` gives it.

    Returns:
        (..., 3, height, width) in [0, 1]; colours that a screen cannot show are clipped.

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
    """How networks take L, a and b: minus ``middle``, over ``width``.

    Attributes:
        middle: Becomes 0.
        width: Becomes 1.
    """

    middle: tuple[float, float, float]
    width: tuple[float, float, float]


SYMMETRIC = LabScale((50.0, 0.0, 0.0), (50.0, 110.0, 110.0))
"""L / 50 - 1, a / 110, b / 110."""
FULL_RANGE = LabScale((50.0, 6.025, -6.69), (50.0, 92.208, 101.168))
"""All that a screen can show becomes [-1, 1]: L is in [0, 100], a in [-86.18, 98.23], b in [-107.86, 94.48]."""


def _terms(scale: LabScale, like: Tensor) -> tuple[Tensor, Tensor]:
    shift = [middle / width for middle, width in zip(*scale, strict=True)]
    return like.new_tensor(scale.width).view(3, 1, 1), like.new_tensor(shift).view(3, 1, 1)


def normalised_lab(lab: Tensor, scale: LabScale = SYMMETRIC) -> Tensor:
    """Lab (..., 3, height, width) as networks take it, all in about [-1, 1]."""
    width, shift = _terms(scale, lab)
    return lab / width - shift


def plain_lab(normalised: Tensor, scale: LabScale = SYMMETRIC) -> Tensor:
    """What :func:`normalised_lab` was made of."""
    width, shift = _terms(scale, normalised)
    return (normalised + shift) * width


class RGBInput(nn.Module):
    """A backbone of normalised Lab, given RGB; the weights are shared, not copied.

    Args:
        backbone: Takes (batch, 3, height, width) as :func:`normalised_lab` makes it.
        scale: Of that Lab.

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
        """The backbone's map of RGB images in [0, 1]."""
        return map_of(self.backbone, normalised_lab(rgb_to_lab(x), self.scale))

    def forward(self, x: Tensor) -> Tensor:
        """The backbone's features of RGB images in [0, 1]."""
        features: Tensor = self.backbone(normalised_lab(rgb_to_lab(x), self.scale))
        return features
