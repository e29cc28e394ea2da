"""Heads, the networks that follow the backbone in a pretext task."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from super_selfish.errors import ConfigurationError, check_argument, is_count
from super_selfish.models.efficient import NormType


class ResizableLinear(nn.Linear):
    """A linear layer whose number of outputs depends on the data. It is resized when weights are loaded.

    Examples:
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
    """A multilayer perceptron (MLP) with a linear output layer. Hidden layers are linear, norm, activation.

    Args:
        layers: Layer sizes from the input to the logits, at least two.
        activation: Class of the activation of hidden layers, or another callable that returns a module.
        batchnorm: Normalise hidden layers.
        norm_type: ``"batch"`` for batch norm, or ``"layer"`` for layer norm, which is independent of the batch.
        resizable: Resize the output layer when weights with another number of outputs are loaded.
        last_bias: Add a bias to the output layer.
        centred: Normalise each output to mean 0 and standard deviation 1 over the batch. Embeddings then cannot be
            distinguished from older entries of a memory bank by a drift that is common to all images.

    Raises:
        ConfigurationError: If there are fewer than two sizes, or a size is not positive.

    Examples:
        >>> import torch
        >>> Classification([3136, 10])(torch.rand(2, 64, 7, 7)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        layers: Sequence[int] = (3136, 1024, 256, 4),
        activation: Callable[[], nn.Module] = nn.PReLU,
        batchnorm: bool = True,
        *,
        norm_type: NormType = "batch",
        resizable: bool = False,
        last_bias: bool = True,
        centred: bool = False,
    ) -> None:
        super().__init__()
        check_layers(layers)
        self.layers = nn.Sequential()
        for features, outputs in itertools.pairwise(layers[:-1]):
            self.layers.append(nn.Linear(features, outputs, bias=not batchnorm))
            if batchnorm:
                self.layers.append(nn.BatchNorm1d(outputs) if norm_type == "batch" else nn.LayerNorm(outputs))
            self.layers.append(activation())
        self.layers.append((ResizableLinear if resizable else nn.Linear)(layers[-2], layers[-1], bias=last_bias))
        if centred:
            self.layers.append(nn.BatchNorm1d(layers[-1], affine=False))

    def __getattr__(self, name: str) -> Any:
        """``model``, a name of the release of 2020, is ``layers`` unless a subclass sets it."""
        return self.layers if name == "model" and name not in dict(self.named_children()) else super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (batch, layers[-1]) of features (batch, ...), which are flattened."""
        return cast(Tensor, self.layers(x.flatten(1)))


class SequentialUpTo(nn.Sequential):
    """An ``nn.Sequential`` that can skip its last modules.

    The input of an ``nn.Linear`` is flattened.

    Args:
        *modules: Modules in the order of their execution.
        up_to: Index of the last module to call, unless one is passed to :meth:`forward`. Negative indices count from
            the end.

    Raises:
        ConfigurationError: If ``up_to`` is out of range.

    Examples:
        >>> import torch
        >>> head = SequentialUpTo(nn.Linear(8, 4), nn.Linear(4, 2))
        >>> head(torch.rand(3, 8)).shape, head(torch.rand(3, 8), up_to=0).shape
        (torch.Size([3, 2]), torch.Size([3, 4]))
    """

    def __init__(self, *modules: Any, up_to: int = -1) -> None:
        super().__init__(*modules)
        self.up_to = up_to
        self._module_count(up_to)

    def forward(self, x: Tensor, up_to: int | None = None) -> Tensor:
        """Compute the output of the module ``up_to``.

        Args:
            x: Input of the first module.
            up_to: Index of the last module to call. None: the index passed to the constructor.

        Raises:
            ConfigurationError: If ``up_to`` is out of range.
        """
        for module in list(self)[: self._module_count(self.up_to if up_to is None else up_to)]:
            x = module(x.flatten(1) if isinstance(module, nn.Linear) and x.ndim == 4 else x)
        return x

    def _module_count(self, up_to: int) -> int:
        """Return the number of modules to call."""
        is_valid = is_count(up_to, -len(self)) and up_to < max(1, len(self))
        check_argument(is_valid or not len(self), "up_to", up_to, f"an index of one of the {len(self)} modules")
        return up_to % len(self) + 1 if len(self) else 0


def check_layers(layers: Sequence[int]) -> None:
    """Validate layer sizes.

    Raises:
        ConfigurationError: If there are fewer than two sizes, or a size is not positive.
    """
    if len(layers) < 2 or any(size < 1 for size in layers):
        raise ConfigurationError(
            "`layers` is invalid.",
            expected="at least two positive sizes, from the input to the output",
            received=f"layers={list(layers)}",
        )


class View(nn.Module):
    """Reshapes its input.

    Args:
        shape: Shape of the output, including the batch dimension. One dimension may be -1.

    Examples:
        >>> import torch
        >>> View((-1, 64, 7, 7))(torch.rand(2, 3136)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Reshape the input."""
        return x.reshape(self.shape)

    def extra_repr(self) -> str:
        """Return the shape, for ``repr``."""
        return str(self.shape)
