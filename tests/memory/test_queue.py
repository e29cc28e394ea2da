"""The queue of MoCo."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.memory import BatchedQueue
from super_selfish.models.combined import load_exactly


def numbered(first: int, count: int) -> torch.Tensor:
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(-1, 2)


def test_enqueue_wraps_around_within_a_batch() -> None:
    queue = BatchedQueue(K=3, batch_size=2, embedding_size=2, init_tensor=torch.zeros(6, 2))
    queue.enqueue(numbered(1, 4))
    assert queue.data()[:, 0].tolist() == [1, 2, 3, 4, 0, 0]
    queue.enqueue(numbered(5, 4))
    assert queue.data()[:, 0].tolist() == [7, 8, 3, 4, 5, 6]
    assert queue.pointer.item() == 2


@pytest.mark.parametrize("count", [1, 5, 6, 7, 13, 20])
def test_enqueue_of_many_rows_equals_single_rows(count: int) -> None:
    batched, sequential = (BatchedQueue(1, 6, 2, torch.zeros(6, 2)) for _ in range(2))
    for queue in (batched, sequential):
        queue.increment(4)
    batched.enqueue(numbered(1, count))
    for row in numbered(1, count):
        sequential.enqueue(row[None])
    assert torch.equal(batched.data(), sequential.data())
    assert batched.pointer == sequential.pointer


def test_rows_start_random_with_unit_norm() -> None:
    queue = BatchedQueue(K=2, batch_size=50, embedding_size=16)
    assert torch.allclose(queue.data().norm(dim=1), torch.ones(100), atol=1e-6)
    assert not torch.equal(queue.data(), BatchedQueue(2, 50, 16).data())


def test_rows_require_no_gradient() -> None:
    queue = BatchedQueue(1, 4, 2)
    queue.enqueue(torch.ones(2, 2, requires_grad=True) * 2)
    assert not queue.data().requires_grad


def test_state_dict_restores_rows_pointer_and_size() -> None:
    stored, other = (nn.ModuleDict({"queue": BatchedQueue(1, size, 2)}) for size in (6, 4))
    stored["queue"].enqueue(numbered(1, 5))
    load_exactly(other, stored.state_dict(), "file")
    assert torch.equal(other["queue"].data(), stored["queue"].data())
    assert other["queue"].pointer.item() == 5
    with pytest.raises(OSError, match="rows"):
        load_exactly(nn.ModuleDict({"queue": BatchedQueue(1, 6, 3)}), stored.state_dict(), "file")


def test_empty_queue() -> None:
    queue = BatchedQueue(1, 0, 2)
    queue.enqueue(numbered(1, 3))
    assert len(queue.data()) == 0


def test_fill_with_the_embeddings_of_a_model() -> None:
    queue = BatchedQueue(2, 3, 2, torch.zeros(6, 2))
    queue.init_w_loader_and_model([(numbered(1, 4), None)] * 3, nn.Identity())
    assert torch.allclose(queue.data().norm(dim=1), torch.ones(6))
    assert queue.pointer.item() == 2


@pytest.mark.parametrize("arguments", [{"K": -1}, {"embedding_size": 0}, {"init_tensor": torch.zeros(3, 3)}])
def test_arguments_out_of_range(arguments: dict) -> None:
    with pytest.raises(ValueError, match=r"K|embedding_size|init_tensor"):
        BatchedQueue(**arguments)


def test_rows_of_another_dimension_are_rejected() -> None:
    with pytest.raises(ValueError, match="`k`"):
        BatchedQueue(2, 2, 3).enqueue(torch.zeros(2, 4))
