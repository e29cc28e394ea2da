"""Reuse of memory for large arrays, whose allocation can take longer than the computation that fills them."""

from __future__ import annotations

import collections
import math
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes, the alignment that torch uses


class Buffers:
    """Memory pool for arrays.

    A block of memory returns to the pool when the array, its views and all tensors created from it are deleted. A
    tensor created by ``torch.from_numpy`` keeps the array alive, as does everything that shares the tensor's memory,
    such as tensors that autograd saves for the backward pass. A caller may therefore keep an array indefinitely.

    Args:
        most: Maximum number of free blocks in the pool.

    Examples:
        >>> import torch
        >>> buffers = Buffers()
        >>> kept = torch.from_numpy(buffers.empty((2, 3), np.float32))
        >>> address = torch.from_numpy(buffers.empty((2, 3), np.float32)).data_ptr()
        >>> kept.data_ptr() != address, torch.from_numpy(buffers.empty((2, 3), np.float32)).data_ptr() == address
        (True, True)
    """

    def __init__(self, most: int = 4) -> None:
        self._free: collections.deque[memoryview] = collections.deque(maxlen=most)

    def __reduce__(self) -> tuple[Any, ...]:
        return Buffers, (self._free.maxlen,)  # a copy in another process starts with an empty pool

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an uninitialised array that shares memory with no other array in use."""
        dtype = np.dtype(dtype)
        memory = self._block(math.prod(shape) * dtype.itemsize)
        # NumPy sets the base of every view to the last array in the chain: this one, as a memoryview is not an array
        owner = np.frombuffer(memory, dtype)
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)

    def _block(self, size: int) -> memoryview:
        for _ in range(len(self._free)):
            try:
                memory = self._free.popleft()
            except IndexError:  # another thread has taken the last block
                break
            if memory.nbytes == size:
                return memory
            self._free.append(memory)
        return aligned(size)


def aligned(size: int) -> memoryview:
    """Allocate memory whose address is a multiple of 64 bytes."""
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].data
