"""InfoNCE, compared with a double loop and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from super_selfish.losses import info_nce


def naive(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    total = torch.zeros(())
    for i in range(len(query)):
        rows = negatives if negatives.ndim == 2 else negatives[i]
        positive = torch.exp((query[i] * key[i]).sum() / temperature)
        negative = sum((torch.exp((query[i] * row).sum() / temperature) for row in rows), torch.zeros(()))
        total = total - torch.log(positive / (positive + negative))
    return total / len(query)


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(shape), dim=-1)


@pytest.mark.parametrize("shape", [(7, 8), (3, 7, 8)])
def test_values_and_gradients_equal_a_double_loop(shape: tuple[int, ...]) -> None:
    negatives = unit(*shape)
    gradients = []
    for function in (info_nce, naive):
        query, key = (row.requires_grad_() for row in (unit_of(1), unit_of(2)))
        loss = function(query, key, negatives, 0.3)
        loss.backward()
        gradients.append((loss.detach(), query.grad, key.grad))
    for ours, reference in zip(*gradients, strict=True):
        assert torch.allclose(ours, reference, atol=1e-6)


def unit_of(seed: int) -> Tensor:
    return F.normalize(torch.randn((3, 8), generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("count", [128, 500, 4096])
def test_loss_at_chance_level(count: int) -> None:
    zeros = torch.zeros(4, 16)
    assert info_nce(zeros, zeros, torch.zeros(count, 16)).item() == pytest.approx(math.log(count + 1), abs=1e-5)


@pytest.mark.parametrize(("count", "t", "value"), [(1, 1.0, 0.31326), (2, 0.2, 0.013386)])
def test_loss_of_perfect_positives_and_orthogonal_negatives(count: int, t: float, value: float) -> None:
    axes = torch.eye(4)
    loss = info_nce(axes[:1], axes[:1], axes[1 : 1 + count], t)
    assert loss.item() == pytest.approx(math.log(1 + count * math.exp(-1 / t)), abs=1e-6)
    assert loss.item() == pytest.approx(value, abs=1e-5)


def test_temperature_has_to_be_positive() -> None:
    with pytest.raises(ValueError, match="`temperature`"):
        info_nce(unit(2, 4), unit(2, 4), unit(3, 4), 0.0)
