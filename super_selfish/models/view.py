"""Reshaping as a layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


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
