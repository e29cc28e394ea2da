"""What the learning benchmarks share: a network for small images and small machines, and how features are scored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.evaluation import Score, extract_features, knn, linear_probe
from super_selfish.models import BackboneOutput


class SmallNet(nn.Module):
    """Six 3×3 convolutions, to 256 channels on a sixteenth of the side; 0.57 million weights.

    Args:
        norm: Makes the normalisation of a number of channels behind each.
    """

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return [convolution, norm(outputs), nn.ReLU()]

        stages = [*layer(3, 32, 2), *layer(32, 64, 2), *layer(64, 64, 1), *layer(64, 128, 2), *layer(128, 128, 1)]
        self.layers = nn.Sequential(*stages, *layer(128, 256, 2)).to(memory_format=torch.channels_last)

    def map(self, x: Tensor) -> Tensor:
        """The map (batch, 256, height / 16, width / 16)."""
        return self.layers(x)

    def forward(self, x: Tensor) -> Tensor:
        """The map, averaged over space: (batch, 256)."""
        return self.map(x).mean((2, 3))


class Positions(nn.Module):
    """The map of a backbone, averaged to 2×2 positions: (batch, 4 · channels)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.map = BackboneOutput(backbone, "map")

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.map(x), 2).flatten(1)


def scores(backbone: nn.Module, images: dict[str, np.ndarray]) -> tuple[Score, Score]:
    """KNN (k = 20, t = .07) and linear probe of pooled features, fitted on the training images, on the test images."""
    pooled = BackboneOutput(backbone, "pooled")
    train, test = (features_of(pooled, images, part) for part in ("train", "test"))
    return knn(*train, *test, k=20, t=0.07), linear_probe(*train, *test, seed=0)


def map_probe(backbone: nn.Module, images: dict[str, np.ndarray]) -> Score:
    """Linear probe of the map, averaged to 2×2 positions."""
    train, test = (features_of(Positions(backbone), images, part) for part in ("train", "test"))
    return linear_probe(*train, *test, seed=0)


def features_of(backbone: nn.Module, images: dict[str, np.ndarray], part: str) -> tuple[Tensor, Tensor]:
    """Features and labels of the training or test images."""
    return extract_features(backbone, (images[f"x_{part}"], images[f"y_{part}"]))
