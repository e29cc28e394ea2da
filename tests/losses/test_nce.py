"""Noise-contrastive estimation, compared with its formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from super_selfish.losses import NCELoss

FIRST = torch.zeros(3, dtype=torch.int64)


def naive(logits: Tensor, z: float, images: int) -> float:
    """Compute the formula of the paper in a loop over images and negatives."""
    total = 0.0
    for row in logits.double().tolist():
        positive, *negatives = [math.exp(value) / z for value in row if value > -math.inf]
        noise = len(negatives) / images
        total -= math.log(positive / (positive + noise))
        total -= sum(math.log(noise / (negative + noise)) for negative in negatives)
    return total / len(logits)


@pytest.mark.parametrize("m", [1, 16, 4096])
def test_loss_of_uniform_probabilities(m: int) -> None:
    loss = NCELoss(images=50_000)(torch.full((3, m + 1), 0.7), FIRST)
    assert loss.item() == pytest.approx(math.log(m + 1) + m * math.log(1 + 1 / m), abs=2e-3 if m > 99 else 1e-5)


def test_loss_equals_the_formula() -> None:
    logits = torch.randn(3, 8) * 3
    loss = NCELoss(images=40)
    z = 40 * logits.exp().mean().item()
    assert loss(logits, FIRST).item() == pytest.approx(naive(logits, z, 40), rel=1e-5)
    assert loss.log_z.exp().item() == pytest.approx(z, rel=1e-5)


def test_z_is_estimated_once_in_training_and_is_part_of_the_state() -> None:
    loss, first, second = NCELoss(40), torch.randn(3, 8), torch.randn(3, 8)
    loss.eval()(first, FIRST)
    assert not loss.known
    loss.train()(first, FIRST)
    z = loss.log_z.item()
    value = loss(second, FIRST)
    assert loss.log_z.item() == z
    other = NCELoss(40)
    other.load_state_dict(loss.state_dict())
    assert other(second, FIRST) == value


def test_infinite_logits_are_excluded() -> None:
    logits = torch.randn(3, 8)
    masked = torch.cat([logits, torch.full((3, 2), -math.inf)], dim=1).requires_grad_()
    loss = NCELoss(40)(masked, FIRST)
    assert loss.item() == pytest.approx(NCELoss(40)(logits, FIRST).item(), rel=1e-6)
    loss.backward()
    assert torch.isfinite(masked.grad[:, :8]).all()
    assert (masked.grad[:, 8:] == 0).all()


def test_large_logits_do_not_overflow() -> None:
    logits = (torch.rand(3, 8) * 900).requires_grad_()
    loss = NCELoss(40)(logits, FIRST)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_number_of_images_has_to_be_positive() -> None:
    with pytest.raises(ValueError, match="images"):
        NCELoss(0)
