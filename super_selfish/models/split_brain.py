"""A network in two halves, of which each predicts what the other sees: nothing else makes it split-brain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from super_selfish.errors import COUNT, ConfigurationError, check_argument
from super_selfish.models.backbones import BackboneOutput, map_of
from super_selfish.models.combined import in_eval_mode
from super_selfish.models.decoders import HIDDEN, GroupedUpsampling, decoder_layers
from super_selfish.models.efficient import EfficientFeatures, NormType, ReshapeChannels
from super_selfish.models.shapes import expected_channels

GROUPS = (1, 2)
"""Channels that the halves see: lightness, and the two of colour."""


def split_backbone(make: Callable[[], nn.Module]) -> GroupedBackbone:
    """A backbone of two halves.

    Args:
        make: Gives a network, the same one again or another one with weights of its own. A ``GroupedBackbone`` is taken
            as it is; any other network becomes one half.

    Raises:
        ConfigurationError: If a ``GroupedBackbone`` is not of the right groups, or its halves differ in their maps.
    """
    first = make()
    if not isinstance(first, GroupedBackbone):
        second = make()
        return GroupedBackbone(first if second is first else [first, second], GROUPS)
    channels = []
    if first.groups == GROUPS:
        device = next(first.parameters()).device
        with in_eval_mode(first), torch.no_grad():
            seen = first.inputs(torch.zeros(1, sum(GROUPS), 64, 64, device=device))
            channels = [
                BackboneOutput(branch, "map")(part).shape[1] for branch, part in zip(first.branches, seen, strict=True)
            ]
    if len(set(channels)) != 1:
        raise ConfigurationError(
            "The backbone is not made of two equal halves.",
            expected=f"groups={GROUPS}, lightness and colour, with equally many channels in their maps",
            received=f"groups={first.groups}" + (f" with {channels} channels" if channels else ""),
        )
    return first


def crossed_decoder(shape: tuple[int, int, int], target: tuple[int, int], counts: tuple[int, int]) -> GroupedUpsampling:
    """A decoder for each half: of lightness from the colours' map, of colours from the lightness' map.

    Args:
        shape: Channels, height and width of the two halves' map.
        target: Height and width of the classes, which the result has about.
        counts: Logits of lightness and of colour.
    """
    layers = decoder_layers(shape[1:], target, shape[0] // 2, HIDDEN[-1], HIDDEN[:-1])
    return GroupedUpsampling(layers, counts, out_resolution=None, sources=(1, 0))


def check_crossed(predictor: nn.Module, shape: tuple[int, int, int], lightness: int) -> None:
    """Make sure that a predictor does not predict from a half what that half has seen.

    Args:
        predictor: From the map of the two halves to logits.
        shape: Channels, height and width of that map.
        lightness: Logits of lightness; those of colour are behind them.

    Raises:
        ConfigurationError: If a gradient tells that it does.
    """
    trial = copy.deepcopy(predictor).eval()
    device = next((parameter.device for parameter in predictor.parameters()), torch.device("cpu"))
    features = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    with torch.enable_grad():
        logits = trial(features)
        weights = torch.linspace(1, 2, logits.numel(), device=device).view(logits.shape)
        parts = (logits * weights).split([lightness, logits.shape[1] - lightness], dim=1)
        gradients = [torch.autograd.grad(part.sum(), features, retain_graph=True)[0] for part in parts]
    seen = [gradient.chunk(2, dim=1)[half].any() for half, gradient in enumerate(gradients)]
    if any(seen):
        name = "lightness" if seen[0] else "colour"
        raise ConfigurationError(
            f"The predictor predicts {name} from the half that sees {name}.",
            expected="lightness decoded from the second half of the map, colour from the first",
            received=type(predictor).__name__,
            fix="GroupedUpsampling(..., sources=(1, 0)) does that.",
        )


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
        check_argument(COUNT.is_valid(channels_per_group), "channels_per_group", channels_per_group, COUNT.expected)
        trunks = [EfficientFeatures(name, pretrained, norm_type) for _ in groups]
        plain: dict[str, Any] = {"kernel_size": 1, "padding": 0, "activation": nn.Identity, "flat": flat}
        super().__init__(
            [ReshapeChannels(trunk, trunk.out_channels, channels_per_group, **plain) for trunk in trunks], groups
        )
