"""Heads: what a pretext puts behind the backbone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.models.efficient import NormType


class ResizableLinear(nn.Linear):
    """A linear layer whose number of outputs follows from the data: it takes that of a file that is loaded into it.

    Example:
        >>> import torch
        >>> from super_selfish.models.combined import load_exactly
        >>> layer = ResizableLinear(4, 8000)
        >>> load_exactly(layer, ResizableLinear(4, 23).state_dict(), "a file")
        >>> layer
        ResizableLinear(in_features=4, out_features=23, bias=True)
    """

    resizable = ("weight", "bias")

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "weight":
            self.out_features = len(value)


class Classification(nn.Module):
    """A multilayer perceptron whose last layer is plain: hidden layers are linear, norm, activation.

    Args:
        layers: Sizes from the input to the logits, at least two.
        activation: Class of the activation behind hidden layers.
        batchnorm: Normalise hidden layers.
        norm_type: ``"batch"``, or ``"layer"``: each row by itself, so that nothing depends on the rest of the batch.
        resizable: Let the last layer take the number of outputs of a file.

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
        resizable: bool = False,
    ) -> None:
        super().__init__()
        check_layers(layers)
        self.layers = nn.Sequential()
        for features, outputs in itertools.pairwise(layers[:-1]):
            self.layers.append(nn.Linear(features, outputs, bias=not batchnorm))
            if batchnorm:
                self.layers.append(nn.BatchNorm1d(outputs) if norm_type == "batch" else nn.LayerNorm(outputs))
            self.layers.append(activation())
        self.layers.append((ResizableLinear if resizable else nn.Linear)(layers[-2], layers[-1]))

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
