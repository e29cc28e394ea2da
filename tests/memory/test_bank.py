"""The bank holds a row of length one for each image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.errors import ConfigurationError
from super_selfish.memory import BatchedMemory
from super_selfish.memory.draws import distinct_entries, entries_for_each
from super_selfish.models.combined import load_exactly


def bank_of(rows: list[list[float]], momentum: float = 0.5) -> BatchedMemory:
    return BatchedMemory(len(rows), len(rows[0]), torch.tensor(rows), momentum)


def lengths(bank: BatchedMemory) -> Tensor:
    return bank.memory.norm(dim=1)


def test_it_starts_with_random_directions_of_length_one() -> None:
    bank = BatchedMemory(2000, 16)
    assert torch.allclose(lengths(bank), torch.ones(2000), atol=1e-6)
    assert bank.memory.mean(dim=0).abs().max() < 0.05
    assert not torch.equal(bank.memory, BatchedMemory(2000, 16).memory)
    bank.resize(10)
    assert bank.memory.shape == (10, 16)
    assert torch.allclose(lengths(bank), torch.ones(10), atol=1e-6)
    assert torch.allclose(lengths(BatchedMemory(2, 3, torch.rand(2, 3) * 9)), torch.ones(2))


def test_a_row_moves_between_what_it_was_and_the_new_embedding() -> None:
    bank = bank_of([[1, 0], [0, 1], [0, -1]])
    bank.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert torch.allclose(bank.memory, torch.tensor([[0.5**0.5, 0.5**0.5], [0, 1], [0, -1]]))


@pytest.mark.parametrize(("momentum", "expected"), [(1.0, [0.0, 1.0]), (0.0, [1.0, 0.0]), (0.25, [0.9487, 0.3162])])
def test_the_momentum_is_the_weight_of_the_new_one(momentum: float, expected: list[float]) -> None:
    bank = bank_of([[1, 0]], momentum)
    bank.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert torch.allclose(bank.memory[0], torch.tensor(expected), atol=1e-4)


def test_only_the_rows_of_the_batch_change_and_keep_their_length() -> None:
    bank = BatchedMemory(50, 8, momentum=0.5)
    before = bank.memory.clone()
    idx = torch.tensor([3, 41, 7])
    bank.update(F.normalize(torch.randn(3, 8)), idx)
    changed = (bank.memory != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [3, 7, 41]
    assert torch.allclose(lengths(bank), torch.ones(50), atol=1e-6)


def test_of_a_row_that_comes_twice_the_last_counts() -> None:
    new = F.normalize(torch.randn(5, 4))
    twice, once = bank_of([[1.0, 0, 0, 0]] * 3), bank_of([[1.0, 0, 0, 0]] * 3)
    twice.update(new, torch.tensor([2, 0, 2, 0, 2]))
    once.update(new[[3, 4]], torch.tensor([0, 2]))
    assert torch.equal(twice.memory, once.memory)


def test_embeddings_carry_no_gradient_into_it() -> None:
    bank = BatchedMemory(4, 2, momentum=0.5)
    bank.update(torch.ones(2, 2, requires_grad=True), torch.tensor([0, 1]))
    assert not bank.memory.requires_grad


def test_a_row_that_meets_its_opposite_stays() -> None:
    bank = bank_of([[1, 0], [0, 1]])
    bank.update(torch.tensor([[-1.0, 0.0]]), torch.tensor([0]))
    assert bank.memory[0].tolist() == [1, 0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="an index for each of 1 rows"):
        BatchedMemory(4, 3).update(torch.ones(1, 3), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="rows without a direction"):
        BatchedMemory(2, 3, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="rows of 2"):
        BatchedMemory(4, 2).update(torch.ones(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        BatchedMemory(4, 2, torch.ones(4, 3))
    with pytest.raises(ValueError, match="momentum"):
        BatchedMemory(4, 2, momentum=1.5)
    with pytest.raises(ValueError, match="a bank of at least 2 rows"):
        BatchedMemory(1, 2).data(3, 1, torch.tensor([0]))


def test_random_rows_for_each_never_the_own() -> None:
    bank = BatchedMemory(5, 5, torch.eye(5))
    drawn = bank.data(4000, 3, torch.tensor([0, 2, 4]))
    assert drawn.shape == (3, 4000, 5)
    shares = drawn.mean(dim=1)
    for anchor, own in enumerate((0, 2, 4)):
        assert shares[anchor, own] == 0
        assert torch.allclose(shares[anchor].sum(), torch.tensor(1.0))
        assert (shares[anchor][torch.arange(5) != own] - 0.25).abs().max() < 0.03
    assert (bank.data(4000, 2).mean(dim=1) - 0.2).abs().max() < 0.03


@pytest.mark.parametrize("size", [12, 1000])
def test_shared_negatives_are_different_and_equally_likely(size: int) -> None:
    times = torch.zeros(size)
    for key in range(600):
        rows = distinct_entries(size, 5, key)
        assert len(set(rows.tolist())) == 5
        times[rows] += 1
    expected = 600 * 5 / size
    assert ((times - expected) ** 2 / expected).sum() < size + 5 * (2 * size) ** 0.5  # chi squared
    assert distinct_entries(size, size, 1).sort().values.tolist() == list(range(size))
    assert torch.equal(distinct_entries(size, 5, 7), distinct_entries(size, 5, 7))


def test_negatives_for_each_are_a_function_of_key_and_anchor_without_the_own() -> None:
    own = torch.tensor([0, 3, 6, 3])
    rows = entries_for_each(7, 6000, own, key=2)
    assert torch.equal(rows[1], rows[3])
    assert torch.equal(rows[1:3], entries_for_each(7, 6000, own[1:3], key=2)), "an anchor's draws depend on the others"
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows, entries_for_each(7, 6000, own, key=3))
    for anchor in range(3):
        counts = torch.bincount(rows[anchor], minlength=7)
        assert counts[own[anchor]] == 0
        assert (counts[torch.arange(7) != own[anchor]] - 1000).abs().max() < 150
    pairs = torch.stack([rows[0][:-1] * 7 + rows[0][1:]]).flatten().bincount(minlength=49)
    assert pairs[pairs > 0].float().std() < 25, "one draw tells the next"
    large = entries_for_each(2**31, 1000, torch.tensor([5]), key=0)
    assert 0 <= large.min() < 2**26
    assert 2**31 - 2**26 < large.max() < 2**31


def test_all_rows_where_there_are_no_more() -> None:
    bank = BatchedMemory(6, 2)
    assert bank.negatives(5, 0) is None
    assert bank.negatives(0, 0) is None
    assert bank.negatives(4, 0).shape == (4,)
    assert bank.negatives_for_each(9, torch.tensor([1, 2]), 0).shape == (2, 5)


def test_it_is_part_of_the_state_and_takes_the_size_of_the_file(tmp_path: Path) -> None:
    stored, other = (nn.ModuleDict({"bank": BatchedMemory(size, 2)}) for size in (6, 4))
    load_exactly(other, stored.state_dict(), "file")
    assert torch.equal(other["bank"].memory, stored["bank"].memory)
    stored["bank"].save(tmp_path / "rows")
    assert torch.equal(BatchedMemory(3, 2).load(tmp_path / "rows").memory, stored["bank"].memory)
    with pytest.raises(OSError, match="rows of 3 numbers"):
        BatchedMemory(3, 3).load(tmp_path / "rows")
    with pytest.raises(OSError, match="holds no bank"):
        BatchedMemory(3, 3).load(tmp_path / "other")


def test_a_bank_of_half_precision_takes_half_of_the_memory_and_gives_float32() -> None:
    torch.manual_seed(0)
    rows = torch.rand(40_000, 8) - 0.5
    bank = BatchedMemory(40_000, 8, rows, momentum=0.5, dtype=torch.float16)
    assert bank.memory.dtype == torch.float16
    assert bank[torch.tensor([3])].dtype == bank.rows().dtype == bank.data(2, 1).dtype == torch.float32
    assert torch.allclose(bank.rows(), F.normalize(rows), atol=1e-3)
    assert torch.allclose(bank.rows().norm(dim=1), torch.ones(40_000), atol=2e-3)
    twin = BatchedMemory(40_000, 8, rows, momentum=0.5)
    new = F.normalize(torch.rand(2, 8))
    for each in (bank, twin):
        each.update(new, torch.tensor([1, 39_999]))
    assert torch.allclose(bank.rows(), twin.rows(), atol=1e-3)
    bank.resize(5)
    assert (bank.memory.dtype, len(bank)) == (torch.float16, 5)


def test_other_types_of_rows_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"torch\.float16"):
        BatchedMemory(2, 2, dtype=torch.float64)
