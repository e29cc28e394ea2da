"""Split-brain autoencoders: two disjoint halves, each of which predicts the input channels of the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from super_selfish.errors import COUNT, ConfigurationError, check_argument
from super_selfish.models.averages import copied
from super_selfish.models.backbones import BackboneOutput, map_of, pooled_of
from super_selfish.models.combined import in_eval_mode
from super_selfish.models.decoders import HIDDEN, GroupedUpsampling, decoder_layers
from super_selfish.models.efficient import EfficientFeatures, NormType, ReshapeChannels
from super_selfish.models.shapes import expected_channels

GROUPS = (1, 2)
"""Input channels of the two halves: L, and a and b."""


def split_backbone(make: Callable[[], nn.Module]) -> GroupedBackbone:
    """Build a backbone of two halves.

    Args:
        make: Returns a network: a new one with separate weights at each call, or always the same one. A
            ``GroupedBackbone`` is used as is. Any other network becomes one half.

    Raises:
        ConfigurationError: If a ``GroupedBackbone`` has other groups, or halves with different numbers of channels.
    """
    first = make()
    if not isinstance(first, GroupedBackbone):
        second = make()
        return GroupedBackbone(first if second is first else [first, second], GROUPS)
    channels = []
    if first.groups == GROUPS:
        device = next(first.parameters()).device
        with in_eval_mode(first), torch.no_grad():
            inputs = first.inputs(torch.zeros(1, sum(GROUPS), 64, 64, device=device))
            channels = [
                BackboneOutput(branch, "map")(part).shape[1]
                for branch, part in zip(first.branches, inputs, strict=True)
            ]
    if len(set(channels)) != 1:
        raise ConfigurationError(
            "The backbone is not made of two equal halves.",
            expected=f"groups={GROUPS} (lightness, colour) with the same number of feature channels",
            received=f"groups={first.groups}" + (f" with {channels} channels" if channels else ""),
        )
    return first


def crossed_decoder(shape: tuple[int, int, int], target: tuple[int, int], counts: tuple[int, int]) -> GroupedUpsampling:
    """Build a decoder of lightness from the colour half, and a decoder of colour from the lightness half.

    Args:
        shape: Channels, height and width of the feature map of both halves.
        target: Approximate height and width of the output.
        counts: Number of lightness classes and number of colour classes.
    """
    layers = decoder_layers(shape[1:], target, shape[0] // 2, HIDDEN[-1], HIDDEN[:-1])
    return GroupedUpsampling(layers, counts, out_resolution=None, sources=(1, 0))


def check_crossed(predictor: nn.Module, shape: tuple[int, int, int], lightness: int) -> None:
    """Check that no half predicts its own input channels.

    Args:
        predictor: Maps the feature map of both halves to logits.
        shape: Channels, height and width of that feature map.
        lightness: Number of lightness logits. The colour logits follow them.

    Raises:
        ConfigurationError: If the logits of a channel have a gradient with respect to the half with that input.
    """
    trial = copied(predictor).eval()
    device = next((parameter.device for parameter in predictor.parameters()), torch.device("cpu"))
    features = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    with torch.enable_grad():
        logits = trial(features)
        weights = torch.linspace(1, 2, logits.numel(), device=device).view(logits.shape)
        groups = (logits * weights).split([lightness, logits.shape[1] - lightness], dim=1)
        gradients = [torch.autograd.grad(group.sum(), features, retain_graph=True)[0] for group in groups]
    leaks = [gradient.chunk(2, dim=1)[half].any() for half, gradient in enumerate(gradients)]
    if any(leaks):
        name = "lightness" if leaks[0] else "colour"
        raise ConfigurationError(
            f"The predictor predicts {name} from the half that sees {name}.",
            expected="lightness decoded from the second half of the feature map, and colour from the first half",
            received=type(predictor).__name__,
            fix="Use GroupedUpsampling(..., sources=(1, 0)).",
        )


class GroupedBackbone(nn.Module):
    """One network per group of image channels, each with a 1×1 convolution to its number of input channels.

    Args:
        networks: One network, which is copied for each group, or a sequence of one network per group. Networks return
            features (batch, features) or feature maps (batch, channels, height, width).
        groups: Number of channels of each group, in the channel order of the images.

    Attributes:
        image_channels: Number of image channels.

    Raises:
        ConfigurationError: If a group has no channels, or the numbers of groups and networks differ.

    Examples:
        >>> from super_selfish.models import SmallResNet
        >>> GroupedBackbone(SmallResNet(width=4), groups=(1, 2))(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 64])
    """

    def __init__(self, networks: nn.Module | Sequence[nn.Module], groups: Sequence[int] = (1, 2)) -> None:
        super().__init__()
        self.groups = tuple(groups)
        branches = [copied(networks) for _ in groups] if isinstance(networks, nn.Module) else list(networks)
        if min(self.groups, default=0) < 1 or len(branches) != len(self.groups):
            raise ConfigurationError(
                "`groups` and `networks` do not match.",
                expected="at least one channel and one network per group",
                received=f"groups={self.groups} and {len(branches)} networks",
            )
        self.image_channels = sum(self.groups)
        self.stems = nn.ModuleList()
        for channels, network in zip(self.groups, branches, strict=True):
            stem = nn.Conv2d(channels, expected_channels(network) or 3, 1)
            reference = next(network.parameters(), None)
            self.stems.append(stem if reference is None else stem.to(reference.device, reference.dtype))
        self.branches = nn.ModuleList(branches)

    def inputs(self, x: Tensor) -> list[Tensor]:
        """Compute the input of each branch from images ``x``."""
        return [stem(part) for stem, part in zip(self.stems, torch.split(x, list(self.groups), dim=1), strict=True)]

    def map(self, x: Tensor) -> Tensor:
        """Concatenate the feature maps of the branches along the channels."""
        parts = zip(self.branches, self.inputs(x), strict=True)
        return torch.cat([map_of(branch, part) for branch, part in parts], dim=1)

    def pooled(self, x: Tensor) -> Tensor:
        """Concatenate the pooled features of the branches."""
        parts = zip(self.branches, self.inputs(x), strict=True)
        return torch.cat([pooled_of(branch, part) for branch, part in parts], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the outputs of the branches (vectors or feature maps) along the channels."""
        return torch.cat([branch(part) for branch, part in zip(self.branches, self.inputs(x), strict=True)], dim=1)


class GroupedEfficientFeatures(GroupedBackbone):
    """One EfficientNet per group of image channels, each followed by a 1×1 convolution.

    Args:
        name: ``"efficientnet-b0"`` to ``"efficientnet-b8"``.
        pretrained: Load ImageNet weights.
        groups: Number of channels of each group, in the channel order of the images.
        norm_type: ``"batch"`` for batch norm, or ``"layer"`` for layer norm, which is independent of the batch.
        channels_per_group: Number of output channels per branch.
        flat: Return flat features (batch, groups · channels_per_group · height · width) instead of the feature map.

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
        options: dict[str, Any] = {"kernel_size": 1, "padding": 0, "activation": nn.Identity, "flat": flat}
        super().__init__(
            [ReshapeChannels(trunk, trunk.out_channels, channels_per_group, **options) for trunk in trunks], groups
        )
