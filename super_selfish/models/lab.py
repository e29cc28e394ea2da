"""CIE Lab, the colour space in which lightness and colour are apart."""

from __future__ import annotations

import torch
from torch import Tensor

_TO_XYZ = (  # linear sRGB to CIE XYZ over the white point D65 (IEC 61966-2-1)
    (0.412453 / 0.95047, 0.357580 / 0.95047, 0.180423 / 0.95047),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.08883, 0.119193 / 1.08883, 0.950227 / 1.08883),
)
_LINEAR_BELOW = 0.008856  # (6 / 29)³


def rgb_to_lab(images: Tensor) -> Tensor:
    """SRGB images as CIE Lab with the white point D65.

    Args:
        images: (..., 3, height, width) in [0, 1]; values beyond are clipped.

    Returns:
        (..., 3, height, width): L in [0, 100], a in about [-86, 98], b in about [-108, 95].

    Example:
        >>> [round(value) for value in rgb_to_lab(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).flatten().tolist()]
        [53, 80, 67]

    References:
        IEC 61966-2-1:1999 (sRGB); CIE 15:2004 (Lab).
    """
    values = images.clamp(0.0, 1.0)
    linear = torch.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    matrix = torch.tensor(_TO_XYZ, dtype=images.dtype, device=images.device)
    xyz = torch.einsum("ij,...jhw->...ihw", matrix, linear)
    root = torch.where(xyz > _LINEAR_BELOW, xyz.clamp_min(_LINEAR_BELOW) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def normalised_lab(lab: Tensor) -> Tensor:
    """Lab as networks take it: L / 50 - 1, a / 110, b / 110, all in about [-1, 1]."""
    scale = torch.tensor([50.0, 110.0, 110.0], dtype=lab.dtype, device=lab.device).view(3, 1, 1)
    shift = torch.tensor([1.0, 0.0, 0.0], dtype=lab.dtype, device=lab.device).view(3, 1, 1)
    return lab / scale - shift
