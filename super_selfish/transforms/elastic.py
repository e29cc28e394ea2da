"""Elastic deformation of one image, by its old name."""

from __future__ import annotations

from dataclasses import dataclass

from super_selfish.errors import check_argument, is_number, validate_keywords
from super_selfish.images.functional import Image
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms import warps
from super_selfish.transforms.base import AnyImage, Transform
from super_selfish.transforms.pool import Deformation


@dataclass(frozen=True)
class _Elastic(Transform):
    sigma: float

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """The image with its nine points moved."""
        drawn = Deformation(self.sigma / min(image.shape[:2]), 0.0)(generator, image.shape)
        return warps.elastic(image, drawn["displacement"])


@validate_keywords()
def elastic_transform(img: AnyImage, sigma: float) -> AnyImage:
    """Deform an image smoothly: corners, middles of the sides and centre are moved, and all between with them.

    Args:
        img: A PIL image, a tensor C×H×W or an array H×W×C: uint8, uint16, or floats in [0, 1].
        sigma: Standard deviation of the moves in px, down and to the right, at least 0.

    Returns:
        The deformed image, of the same kind, size and range; the moves are drawn from torch's global generator.

    Raises:
        ConfigurationError: If ``sigma`` is out of range.
        DataError: If it is no image.

    Examples:
        >>> import torch
        >>> elastic_transform(torch.rand(3, 32, 48), sigma=2.0).shape
        torch.Size([3, 32, 48])
    """
    check_argument(is_number(sigma, 0, 1e6), "sigma", sigma, "a number of px of at least 0")
    return _Elastic(float(sigma))(img)
