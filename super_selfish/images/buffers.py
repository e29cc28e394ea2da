"""Memory that is used again: fresh pages of a large array cost more time than what is computed into them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes, as torch aligns its own
_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()  # without it reference counts are no proof


class Buffers:
    """Arrays that are given out anew as soon as nobody holds them any more.

    A tensor made of an array by ``torch.from_numpy`` holds it, and so does whatever shares the tensor's memory, such as
    what autograd keeps for the backward pass. Views of an array hold the memory below it. An array is free if only the
    pool holds it, and its memory if only the array does.

    Args:
        most: How many arrays are kept.

    Examples:
        >>> import torch
        >>> buffers = Buffers()
        >>> kept = torch.from_numpy(buffers.empty((2, 3), np.float32))
        >>> address = torch.from_numpy(buffers.empty((2, 3), np.float32)).data_ptr()
        >>> kept.data_ptr() != address, torch.from_numpy(buffers.empty((2, 3), np.float32)).data_ptr() == address
        (True, True)
    """

    def __init__(self, most: int = 4) -> None:
        self.most = most
        self._arrays: list[npt.NDArray[Any]] = []

    def empty(self, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """An array with arbitrary content, which nobody else holds."""
        for array in self._arrays:
            if array.shape == shape and array.dtype == dtype and _holders(array) == _FREE:
                return array
        array = aligned(shape, np.dtype(dtype))
        if _GIL:
            self._arrays = [*self._arrays[1 - self.most :], array]
        return array


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An array whose first byte lies at a multiple of 64."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _holders(array: npt.NDArray[Any]) -> tuple[int, int]:
    return sys.getrefcount(array), sys.getrefcount(array.base)


def _count_of_a_free_one() -> tuple[int, int]:
    """What :func:`_holders` says in the loop above of an array that only the list holds; Pythons differ in it."""
    for array in [aligned((1,), np.dtype(np.uint8))]:
        return _holders(array)
    return 0, 0


_FREE = _count_of_a_free_one()
