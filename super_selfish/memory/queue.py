"""The queue of MoCo: the keys of past batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.errors import ConfigurationError, check_argument, is_count


class BatchedQueue(nn.Module):
    """A ring of embeddings: new rows take the place of the oldest. It is part of the state of what contains it.

    Args:
        K: Batches that it holds.
        batch_size: Rows of a batch.
        embedding_size: Length of a row.
        init_tensor: The rows at the start (K · batch_size, embedding_size); None: random ones of length one.

    Attributes:
        rows: (K · batch_size, embedding_size), in the order of storage.
        pointer: Where the next row goes.

    Raises:
        ConfigurationError: If a size is out of range.

    Examples:
        >>> queue = BatchedQueue(K=2, batch_size=2, embedding_size=3)
        >>> queue.enqueue(torch.eye(3))  # three rows fit as well as two
        >>> queue.data()[:3]
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])

    References:
        He, Fan, Wu, Xie and Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", 2020.
    """

    resizable = ("rows",)
    """Buffers whose first size is that of the data; a file may bring another."""

    rows: Tensor
    pointer: Tensor

    def __init__(
        self, K: int = 8, batch_size: int = 128, embedding_size: int = 64, init_tensor: Tensor | None = None
    ) -> None:
        super().__init__()
        for name, value, least in (("K", K, 0), ("batch_size", batch_size, 0), ("embedding_size", embedding_size, 1)):
            check_argument(is_count(value, least), name, value, f"an integer of at least {least}")
        shape = (K * batch_size, embedding_size)
        if init_tensor is not None and tuple(init_tensor.shape) != shape:
            raise ConfigurationError(
                "`init_tensor` does not fit the queue.", expected=f"{shape}", received=f"{tuple(init_tensor.shape)}"
            )
        rows = F.normalize(torch.randn(shape)) if init_tensor is None else init_tensor.detach().clone()
        self.register_buffer("rows", rows)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def resize(self, rows: int) -> None:
        """Start anew with another number of random rows of length one."""
        shape, device = (rows, self.rows.shape[1]), self.rows.device
        self.rows = F.normalize(torch.randn(shape)).to(device)
        self.reset_pointer()

    def reset_pointer(self) -> None:
        """Let the next row go to the beginning."""
        self.pointer.zero_()

    def increment(self, step: int = 1) -> None:
        """Move the pointer by a number of rows, around the end."""
        self.pointer.add_(step).remainder_(max(1, len(self)))

    @torch.no_grad()
    def enqueue(self, k: Tensor) -> None:
        """Add rows (any number, embedding_size) as if one by one; past the end they go on at the beginning."""
        check_argument(k.shape[1:] == self.rows.shape[1:], "k", tuple(k.shape), f"rows of {self.rows.shape[1]} numbers")
        count, size = len(k), len(self)
        kept = k.detach()[-size:] if size else k[:0]
        places = torch.arange(count - len(kept), count, device=self.rows.device)
        self.rows[(self.pointer + places).remainder(max(1, size))] = kept.to(self.rows)
        self.increment(count)

    @torch.no_grad()
    def init_w_loader_and_model(self, train_loader: Iterable[Any], model: nn.Module) -> None:
        """Fill the queue with a model's embeddings of the first of a loader's views, until it is full.

        Use a loader of its own for this: the training loader would be read from. The model keeps its mode.
        """
        filled = 0
        for data in train_loader:
            images = data[0] if isinstance(data, tuple | list) else data
            rows = F.normalize(model(images.to(self.rows.device)))
            self.enqueue(rows)
            filled += len(rows)
            if filled >= len(self):
                return

    def data(self) -> Tensor:
        """All rows (K · batch_size, embedding_size), in the order of storage; without gradient."""
        return self.rows
