"""Memory that is used again: fresh pages of a large array cost more time than what is computed into them."""

from __future__ import annotations

import collections
import math
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes, as torch aligns its own


class Buffers:
    """Arrays whose memory returns to the pool when the array, its views and the tensors made of it are all gone.

    A tensor made by ``torch.from_numpy`` holds the array, and so does whatever shares the tensor's memory, such as what
    autograd keeps for the backward pass. A caller may therefore keep an array for as long as it likes.

    Args:
        most: How many free blocks of memory are kept.

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
        return Buffers, (self._free.maxlen,)  # a copy in another process has memory of its own

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array with arbitrary content, which nobody else holds."""
        dtype = np.dtype(dtype)
        memory = self._block(math.prod(shape) * dtype.itemsize)
        # NumPy sets the base of every view to the last array in the chain: this one, because a memoryview is no array
        owner = np.frombuffer(memory, dtype)
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)

    def _block(self, size: int) -> memoryview:
        for _ in range(len(self._free)):
            try:
                memory = self._free.popleft()
            except IndexError:  # another thread was faster
                break
            if memory.nbytes == size:
                return memory
            self._free.append(memory)
        return aligned(size)


def aligned(size: int) -> memoryview:
    """Memory whose first byte lies at a multiple of 64."""
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].data
