"""A network for small images and small machines, the same in every learning benchmark."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SmallNet(nn.Module):
    """Six 3×3 convolutions with batch norm, to 256 channels on a sixteenth of the side; 0.57 million weights."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        stages = [*layer(3, 32, 2), *layer(32, 64, 2), *layer(64, 64, 1), *layer(64, 128, 2), *layer(128, 128, 1)]
        self.layers = nn.Sequential(*stages, *layer(128, 256, 2)).to(memory_format=torch.channels_last)

    def map(self, x: Tensor) -> Tensor:
        """The map (batch, 256, height / 16, width / 16)."""
        return self.layers(x)

    def forward(self, x: Tensor) -> Tensor:
        """The map, averaged over space: (batch, 256)."""
        return self.map(x).mean((2, 3))
