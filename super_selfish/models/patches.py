"""A network that sees an image as a grid of patches."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.models.backbones import BackboneOutput
from super_selfish.models.combined import CombinedNet, lowered
from super_selfish.models.predictive import Batch2Image


class PatchNet(CombinedNet):
    """A backbone that sees the patches of an image one by one, and a predictor that sees the grid of their features.

    Args:
        backbone: Patches to features; maps are averaged over space.
        predictor: Grids of features (batch, features, rows, columns) to whatever the task needs.
        grid: Rows and columns of the patches of an image.
        size: Height and width in px that patches are brought to; None: as they come.

    Examples:
        >>> import torch
        >>> net = PatchNet(nn.Flatten(), nn.Conv2d(48, 8, 1), grid=(3, 3), size=(4, 4))
        >>> net(torch.rand(2 * 9, 3, 8, 8)).shape
        torch.Size([2, 8, 3, 3])
    """

    def __init__(
        self, backbone: nn.Module, predictor: nn.Module, grid: tuple[int, int], size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(backbone, predictor, of_map=True)
        self.grid = Batch2Image(grid)
        self.size = size
        self.images_at_once = grid[0] * grid[1]

    @lowered
    def features(self, x: Tensor) -> Tensor:
        """Latents (batch, features, rows, columns) of patches (batch · rows · columns, channels, height, width)."""
        if self.size is not None and x.shape[-2:] != self.size:
            shrunk = x.shape[-2] > self.size[0] or x.shape[-1] > self.size[1]
            x = F.interpolate(x, self.size, mode="bilinear", antialias=shrunk)
        return cast(Tensor, self.grid(BackboneOutput(self.backbone, "pooled")(x)))
