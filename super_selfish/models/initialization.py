"""Weight initialisation that preserves the variance of activations."""

from __future__ import annotations

import torch
from torch import nn


def keep_variance(module: nn.Module, fan_in: int | None = None) -> None:
    """Initialise the convolutions of a module in place, so that outputs have about the variance of the inputs.

    Weights are sampled from a normal distribution with variance 1 / fan_in, truncated at two standard deviations.
    Biases are set to zero. PyTorch's default has a third of this variance, which shrinks the activations in layers
    without normalisation.

    Args:
        module: Module whose ``nn.Conv2d`` layers are initialised.
        fan_in: Number of inputs of each output. None: the number of unmasked weights of a kernel.

    Examples:
        >>> convolution = nn.Conv2d(256, 64, 1)
        >>> keep_variance(convolution)
        >>> round(16 * convolution.weight.std().item(), 1)  # below 1, because of the truncation
        0.9

    References:
        LeCun et al., "Efficient BackProp", 1998, section 4.6.
    """
    for convolution in module.modules():
        if not isinstance(convolution, nn.Conv2d):
            continue
        std = (fan_in or _fan_in(convolution)) ** -0.5
        nn.init.trunc_normal_(convolution.weight, std=std, a=-2 * std, b=2 * std)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


def _fan_in(convolution: nn.Conv2d) -> float:
    """Return the number of unmasked inputs of each output of a convolution."""
    mask = getattr(convolution, "mask", None)
    kernel = torch.ones_like(convolution.weight[0])
    return float((kernel if mask is None else kernel * mask.to(kernel)).count_nonzero())
