"""Networks that follow a trained one as a moving average."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def momentum_copy(network: Network) -> Network:
    """An equal network that shares no tensor with the first and needs no gradient."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Move each parameter of a copy to ``momentum * average + (1 - momentum) * network``.

    Buffers, such as batch statistics, are the copy's own and stay as they are.

    Args:
        average: A :func:`momentum_copy` of the network.
        network: What is trained.
        momentum: In [0, 1]; 1 leaves the copy as it is.
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - momentum)
