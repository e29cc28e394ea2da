"""Heads: what a pretext puts behind the backbone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.models.efficient import NormType


class Classification(nn.Module):
    """A multilayer perceptron whose last layer is plain: hidden layers are linear, norm, activation.

    Args:
        layers: Sizes from the input to the logits, at least two.
        activation: Class of the activation behind hidden layers.
        batchnorm: Normalise hidden layers.
        norm_type: ``"batch"``, or ``"layer"``: each row by itself, so that nothing depends on the rest of the batch.

    Raises:
        ConfigurationError: If there are fewer than two sizes or one is not positive.

    Example:
        >>> import torch
        >>> Classification([3136, 10])(torch.rand(2, 64, 7, 7)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        layers: Sequence[int] = (3136, 1024, 256, 4),
        activation: type[nn.Module] = nn.PReLU,
        batchnorm: bool = True,
        *,
        norm_type: NormType = "batch",
    ) -> None:
        super().__init__()
        check_layers(layers)
        self.layers = nn.Sequential()
        for features, outputs in itertools.pairwise(layers[:-1]):
            self.layers.append(nn.Linear(features, outputs, bias=not batchnorm))
            if batchnorm:
                self.layers.append(nn.BatchNorm1d(outputs) if norm_type == "batch" else nn.LayerNorm(outputs))
            self.layers.append(activation())
        self.layers.append(nn.Linear(layers[-2], layers[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, layers[-1]) from features (batch, ...), which are flattened."""
        return cast(Tensor, self.layers(x.flatten(1)))


def check_layers(layers: Sequence[int]) -> None:
    """Refuse sizes that make no network.

    Raises:
        ConfigurationError: If there are fewer than two or one is not positive.
    """
    if len(layers) < 2 or any(size < 1 for size in layers):
        raise ConfigurationError(
            "`layers` cannot make a network.",
            expected="at least two positive sizes, from the input to the output",
            received=f"layers={list(layers)}",
        )
