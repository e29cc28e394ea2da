"""Memory is used again when nobody holds it, and never before."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.images.buffers import Buffers

SHAPE = (4, 99, 3)

HOLDERS: dict[str, Callable[[Any], Any]] = {
    "array": lambda array: array,
    "view": lambda array: array[2, 5:],
    "view of a view": lambda array: array[1:].reshape(-1)[7:].view(np.int8),
    "transposed": lambda array: array.T,
    "tensor": torch.from_numpy,
    "slice of a tensor": lambda array: torch.from_numpy(array[1:])[0].view(torch.int8),
    "array of a tensor": lambda array: torch.from_numpy(array)[0].numpy(),
    "memoryview": lambda array: memoryview(array)[1:],
}


def address(buffers: Buffers) -> int:
    return buffers.empty(SHAPE, np.uint8).ctypes.data


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS.keys())
def test_memory_is_reused_once_nothing_refers_to_it(hold: Callable[[Any], Any]) -> None:
    buffers = Buffers()
    array = buffers.empty(SHAPE, np.uint8)
    before, held = array.ctypes.data, hold(array)
    del array
    assert address(buffers) != before
    del held
    assert before in {buffers.empty(SHAPE, np.uint8).ctypes.data, address(buffers)}


def test_autograd_holds_memory_until_backward() -> None:
    buffers = Buffers()
    weight = torch.ones(3, requires_grad=True)
    images = torch.from_numpy(buffers.empty(SHAPE, np.float32)).fill_(2)
    loss = (images * weight).sum()
    del images
    torch.from_numpy(buffers.empty(SHAPE, np.float32)).fill_(5)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [2 * 4 * 99] * 3


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, "uint16"])
@pytest.mark.parametrize("shape", [(3, 5), (), (7, 1, 2)])
def test_arrays_are_writable_and_aligned(shape: tuple[int, ...], dtype: Any) -> None:
    array = Buffers().empty(shape, dtype)
    array[...] = 1
    assert (array.shape, array.dtype, array.ctypes.data % 64) == (shape, np.dtype(dtype), 0)


def test_memory_of_another_size_or_type_is_used_only_if_it_fits() -> None:
    buffers = Buffers()
    before = buffers.empty((8,), np.float32).ctypes.data
    assert buffers.empty((9,), np.float32).nbytes == 36
    assert buffers.empty((4,), np.float64).ctypes.data == before


def test_only_some_free_memory_is_kept() -> None:
    buffers = Buffers(most=2)
    kept = [buffers.empty((100,), np.uint8) for _ in range(5)]
    addresses = {array.ctypes.data for array in kept}
    del kept
    again = [buffers.empty((100,), np.uint8) for _ in range(5)]
    assert len(addresses & {array.ctypes.data for array in again[:2]}) == 2


def test_copies_have_memory_of_their_own() -> None:
    buffers = Buffers()
    before = address(buffers)
    for other in (copy.deepcopy(buffers), pickle.loads(pickle.dumps(buffers))):
        held = other.empty(SHAPE, np.uint8)
        assert held.ctypes.data != before
    assert address(buffers) == before


def test_threads_never_share_memory() -> None:
    buffers, wrong = Buffers(), []

    def use(number: int) -> None:
        for _ in range(300):
            array = buffers.empty((2000,), np.uint8)
            array[...] = number
            if (array != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
