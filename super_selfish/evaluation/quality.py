"""Label-free metrics of features."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from super_selfish.errors import DataError, validate_keywords
from super_selfish.evaluation.score import Features, as_features

_RANK_ROWS = 25_000  # number of images for the rank; RankMe: enough for ImageNet features
_RANK_SIDE = 4_096  # largest side of a matrix whose spectrum is computed
_PAIR_ROWS = 4_096  # number of images for the uniformity: about 8 million pairs


@dataclasses.dataclass(frozen=True)
class Quality:
    """Label-free metrics of features. They compare runs of one algorithm, not different algorithms.

    Attributes:
        effective_rank: Effective number of dimensions, in [1, dimensions]; 1 indicates collapse.
        std: Mean standard deviation over the dimensions of L2-normalised features; 0 indicates collapse.
        std_uniform: Value of `std` for features that are uniform on the sphere: 1 / sqrt(dimensions).
        uniformity: Log of the mean of exp(-2 distance²) over pairs, in [-8, 0]; lower is more uniform, and 0 indicates
            collapse.
        dead: Fraction of dimensions that are equal for all images, in [0, 1].
        dimensions: Number of features per image.
        images: Number of evaluated images.

    Examples:
        >>> print(Quality(31.2, 0.118, 0.125, -3.1, 0.0, 64, 2000))
        effective rank 31.2 of 64, std 0.118 (even: 0.125), uniformity -3.10, dead 0.0 %, 2000 images
    """

    effective_rank: float
    std: float
    std_uniform: float
    uniformity: float
    dead: float
    dimensions: int
    images: int

    def as_dict(self) -> dict[str, float | int]:
        """The metrics as a dictionary."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """A one-line summary."""
        return (
            f"effective rank {self.effective_rank:.1f} of {self.dimensions}, "
            f"std {self.std:.3f} (even: {self.std_uniform:.3f}), uniformity {self.uniformity:.2f}, "
            f"dead {100 * self.dead:.1f} %, {self.images} images"
        )


@validate_keywords()
def quality(x: Features) -> Quality:
    """Compute label-free metrics of features.

    Large data sets are subsampled at evenly spaced rows. The rank and the standard deviation use up to 25,000 images
    (4,096 for more than 4,096 dimensions), the uniformity uses up to 4,096, and `dead` uses all.

    Args:
        x: Features (images, dim), not normalised.

    Raises:
        DataError: If there are fewer than two images, or features are not finite or not of shape (images, dim).

    Examples:
        >>> measures = quality(np.eye(8))
        >>> round(measures.effective_rank, 6), measures.dimensions
        (8.0, 8)

    References:
        Garrido, Balestriero, Najman and LeCun, "RankMe", 2023: effective rank. Differs from the paper: singular values
        that are only rounding are dropped instead of adding 1e-7 to each.
        Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity", 2020.
        Chen and He, "Exploring simple Siamese representation learning", 2021: standard deviation against 1 / sqrt(dim).
    """
    features = as_features(x)
    if len(features) < 2:
        raise DataError("Too few images for label-free metrics.", expected="at least two images", received="one")
    images, dimensions = features.shape
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        rows = _evenly(features, _RANK_ROWS if dimensions <= _RANK_SIDE else _RANK_SIDE)
        return Quality(
            effective_rank=_effective_rank(rows),
            std=_std(rows),
            std_uniform=1.0 / math.sqrt(dimensions),
            uniformity=_uniformity(_evenly(features, _PAIR_ROWS)),
            dead=float((features.amax(dim=0) == features.amin(dim=0)).double().mean()),
            dimensions=dimensions,
            images=images,
        )


def _evenly(rows: torch.Tensor, limit: int) -> torch.Tensor:
    if len(rows) <= limit:
        return rows
    return rows[torch.from_numpy(np.arange(limit, dtype=np.int64) * len(rows) // limit).to(rows.device)]


def _normalised(rows: torch.Tensor) -> torch.Tensor:
    """L2-normalised rows as float64; zero rows stay zero."""
    rows = rows.double()  # scale first: squares of very large or small numbers would overflow or underflow
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    length: torch.Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.clamp_min(0.5)  # 1 or more, or 0


def _effective_rank(rows: torch.Tensor) -> float:
    """Exponential of the entropy of the singular values, computed from the smaller Gram matrix in float64."""
    scale = float(rows.abs().max())
    if scale == 0.0:
        return 1.0
    wide = rows.shape[0] < rows.shape[1]
    gram = torch.zeros(min(rows.shape), min(rows.shape), dtype=torch.float64, device=rows.device)
    for block in torch.split(rows, 4096, dim=1 if wide else 0):
        part = block.double() / scale
        gram += part @ part.T if wide else part.T @ part
    squares = torch.linalg.eigvalsh(gram)
    squares = squares[squares > squares[-1] * max(rows.shape) * torch.finfo(torch.float64).eps]
    fraction = squares.sqrt() / squares.sqrt().sum()
    return float(torch.exp(-(fraction * fraction.log()).sum()))


def _std(rows: torch.Tensor) -> float:
    """Mean over dimensions of the standard deviation of normalised rows."""
    origin = _normalised(rows[:1])  # subtracted first, so that equal rows give exactly 0
    total = torch.zeros_like(origin[0])
    squares = torch.zeros_like(total)
    for block in torch.split(rows, 4096):
        part = _normalised(block) - origin
        total += part.sum(dim=0)
        squares += part.square().sum(dim=0)
    variance = squares / len(rows) - (total / len(rows)).square()
    return float(variance.clamp_min(0).sqrt().mean())


def _uniformity(rows: torch.Tensor) -> float:
    """Log of the mean of exp(-2 |u - v|²) over all pairs of different rows."""
    unit = _normalised(rows)
    unit = unit - unit[0]  # preserves distances; equal rows give exactly 0
    lengths = unit.square().sum(dim=1)
    total = 0.0
    for start in range(0, len(unit), 1024):
        part = slice(start, start + 1024)
        distance = (lengths[part, None] + lengths - 2 * unit[part] @ unit.T).clamp_min(0)
        weight = torch.exp(-2 * distance)
        weight.diagonal(start).zero_()
        total += float(weight.sum())
    return math.log(total / (len(unit) * (len(unit) - 1)))
