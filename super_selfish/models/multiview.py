"""Two networks of one image: one sees its lightness, the other its colours."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from super_selfish.models.backbones import map_of
from super_selfish.models.combined import CombinedNet, lowered
from super_selfish.models.shapes import expected_channels

LabView = Literal["l", "ab", "both"]

CHANNELS = {"l": slice(0, 1), "ab": slice(1, 3)}
"""Of Lab, by what is seen of it."""


class LabBranch(nn.Module):
    """A network that sees lightness alone, or colours alone, behind a 1×1 convolution to the channels that it takes.

    Args:
        network: Images to features, or to a map.
        view: ``"l"`` or ``"ab"``.

    Examples:
        >>> from super_selfish.models import SmallResNet
        >>> branch = LabBranch(SmallResNet(width=4), "ab")
        >>> lab = torch.rand(2, 3, 32, 32)
        >>> torch.equal(branch(lab), branch(lab[:, 1:]))
        True
    """

    image_channels = 3

    def __init__(self, network: nn.Module, view: Literal["l", "ab"]) -> None:
        super().__init__()
        self.view = view
        self.seen = CHANNELS[view]
        stem = nn.Conv2d(self.seen.stop - self.seen.start, expected_channels(network) or 3, 1)
        reference = next(network.parameters(), None)
        self.stem = stem if reference is None else stem.to(reference)
        self.network = network

    def inputs(self, x: Tensor) -> Tensor:
        """What the network is given of Lab (batch, 3, height, width), or of the seen channels alone."""
        return cast(Tensor, self.stem(x[:, self.seen] if x.shape[1] == self.image_channels else x))

    def map(self, x: Tensor) -> Tensor:
        """The network's map of normalised Lab, or of the seen channels alone."""
        return map_of(self.network, self.inputs(x))

    def forward(self, x: Tensor) -> Tensor:
        """The network's features of normalised Lab, or of the seen channels alone."""
        return cast(Tensor, self.network(self.inputs(x)))


class BothViews(nn.Module):
    """Two backbones of the same images, with their features one after another; the weights are shared, not copied.

    Args:
        first: Images to features.
        second: Images to features.

    Examples:
        >>> BothViews(nn.Flatten(), nn.AdaptiveAvgPool2d(1))(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 51])
    """

    image_channels = 3

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def map(self, x: Tensor) -> Tensor:
        """The two maps, one after another along the channels; as vectors on a 1×1 map where they differ in size."""
        maps = [map_of(backbone, x) for backbone in (self.first, self.second)]
        if maps[0].shape[2:] != maps[1].shape[2:]:
            maps = [part.flatten(1)[:, :, None, None] for part in maps]
        return torch.cat(maps, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The features, one after another: a map if both have maps of one size, else a vector."""
        parts = [backbone(x) for backbone in (self.first, self.second)]
        if parts[0].shape[2:] != parts[1].shape[2:]:
            parts = [part.flatten(1) for part in parts]
        return torch.cat(parts, dim=1)


class MultiviewNet(CombinedNet):
    """An encoder of lightness and an encoder of colours, which share nothing, as one network.

    Args:
        lightness: Its backbone sees L.
        colours: Its backbone sees a and b; it becomes the part ``ab``.

    Examples:
        >>> from super_selfish.models import SmallResNet
        >>> encoders = [CombinedNet(LabBranch(SmallResNet(width=4), view), nn.Linear(32, 8)) for view in ("l", "ab")]
        >>> [embedding.shape for embedding in MultiviewNet(*encoders)(torch.rand(2, 3, 32, 32)).chunk(2, dim=1)]
        [torch.Size([2, 8]), torch.Size([2, 8])]
    """

    def __init__(self, lightness: CombinedNet, colours: CombinedNet) -> None:
        super().__init__(lightness.backbone, lightness.predictor)
        self.ab = colours

    @lowered
    def forward(self, x: Tensor) -> Tensor:
        """Embeddings of L and, behind them, of a and b: (batch, 2 · dim) of normalised Lab (batch, 3, H, W)."""
        return torch.cat([self.predict(self.features(x)), self.ab(x)], dim=1)
