"""Backbones of branches that each see a group of the channels, and nothing of the others."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from super_selfish.errors import COUNT, ConfigurationError, check_argument
from super_selfish.models.backbones import map_of
from super_selfish.models.efficient import EfficientFeatures, NormType, ReshapeChannels
from super_selfish.models.shapes import expected_channels


class GroupedBackbone(nn.Module):
    """A network for each group of channels, behind a 1×1 convolution that gives it the channels that it takes.

    Args:
        networks: One network, which is copied for each group, or a sequence of one for each. They return features
            (batch, features) or maps (batch, channels, height, width).
        groups: Channels of each group, in the order of the images' channels.

    Attributes:
        image_channels: Channels of the images.

    Raises:
        ConfigurationError: If a group has no channels, or there is not one network for each.

    Examples:
        >>> from super_selfish.models import SmallResNet
        >>> GroupedBackbone(SmallResNet(width=4), groups=(1, 2))(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 64])
    """

    def __init__(self, networks: nn.Module | Sequence[nn.Module], groups: Sequence[int] = (1, 2)) -> None:
        super().__init__()
        self.groups = tuple(groups)
        made = [copy.deepcopy(networks) for _ in groups] if isinstance(networks, nn.Module) else list(networks)
        if min(self.groups, default=0) < 1 or len(made) != len(self.groups):
            raise ConfigurationError(
                "Groups and networks do not fit.",
                expected="at least one channel in each group, and one network for it",
                received=f"groups={self.groups} and {len(made)} networks",
            )
        self.image_channels = sum(self.groups)
        self.stems = nn.ModuleList()
        for channels, network in zip(self.groups, made, strict=True):
            stem = nn.Conv2d(channels, expected_channels(network) or 3, 1)
            reference = next(network.parameters(), None)
            self.stems.append(stem if reference is None else stem.to(reference))
        self.branches = nn.ModuleList(made)

    def inputs(self, x: Tensor) -> list[Tensor]:
        """What each branch sees of the images ``x``."""
        return [stem(part) for stem, part in zip(self.stems, torch.split(x, list(self.groups), dim=1), strict=True)]

    def map(self, x: Tensor) -> Tensor:
        """The branches' maps of the images ``x``, one after another along the channels."""
        parts = zip(self.branches, self.inputs(x), strict=True)
        return torch.cat([map_of(branch, part) for branch, part in parts], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The branches' features of the images ``x``, one after another: vectors or maps, as they return them."""
        return torch.cat([branch(part) for branch, part in zip(self.branches, self.inputs(x), strict=True)], dim=1)


class GroupedEfficientFeatures(GroupedBackbone):
    """An EfficientNet for each group of channels, each with a 1×1 convolution to a few channels behind it.

    Args:
        name: ``"efficientnet-b0"`` to ``"efficientnet-b8"``.
        pretrained: Start from ImageNet weights.
        groups: Channels of each group, in the order of the images' channels.
        norm_type: ``"batch"``, or ``"layer"``: every normalisation independent of the batch.
        channels_per_group: Channels of each branch's map.
        flat: Return (batch, groups · channels_per_group · height · width) instead of the map.

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> net = GroupedEfficientFeatures()
        >>> net(torch.rand(1, 3, 64, 64)).shape, net.map(torch.rand(1, 3, 64, 64)).shape
        (torch.Size([1, 256]), torch.Size([1, 64, 2, 2]))
    """

    def __init__(
        self,
        name: str = "efficientnet-b0",
        pretrained: bool = False,
        groups: Sequence[int] = (1, 2),
        norm_type: NormType = "batch",
        channels_per_group: int = 32,
        *,
        flat: bool = True,
    ) -> None:
        check_argument(COUNT.sound(channels_per_group), "channels_per_group", channels_per_group, COUNT.expected)
        trunks = [EfficientFeatures(name, pretrained, norm_type) for _ in groups]
        plain: dict[str, Any] = {"kernel_size": 1, "padding": 0, "activation": nn.Identity, "flat": flat}
        super().__init__(
            [ReshapeChannels(trunk, trunk.out_channels, channels_per_group, **plain) for trunk in trunks], groups
        )
