"""The memory bank: an embedding of every image of the data set."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.errors import (
    PROBABILITY,
    CheckpointError,
    CheckpointMismatch,
    ConfigurationError,
    check_argument,
    is_count,
)
from super_selfish.files import SUFFIX, base_path, with_suffix, write_with
from super_selfish.memory.draws import distinct_entries, entries_for_each

_ROWS = "memory"
_NOTHING = 1e-6  # a length without direction
_TYPES = {torch.float32: np.float32, torch.float16: np.float16}
_BLOCK = 1 << 15  # rows


class BatchedMemory(nn.Module):
    """A row of length one for each image, moved towards the image's new embeddings. Part of the state of its owner.

    Args:
        size: Rows: images of the data set.
        embedding_size: Length of a row in numbers.
        init_tensor: The rows at the start (size, embedding_size), brought to length one; None: random directions.
        momentum: Weight of the NEW embedding, in [0, 1]: 1 replaces the row. (Papers give 0.5 for either.)
        dtype: Of the rows: ``torch.float32``, or ``torch.float16`` for half of the memory. What is read is float32.

    Attributes:
        memory: The rows (size, embedding_size), without gradient.

    Raises:
        ConfigurationError: If a size or the momentum is out of range.

    Examples:
        >>> bank = BatchedMemory(2, 2, init_tensor=torch.tensor([[1.0, 0.0], [0.0, 1.0]]), momentum=0.5)
        >>> bank.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
        >>> bank[torch.tensor([0])]
        tensor([[0.7071, 0.7071]])

    References:
        Wu, Xiong, Yu and Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018.
    """

    resizable = (_ROWS,)
    """Buffers whose first size is that of the data; a file may bring another."""

    memory: Tensor

    def __init__(
        self,
        size: int = 128,
        embedding_size: int = 64,
        init_tensor: Tensor | None = None,
        momentum: float = 1.0,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        for name, value, least in (("size", size, 0), ("embedding_size", embedding_size, 1)):
            check_argument(is_count(value, least), name, value, f"an integer of at least {least}")
        check_argument(PROBABILITY.is_valid(momentum), "momentum", momentum, PROBABILITY.expected)
        check_argument(dtype in _TYPES, "dtype", dtype, "torch.float32 or torch.float16")
        shape = (size, embedding_size)
        if init_tensor is not None and tuple(init_tensor.shape) != shape:
            raise ConfigurationError(
                "`init_tensor` does not fit the bank.", expected=f"{shape}", received=f"{tuple(init_tensor.shape)}"
            )
        rows = _table(*shape, dtype)
        if init_tensor is not None and bool((init_tensor.float().norm(dim=1) < _NOTHING).any()):
            raise ConfigurationError("`init_tensor` has rows without a direction.", expected="rows that are not zero")
        self.register_buffer(_ROWS, _to_length_one(rows.normal_() if init_tensor is None else rows.copy_(init_tensor)))
        self.momentum = momentum

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, idx: Tensor) -> Tensor:
        return self.memory[idx].float()

    def rows(self) -> Tensor:
        """All rows (size, embedding_size) in float32: the table itself, unless it is of another type."""
        return self.memory.float()

    def resize(self, rows: int) -> None:
        """Start anew with another number of random rows of length one."""
        table = _table(rows, self.memory.shape[1], self.memory.dtype)
        self.memory = _to_length_one(table.normal_()).to(self.memory.device)

    @torch.no_grad()
    def update(self, k: Tensor, idx: Tensor) -> None:
        """Move rows: each becomes ``(1 - momentum) · row + momentum · k``, brought to length one.

        Args:
            k: New embeddings (batch, embedding_size) of length one.
            idx: Their rows (batch,). Of a row that occurs more than once, the last embedding counts.

        Raises:
            ConfigurationError: If ``k`` does not fit the bank.
        """
        check_argument(k.shape[1:] == self.memory.shape[1:], "k", tuple(k.shape), f"rows of {self.memory.shape[1]}")
        check_argument(idx.shape == k.shape[:1], "idx", tuple(idx.shape), f"an index for each of {len(k)} rows")
        old = self[idx]
        moved = torch.lerp(old, k.detach().to(old), self.momentum)
        opposite = moved.norm(dim=1, keepdim=True) < _NOTHING  # there is no direction half-way: the row stays
        new = torch.where(opposite, old, F.normalize(moved))
        places = torch.arange(len(idx), device=idx.device)
        last = torch.where(idx[:, None] == idx, places, -1).amax(dim=1)
        self.memory[idx] = new[last].to(self.memory.dtype)  # equal rows write equal values, in whatever order

    def negatives(self, count: int, key: int) -> Tensor | None:
        """Different rows that all anchors of a batch share: a function of the key.

        Args:
            count: How many; 0, or all but one or more: all rows.
            key: The draw is a function of it.

        Returns:
            int64 (count,) on the bank's device in ascending order, or None for all rows.
        """
        if count == 0 or count >= len(self) - 1:
            return None
        return distinct_entries(len(self), count, key).to(self.memory.device, non_blocking=True)

    def negatives_for_each(self, count: int, idx: Tensor, key: int) -> Tensor:
        """Rows (batch, count) for each anchor, with replacement and without its own row: a function of the key.

        Args:
            count: How many, at most those of the others; 0: as many as there are others.
            idx: The anchors' own rows (batch,).
            key: The draw is a function of it and of the own row.
        """
        others = len(self) - 1
        return entries_for_each(len(self), min(count, others) if count else others, idx, key)

    def data(self, m: int, batch_size: int, but_idx: Tensor | Sequence[int] | int | None = None) -> Tensor:
        """Random rows for each of a batch (batch_size, m, embedding_size), drawn from torch's global generator.

        Args:
            m: Rows for each, with replacement.
            batch_size: How many they are for.
            but_idx: For each, a row that it must not get (batch_size,), or one row for all; None: any.

        Raises:
            ConfigurationError: If the bank has too few rows, or ``but_idx`` names others or another number of them.
        """
        fewest = 1 if but_idx is None else 2
        check_argument(len(self) >= fewest, "size", len(self), f"a bank of at least {fewest} rows")
        rows = torch.randint(len(self) - fewest + 1, (batch_size, m)).to(self.memory.device)
        if but_idx is not None:
            rows += rows >= self._left_out(but_idx, batch_size).to(rows)[:, None]
        return self[rows]

    def _left_out(self, but_idx: Tensor | Sequence[int] | int, batch_size: int) -> Tensor:
        rows = torch.as_tensor(but_idx).flatten()
        is_valid = not rows.is_floating_point() and rows.numel() in (1, batch_size)
        is_valid = is_valid and bool(((rows >= 0) & (rows < len(self))).all())
        expected = f"one row from 0 to {len(self) - 1} for each of {batch_size}, or one for all"
        check_argument(is_valid, "but_idx", but_idx, expected)
        return rows.expand(batch_size)

    def save(self, name: str | os.PathLike[str]) -> BatchedMemory:
        """Write the rows to ``<name>.safetensors``, whole or not at all.

        Raises:
            CheckpointError: If the file cannot be written.
        """
        rows = {_ROWS: self.memory.cpu().contiguous()}
        write_with(with_suffix(base_path(name), SUFFIX), lambda path: save_file(rows, path))
        return self

    def load(self, name: str | os.PathLike[str]) -> BatchedMemory:
        """Read rows that :meth:`save` wrote; the bank takes their number.

        Raises:
            CheckpointError: If there is no such file, or it cannot be read.
            CheckpointMismatch: If its rows are of another length.
        """
        path = with_suffix(base_path(name), SUFFIX)
        try:
            rows = load_file(path)[_ROWS]
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(f"`{path}` holds no bank: {error}.", fix="Pass the name given to save().") from error
        if rows.ndim != 2 or rows.shape[1:] != self.memory.shape[1:]:
            raise CheckpointMismatch(
                f"`{path}` does not fit the bank.",
                expected=f"rows of {self.memory.shape[1]} numbers",
                received=f"{tuple(rows.shape)}",
            )
        self.memory = rows.to(self.memory)
        return self


def _table(rows: int, numbers: int, dtype: torch.dtype) -> Tensor:
    """Memory for a table, which numpy asks for in large pages: random rows of it are found a third faster."""
    return torch.from_numpy(np.empty((rows, numbers), _TYPES[dtype]))


@torch.no_grad()
def _to_length_one(rows: Tensor) -> Tensor:
    """Bring rows to length one in place, some at a time: a second table of them might not fit."""
    for block in torch.split(rows, _BLOCK):
        block.copy_(F.normalize(block.float()))
    return rows
