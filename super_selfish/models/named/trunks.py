"""Networks of other libraries without their classifiers, as backbones with a feature map and pooled features."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.models.backbones import as_map


class Trunk(nn.Module):
    """A convolutional network of another library, without its classifier, followed by global average pooling.

    Subclasses override :meth:`map` and :meth:`pooled` for other architectures.

    Args:
        net: Maps images to feature maps or feature vectors.
        prefix: Prefix of the names of its tensors in that library.
        last: Activation that follows the feature map in that library; it has no weights.
    """

    net: Any  # its submodules are those of another library

    def __init__(self, net: nn.Module, prefix: str = "", last: nn.Module | None = None) -> None:
        super().__init__()
        self.prefix = prefix
        self.net = net
        self.last = nn.Identity() if last is None else last

    def map(self, x: Tensor) -> Tensor:
        """Compute the feature map (batch, channels, height, width). A vector is returned as a 1×1 map."""
        return as_map(self.last(self.net(x.contiguous(memory_format=torch.channels_last))))

    def pooled(self, x: Tensor) -> Tensor:
        """Compute the pooled features (batch, channels), the input of the classifier in that library."""
        return self.map(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the pooled features (batch, channels)."""
        return self.pooled(x)

    def plain_names(self) -> dict[str, Tensor]:
        """The ``state_dict()`` with the tensor names of that library."""
        return {self.prefix + key: value for key, value in self.net.state_dict().items()}


def padded_to_patches(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Pad images (batch, C, H, W) with zeros at the bottom and on the right to multiples of the patch size.

    Examples:
        >>> padded_to_patches(torch.rand(1, 3, 225, 224), (16, 16)).shape
        torch.Size([1, 3, 240, 224])
    """
    below, right = (-side % step for side, step in zip(images.shape[-2:], patch, strict=True))
    return F.pad(images, (0, right, 0, below)) if below or right else images


def resized_positions(positions: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """Interpolate the position embeddings of a square grid for another grid (bicubic, antialiased).

    Args:
        positions: (1, prefix + side · side, channels).
        grid: Rows and columns of patches.
        prefix: Number of leading tokens without a position, such as the class token.

    Examples:
        >>> resized_positions(torch.rand(1, 1 + 14 * 14, 8), (4, 5), prefix=1).shape
        torch.Size([1, 21, 8])
    """
    side = math.isqrt(positions.shape[1] - prefix)
    if grid == (side, side):
        return positions
    plane = positions[:, prefix:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(plane, grid, mode="bicubic", antialias=True)
    return torch.cat([positions[:, :prefix], resized.flatten(2).transpose(1, 2)], dim=1)


def grid_of(count: int, height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of a grid of ``count`` patches whose aspect ratio is nearest to that of the image.

    Examples:
        >>> grid_of(30, 96, 80), grid_of(225, 225, 225), grid_of(7, 32, 32)
        ((6, 5), (15, 15), (7, 1))
    """
    rows = [row for row in range(1, count + 1) if count % row == 0]
    best = min(rows, key=lambda row: abs(math.log(row * row / count * width / height)))
    return best, count // best


def as_grid(tokens: Tensor, height: int, width: int) -> Tensor:
    """Arrange patch tokens (batch, patches, channels) as a map (batch, channels, rows, columns)."""
    grid = grid_of(tokens.shape[1], height, width)
    return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], *grid)
