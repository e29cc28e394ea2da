"""Regression loss of BYOL, compared with a loop and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from super_selfish.losses import regression_loss


@pytest.mark.parametrize(
    ("target", "value"), [((1.0, 0.0), 0.0), ((0.0, 1.0), 2.0), ((-1.0, 0.0), 4.0), ((0.6, 0.8), 0.8)]
)
def test_closed_forms(target: tuple[float, float], value: float) -> None:
    rows = torch.tensor([[1.0, 0.0]]).repeat(3, 1)
    assert regression_loss(rows, torch.tensor([target]).repeat(3, 1)).item() == pytest.approx(value, abs=1e-6)


def test_values_and_gradients_equal_a_loop() -> None:
    target = F.normalize(torch.randn(5, 8))
    gradients = []
    for naive in (False, True):
        row = torch.linspace(-1, 2, 40).reshape(5, 8).sin().requires_grad_()
        prediction = F.normalize(row)
        loss = regression_loss(prediction, target)
        if naive:
            loss = sum(2 - 2 * (prediction[i] * target[i]).sum() for i in range(5)) / 5
        loss.backward()
        gradients.append((loss.detach(), row.grad))
    for ours, reference in zip(*gradients, strict=True):
        assert torch.allclose(ours, reference, atol=1e-6)
