"""The memory bank: one embedding per image of the data set."""

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

_KEY = "memory"
_EPS = 1e-6  # vectors with a smaller norm have no direction
_TYPES = {torch.float32: np.float32, torch.float16: np.float16}
_BLOCK = 1 << 15  # rows


class BatchedMemory(nn.Module):
    """Memory bank with one L2-normalised entry per image, an exponential moving average of the image's embeddings.

    The entries are part of the ``state_dict`` of the module that contains the bank.

    Args:
        size: Number of entries, one per image of the data set.
        embedding_size: Dimension of the embeddings.
        init_tensor: Initial entries (size, embedding_size), which are normalised. None: random directions.
        momentum: Weight of the NEW embedding, in [0, 1]. 1 replaces the entry. (The papers use 0.5, for which both
            conventions agree.)
        dtype: Storage dtype: ``torch.float32``, or ``torch.float16`` to halve the memory usage. Entries are read as
            float32.

    Attributes:
        memory: Entries (size, embedding_size), without gradients.

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> bank = BatchedMemory(2, 2, init_tensor=torch.tensor([[1.0, 0.0], [0.0, 1.0]]), momentum=0.5)
        >>> bank.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
        >>> bank[torch.tensor([0])]
        tensor([[0.7071, 0.7071]])

    References:
        Wu, Xiong, Yu and Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018.
    """

    resizable = (_KEY,)
    """Buffers whose first dimension depends on the data. It is resized when weights are loaded."""

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
                "The shape of `init_tensor` is wrong.", expected=f"{shape}", received=f"{tuple(init_tensor.shape)}"
            )
        entries = _allocate(*shape, dtype)
        if init_tensor is not None and bool((init_tensor.float().norm(dim=1) < _EPS).any()):
            raise ConfigurationError("`init_tensor` has rows of norm 0.", expected="non-zero rows")
        self.register_buffer(_KEY, _normalise(entries.normal_() if init_tensor is None else entries.copy_(init_tensor)))
        self.momentum = momentum

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, idx: Tensor) -> Tensor:
        return self.memory[idx].float()

    def rows(self) -> Tensor:
        """Return all entries (size, embedding_size) in float32, without a copy if they are stored as float32."""
        return self.memory.float()

    def resize(self, rows: int) -> None:
        """Replace the entries by ``rows`` random L2-normalised entries."""
        entries = _allocate(rows, self.memory.shape[1], self.memory.dtype)
        self.memory = _normalise(entries.normal_()).to(self.memory.device)

    @torch.no_grad()
    def update(self, k: Tensor, idx: Tensor) -> None:
        """Update entries to ``(1 - momentum) · entry + momentum · k``, followed by L2 normalisation.

        Args:
            k: New L2-normalised embeddings (batch, embedding_size).
            idx: Indices of the entries (batch,). For duplicate indices, the last embedding is used.

        Raises:
            ConfigurationError: If the shapes do not match.
        """
        check_argument(k.shape[1:] == self.memory.shape[1:], "k", tuple(k.shape), f"(batch, {self.memory.shape[1]})")
        check_argument(idx.shape == k.shape[:1], "idx", tuple(idx.shape), f"one index per row of `k`, ({len(k)},)")
        old = self[idx]
        moved = torch.lerp(old, k.detach().to(old), self.momentum)
        opposite = moved.norm(dim=1, keepdim=True) < _EPS  # opposite vectors have no mean direction: keep the entry
        new = torch.where(opposite, old, F.normalize(moved))
        positions = torch.arange(len(idx), device=idx.device)
        last = torch.where(idx[:, None] == idx, positions, -1).amax(dim=1)
        self.memory[idx] = new[last].to(self.memory.dtype)  # duplicates write equal values, so the order is irrelevant

    def negatives(self, count: int, key: int) -> Tensor | None:
        """Sample distinct negatives that are shared by all anchors of a batch.

        Args:
            count: Number of negatives. 0, or at least the number of entries - 1, selects all entries.
            key: Random key. The result is a function of it.

        Returns:
            Indices, int64 (count,), in ascending order on the device of the bank, or None for all entries.
        """
        if count == 0 or count >= len(self) - 1:
            return None
        return distinct_entries(len(self), count, key).to(self.memory.device, non_blocking=True)

    def negatives_for_each(self, count: int, idx: Tensor, key: int) -> Tensor:
        """Sample the indices (batch, count) of negatives for each anchor, with replacement, excluding its own entry.

        Args:
            count: Number of negatives per anchor, at most the number of other entries. 0: the number of other entries.
            idx: Indices of the anchors' entries (batch,).
            key: Random key. The result is a function of it and of ``idx``.
        """
        others = len(self) - 1
        return entries_for_each(len(self), min(count, others) if count else others, idx, key)

    def data(self, m: int, batch_size: int, but_idx: Tensor | Sequence[int] | int | None = None) -> Tensor:
        """Sample random entries (batch_size, m, embedding_size) from torch's global generator.

        Args:
            m: Number of entries per image, sampled with replacement.
            batch_size: Number of images.
            but_idx: Index of an entry to exclude for each image (batch_size,), or one for all. None: no exclusion.

        Raises:
            ConfigurationError: If the bank has too few entries, or ``but_idx`` does not match the batch or the bank.
        """
        minimum = 1 if but_idx is None else 2
        check_argument(len(self) >= minimum, "size", len(self), f"at least {minimum} entries")
        rows = torch.randint(len(self) - minimum + 1, (batch_size, m)).to(self.memory.device)
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
        """Write the entries atomically to ``<name>.safetensors``.

        Raises:
            CheckpointError: If the file cannot be written.
        """
        tensors = {_KEY: self.memory.cpu().contiguous()}
        write_with(with_suffix(base_path(name), SUFFIX), lambda path: save_file(tensors, path))
        return self

    def load(self, name: str | os.PathLike[str]) -> BatchedMemory:
        """Load entries written by :meth:`save`. The bank is resized to their number.

        Raises:
            CheckpointError: If the file does not exist or cannot be read.
            CheckpointMismatch: If the embedding size differs.
        """
        path = with_suffix(base_path(name), SUFFIX)
        try:
            entries = load_file(path)[_KEY]
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(
                f"`{path}` is not a memory bank: {error}.", fix="Pass the `name` that was passed to save()."
            ) from error
        if entries.ndim != 2 or entries.shape[1:] != self.memory.shape[1:]:
            raise CheckpointMismatch(
                f"`{path}` has another embedding size.",
                expected=f"(entries, {self.memory.shape[1]})",
                received=f"{tuple(entries.shape)}",
            )
        self.memory = entries.to(self.memory)
        return self


def _allocate(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Allocate a tensor with NumPy, which requests huge pages: random access to rows is a third faster."""
    return torch.from_numpy(np.empty((rows, columns), _TYPES[dtype]))


@torch.no_grad()
def _normalise(rows: Tensor) -> Tensor:
    """L2-normalise rows in place, block by block, as memory may not suffice for a second copy."""
    for block in torch.split(rows, _BLOCK):
        block.copy_(F.normalize(block.float()))
    return rows
