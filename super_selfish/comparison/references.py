"""Features that need no training: principal components of pixels, and histograms of oriented gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.comparison.images import Images
from super_selfish.datasets.sources import open_source
from super_selfish.evaluation.baseline import adapt_batch_norm, reduced
from super_selfish.seeding import keyed_randomness

COMPONENTS = 64
_ANGLES = 9


def untrained_network(make: Callable[[], nn.Module], images: Images, seed: int, device: torch.device) -> nn.Module:
    """A network without training, whose batch norm has the statistics of the images for training.

    Args:
        make: Builds the network, with random weights.
        images: The images.
        seed: Random seed of the weights.
        device: Device of the random generators.
    """
    with keyed_randomness(seed, device):
        network = make()
    object.__setattr__(network, "preprocessing", images.preprocessing)
    adapt_batch_norm(network, open_source(images.train))
    return network


class PrincipalComponents(nn.Module):
    """Whitened principal components of images averaged to at most 16×16 px.

    Args:
        images: Images (images, C, H, W) that the components are fitted to, at least two.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        rows = reduced(images).double()
        mean = rows.mean(0)
        self.register_buffer("mean", mean)
        centred = rows - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
        kept = values > 1e-8 * values[-1].clamp_min(1e-12)
        kept[: -min(COMPONENTS, len(rows) - 1)] = False
        kept[-1] = True
        self.register_buffer("basis", vectors[:, kept] / values[kept].clamp_min(1e-12).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, up to 64)."""
        mean, basis = self.get_buffer("mean"), self.get_buffer("basis")
        return ((reduced(x).double() - mean) @ basis).float()


class OrientedGradients(nn.Module):
    """Histograms of oriented gradients: 9 unsigned angles in 4×4 cells, normalised over blocks of 2×2 cells.

    References:
        Dalal and Triggs, "Histograms of oriented gradients for human detection", 2005. Differs from the paper: the
        number of cells is fixed, so that features have 324 dimensions at every resolution; channels are averaged.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, 324)."""
        grey = F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        across = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
        down = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
        size = (across.square() + down.square()).sqrt()
        angle = torch.remainder(torch.atan2(down, across), math.pi) / math.pi * _ANGLES
        bins = torch.arange(_ANGLES, device=x.device).view(1, -1, 1, 1)
        distance = (angle - bins - 0.5).abs()
        share = (1 - torch.minimum(distance, _ANGLES - distance)).clamp_min(0)  # linear between neighbouring bins
        cells = F.adaptive_avg_pool2d(share * size, 4)
        blocks = F.unfold(cells, 2)  # (batch, 9 · 4, 9)
        return F.normalize(blocks, dim=1, eps=1e-6).flatten(1)
