"""``elastic_transform``, the elastic deformation of the 2020 release."""

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
        """Return the image, deformed by random displacements of nine control points."""
        magnitudes = Deformation(self.sigma / min(image.shape[:2]), 0.0)(generator, image.shape)
        return warps.elastic(image, magnitudes["displacement"])


@validate_keywords()
def elastic_transform(img: AnyImage, sigma: float) -> AnyImage:
    """Apply a random elastic deformation.

    Nine control points are displaced: the corners, the midpoints of the sides, and the centre. Displacements are
    interpolated between them and sampled from torch's global generator.

    Args:
        img: PIL image, C×H×W tensor or H×W×C array of uint8, uint16, or floats in [0, 1].
        sigma: Standard deviation of the vertical and horizontal displacements in px, at least 0.

    Returns:
        The deformed image, of the same type, size and range.

    Raises:
        ConfigurationError: If ``sigma`` is out of range.
        DataError: If the input is not an image.

    Examples:
        >>> import torch
        >>> elastic_transform(torch.rand(3, 32, 48), sigma=2.0).shape
        torch.Size([3, 32, 48])
    """
    check_argument(is_number(sigma, 0, 1e6), "sigma", sigma, "a number of at least 0, in px")
    return _Elastic(float(sigma))(img)
