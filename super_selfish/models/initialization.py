"""Initial weights that keep the scale of activations."""

from __future__ import annotations

import torch
from torch import nn


def keep_variance(module: nn.Module, fan_in: int | None = None) -> None:
    """Initialise the convolutions of a module, in place, so that outputs have about the variance of the inputs.

    Weights are drawn from a normal distribution of variance 1 / fan-in, truncated at two deviations; biases are zero.
    The default of torch has a third of that variance, which shrinks the output of each layer that no normalisation
    follows.

    Args:
        module: Its ``nn.Conv2d`` layers are initialised.
        fan_in: Inputs of each output; None: those of a kernel, without its masked weights.

    Examples:
        >>> convolution = nn.Conv2d(256, 64, 1)
        >>> keep_variance(convolution)
        >>> round(16 * convolution.weight.std().item(), 1)  # 1, less the tails
        0.9

    References:
        LeCun et al., "Efficient BackProp", 1998, section 4.6.
    """
    for convolution in module.modules():
        if not isinstance(convolution, nn.Conv2d):
            continue
        deviation = (fan_in or _visible(convolution)) ** -0.5
        nn.init.trunc_normal_(convolution.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


def _visible(convolution: nn.Conv2d) -> float:
    """Inputs of each output of a convolution, without what its mask hides."""
    mask = getattr(convolution, "mask", None)
    kernel = torch.ones_like(convolution.weight[0])
    return float((kernel if mask is None else kernel * mask.to(kernel)).count_nonzero())
