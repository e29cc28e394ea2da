"""A network in two halves, of which each predicts what the other sees: nothing else makes it split-brain."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.models.backbones import BackboneOutput
from super_selfish.models.decoders import HIDDEN, GroupedUpsampling, decoder_layers
from super_selfish.models.grouped import GroupedBackbone
from super_selfish.models.modes import in_eval_mode

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
