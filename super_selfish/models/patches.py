"""A network that processes an image as a grid of patches."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.models.backbones import BackboneOutput
from super_selfish.models.combined import CombinedNet, in_module_precision
from super_selfish.models.predictive import Batch2Image


class PatchNet(CombinedNet):
    """A backbone applied to each patch of an image, followed by a predictor on the grid of patch features.

    Args:
        backbone: Maps patches to features. Feature maps are averaged over space.
        predictor: Maps grids of features (batch, features, rows, columns) to the output of the pretext task.
        grid: Number of rows and columns of patches per image.
        size: Height and width in px to which patches are resized. None: no resizing.

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

    @in_module_precision
    def features(self, x: Tensor) -> Tensor:
        """Encode patches (batch · rows · columns, channels, height, width) as (batch, features, rows, columns)."""
        if self.size is not None and x.shape[-2:] != self.size:
            downscaled = x.shape[-2] > self.size[0] or x.shape[-1] > self.size[1]
            x = F.interpolate(x, self.size, mode="bilinear", antialias=downscaled)
        return cast(Tensor, self.grid(BackboneOutput(self.backbone, "pooled")(x)))
