"""Heads: what a pretext puts behind the backbone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from super_selfish.errors import ConfigurationError, check_argument, is_count
from super_selfish.models.efficient import NormType


class ResizableLinear(nn.Linear):
    """A linear layer whose number of outputs follows from the data: it takes that of a file that is loaded into it.

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
    """A multilayer perceptron whose last layer is plain: hidden layers are linear, norm, activation.

    Args:
        layers: Sizes from the input to the logits, at least two.
        activation: Class of the activation behind hidden layers.
        batchnorm: Normalise hidden layers.
        norm_type: ``"batch"``, or ``"layer"``: each row by itself, so that nothing depends on the rest of the batch.
        resizable: Let the last layer take the number of outputs of a file.
        last_bias: Add a bias in the last layer.
        centred: Bring each output to mean 0 and standard deviation 1 over the batch. Embeddings that are compared with
            rows of a memory bank then cannot tell an old row from a new one by a drift that all images share.

    Raises:
        ConfigurationError: If there are fewer than two sizes or one is not positive.

    Examples:
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
        """Logits (batch, layers[-1]) from features (batch, ...), which are flattened."""
        return cast(Tensor, self.layers(x.flatten(1)))


class SequentialUpTo(nn.Sequential):
    """Modules in a row, of which the last ones may be left out.

    An ``nn.Linear`` gets maps flattened.

    Args:
        *modules: In their order.
        up_to: Index of the last module that is called, unless :meth:`forward` is told otherwise; negative ones count
            from the end.

    Raises:
        ConfigurationError: If there is no module of that index.

    Examples:
        >>> import torch
        >>> head = SequentialUpTo(nn.Linear(8, 4), nn.Linear(4, 2))
        >>> head(torch.rand(3, 8)).shape, head(torch.rand(3, 8), up_to=0).shape
        (torch.Size([3, 2]), torch.Size([3, 4]))
    """

    def __init__(self, *modules: Any, up_to: int = -1) -> None:
        super().__init__(*modules)
        self.up_to = up_to
        self._stop(up_to)

    def forward(self, x: Tensor, up_to: int | None = None) -> Tensor:
        """The output of the module ``up_to``, which is called too.

        Args:
            x: What the first module takes.
            up_to: Index of the last module that is called; None: that of the constructor.

        Raises:
            ConfigurationError: If there is no module of that index.
        """
        for module in list(self)[: self._stop(self.up_to if up_to is None else up_to)]:
            x = module(x.flatten(1) if isinstance(module, nn.Linear) and x.ndim == 4 else x)
        return x

    def _stop(self, up_to: int) -> int:
        """How many modules are called."""
        is_valid = is_count(up_to, -len(self)) and up_to < max(1, len(self))
        check_argument(is_valid or not len(self), "up_to", up_to, f"the index of one of {len(self)} modules")
        return up_to % len(self) + 1 if len(self) else 0


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


class View(nn.Module):
    """Gives what it gets another shape.

    Args:
        shape: Of the result, batch included; -1 stands for what follows from the others.

    Examples:
        >>> import torch
        >>> View((-1, 64, 7, 7))(torch.rand(2, 3136)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """The same numbers in another shape."""
        return x.reshape(self.shape)

    def extra_repr(self) -> str:
        """The shape, for ``repr``."""
        return str(self.shape)
