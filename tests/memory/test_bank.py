"""The memory bank, and the sampling of negatives."""

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


def norms(bank: BatchedMemory) -> Tensor:
    return bank.memory.norm(dim=1)


def test_entries_start_with_random_directions_and_unit_norm() -> None:
    bank = BatchedMemory(2000, 16)
    assert torch.allclose(norms(bank), torch.ones(2000), atol=1e-6)
    assert bank.memory.mean(dim=0).abs().max() < 0.05
    assert not torch.equal(bank.memory, BatchedMemory(2000, 16).memory)
    bank.resize(10)
    assert bank.memory.shape == (10, 16)
    assert torch.allclose(norms(bank), torch.ones(10), atol=1e-6)
    assert torch.allclose(norms(BatchedMemory(2, 3, torch.rand(2, 3) * 9)), torch.ones(2))


def test_update_averages_entry_and_embedding() -> None:
    bank = bank_of([[1, 0], [0, 1], [0, -1]])
    bank.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert torch.allclose(bank.memory, torch.tensor([[0.5**0.5, 0.5**0.5], [0, 1], [0, -1]]))


@pytest.mark.parametrize(("momentum", "expected"), [(1.0, [0.0, 1.0]), (0.0, [1.0, 0.0]), (0.25, [0.9487, 0.3162])])
def test_momentum_is_the_weight_of_the_new_embedding(momentum: float, expected: list[float]) -> None:
    bank = bank_of([[1, 0]], momentum)
    bank.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert torch.allclose(bank.memory[0], torch.tensor(expected), atol=1e-4)


def test_update_changes_entries_of_the_batch_only() -> None:
    bank = BatchedMemory(50, 8, momentum=0.5)
    before = bank.memory.clone()
    idx = torch.tensor([3, 41, 7])
    bank.update(F.normalize(torch.randn(3, 8)), idx)
    changed = (bank.memory != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [3, 7, 41]
    assert torch.allclose(norms(bank), torch.ones(50), atol=1e-6)


def test_last_embedding_of_duplicate_indices_is_used() -> None:
    new = F.normalize(torch.randn(5, 4))
    twice, once = bank_of([[1.0, 0, 0, 0]] * 3), bank_of([[1.0, 0, 0, 0]] * 3)
    twice.update(new, torch.tensor([2, 0, 2, 0, 2]))
    once.update(new[[3, 4]], torch.tensor([0, 2]))
    assert torch.equal(twice.memory, once.memory)


def test_entries_require_no_gradient() -> None:
    bank = BatchedMemory(4, 2, momentum=0.5)
    bank.update(torch.ones(2, 2, requires_grad=True), torch.tensor([0, 1]))
    assert not bank.memory.requires_grad


def test_opposite_embedding_keeps_the_entry() -> None:
    bank = bank_of([[1, 0], [0, 1]])
    bank.update(torch.tensor([[-1.0, 0.0]]), torch.tensor([0]))
    assert bank.memory[0].tolist() == [1, 0]


def test_invalid_shapes_and_arguments_are_rejected() -> None:
    with pytest.raises(ValueError, match="`idx`"):
        BatchedMemory(4, 3).update(torch.ones(1, 3), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="`init_tensor`"):
        BatchedMemory(2, 3, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="`k`"):
        BatchedMemory(4, 2).update(torch.ones(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="`init_tensor`"):
        BatchedMemory(4, 2, torch.ones(4, 3))
    with pytest.raises(ValueError, match="momentum"):
        BatchedMemory(4, 2, momentum=1.5)
    with pytest.raises(ValueError, match="2 entries"):
        BatchedMemory(1, 2).data(3, 1, torch.tensor([0]))


def test_data_excludes_the_given_entry() -> None:
    bank = BatchedMemory(5, 5, torch.eye(5))
    sample = bank.data(4000, 3, torch.tensor([0, 2, 4]))
    assert sample.shape == (3, 4000, 5)
    frequencies = sample.mean(dim=1)
    for anchor, own in enumerate((0, 2, 4)):
        assert frequencies[anchor, own] == 0
        assert torch.allclose(frequencies[anchor].sum(), torch.tensor(1.0))
        assert (frequencies[anchor][torch.arange(5) != own] - 0.25).abs().max() < 0.03
    assert (bank.data(4000, 2).mean(dim=1) - 0.2).abs().max() < 0.03


@pytest.mark.parametrize("size", [12, 1000])
def test_shared_negatives_are_distinct_and_uniform(size: int) -> None:
    counts = torch.zeros(size)
    for key in range(600):
        rows = distinct_entries(size, 5, key)
        assert len(set(rows.tolist())) == 5
        counts[rows] += 1
    expected = 600 * 5 / size
    assert ((counts - expected) ** 2 / expected).sum() < size + 5 * (2 * size) ** 0.5  # chi squared
    assert distinct_entries(size, size, 1).sort().values.tolist() == list(range(size))
    assert torch.equal(distinct_entries(size, 5, 7), distinct_entries(size, 5, 7))


def test_negatives_per_anchor_are_a_function_of_key_and_anchor() -> None:
    own = torch.tensor([0, 3, 6, 3])
    rows = entries_for_each(7, 6000, own, key=2)
    assert torch.equal(rows[1], rows[3])
    assert torch.equal(rows[1:3], entries_for_each(7, 6000, own[1:3], key=2)), (
        "the sample of an anchor depends on the other anchors"
    )
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows, entries_for_each(7, 6000, own, key=3))
    for anchor in range(3):
        counts = torch.bincount(rows[anchor], minlength=7)
        assert counts[own[anchor]] == 0
        assert (counts[torch.arange(7) != own[anchor]] - 1000).abs().max() < 150
    pairs = torch.stack([rows[0][:-1] * 7 + rows[0][1:]]).flatten().bincount(minlength=49)
    assert pairs[pairs > 0].float().std() < 25, "consecutive samples are correlated"
    large = entries_for_each(2**31, 1000, torch.tensor([5]), key=0)
    assert 0 <= large.min() < 2**26
    assert 2**31 - 2**26 < large.max() < 2**31


def test_number_of_negatives_is_limited_by_the_bank() -> None:
    bank = BatchedMemory(6, 2)
    assert bank.negatives(5, 0) is None
    assert bank.negatives(0, 0) is None
    assert bank.negatives(4, 0).shape == (4,)
    assert bank.negatives_for_each(9, torch.tensor([1, 2]), 0).shape == (2, 5)


def test_save_and_load_resize_the_bank(tmp_path: Path) -> None:
    stored, other = (nn.ModuleDict({"bank": BatchedMemory(size, 2)}) for size in (6, 4))
    load_exactly(other, stored.state_dict(), "file")
    assert torch.equal(other["bank"].memory, stored["bank"].memory)
    stored["bank"].save(tmp_path / "rows")
    assert torch.equal(BatchedMemory(3, 2).load(tmp_path / "rows").memory, stored["bank"].memory)
    with pytest.raises(OSError, match="3"):
        BatchedMemory(3, 3).load(tmp_path / "rows")
    with pytest.raises(OSError, match="other"):
        BatchedMemory(3, 3).load(tmp_path / "other")


def test_float16_bank_returns_float32() -> None:
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


def test_other_dtypes_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match=r"torch\.float16"):
        BatchedMemory(2, 2, dtype=torch.float64)
