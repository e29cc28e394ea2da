"""Networks for the L and ab channels of Lab images."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from super_selfish.models.backbones import map_of, pooled_of
from super_selfish.models.combined import CombinedNet, in_module_precision
from super_selfish.models.shapes import expected_channels

LabView = Literal["l", "ab", "both"]

CHANNELS = {"l": slice(0, 1), "ab": slice(1, 3)}
"""Lab channels of each view."""


class LabBranch(nn.Module):
    """A network on the L channel or on the ab channels, with a 1×1 convolution to its number of input channels.

    Args:
        network: Maps images to feature vectors or feature maps.
        view: Input channels: ``"l"`` or ``"ab"``.

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
        self.stem = stem if reference is None else stem.to(reference.device, reference.dtype)
        self.network = network

    def inputs(self, x: Tensor) -> Tensor:
        """Compute the input of the network from Lab (batch, 3, height, width), or from the channels of the view."""
        return cast(Tensor, self.stem(x[:, self.seen] if x.shape[1] == self.image_channels else x))

    def map(self, x: Tensor) -> Tensor:
        """Compute the feature map from normalised Lab, or from the channels of the view."""
        return map_of(self.network, self.inputs(x))

    def pooled(self, x: Tensor) -> Tensor:
        """Compute the pooled features from normalised Lab, or from the channels of the view."""
        return pooled_of(self.network, self.inputs(x))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features from normalised Lab, or from the channels of the view."""
        return cast(Tensor, self.network(self.inputs(x)))


class BothViews(nn.Module):
    """Concatenates the features of two backbones for the same images. The weights are shared, not copied.

    Args:
        first: Maps images to features.
        second: Maps images to features.

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
        """Concatenate the feature maps along the channels. Maps of different sizes are flattened to 1×1 maps."""
        maps = [map_of(backbone, x) for backbone in (self.first, self.second)]
        if maps[0].shape[2:] != maps[1].shape[2:]:
            maps = [feature_map.flatten(1)[:, :, None, None] for feature_map in maps]
        return torch.cat(maps, dim=1)

    def pooled(self, x: Tensor) -> Tensor:
        """Concatenate the pooled features."""
        return torch.cat([pooled_of(backbone, x) for backbone in (self.first, self.second)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the features: a feature map if both are maps of the same size, otherwise a vector."""
        outputs = [backbone(x) for backbone in (self.first, self.second)]
        if outputs[0].shape[2:] != outputs[1].shape[2:]:
            outputs = [features.flatten(1) for features in outputs]
        return torch.cat(outputs, dim=1)


class MultiviewNet(CombinedNet):
    """An encoder of the L channel and an encoder of the ab channels, without shared weights.

    Args:
        lightness: Encoder of L. Its backbone and predictor become ``backbone`` and ``predictor``.
        colours: Encoder of a and b. It becomes the submodule ``ab``.

    Examples:
        >>> from super_selfish.models import SmallResNet
        >>> encoders = [CombinedNet(LabBranch(SmallResNet(width=4), view), nn.Linear(32, 8)) for view in ("l", "ab")]
        >>> [embedding.shape for embedding in MultiviewNet(*encoders)(torch.rand(2, 3, 32, 32)).chunk(2, dim=1)]
        [torch.Size([2, 8]), torch.Size([2, 8])]
    """

    def __init__(self, lightness: CombinedNet, colours: CombinedNet) -> None:
        super().__init__(lightness.backbone, lightness.predictor)
        self.ab = colours

    @in_module_precision
    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the embeddings of L and ab, (batch, 2 · dim), of normalised Lab (batch, 3, H, W)."""
        return torch.cat([self.predict(self.features(x)), self.ab(x)], dim=1)
