"""What the learning benchmarks share: a network for small images and small machines, and how features are scored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from super_selfish.evaluation import Score, extract_features, knn, linear_probe


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


def scores(backbone: nn.Module, images: dict[str, np.ndarray]) -> tuple[Score, Score]:
    """KNN (k = 20, t = .07) and linear probe, fitted on the training images, on the test images."""
    x, y = extract_features(backbone, (images["x_train"], images["y_train"]))
    test_x, test_y = extract_features(backbone, (images["x_test"], images["y_test"]))
    return knn(x, y, test_x, test_y, k=20, t=0.07), linear_probe(x, y, test_x, test_y, seed=0)
