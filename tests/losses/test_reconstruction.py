"""Masked mean squared error, compared with a loop over pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from super_selfish.losses import masked_mse


def naive(predictions: Tensor, targets: Tensor, masks: Tensor) -> Tensor:
    losses = []
    for prediction, target, mask in zip(predictions, targets, masks, strict=True):
        total, count = torch.zeros(()), 0
        for channel, row, column in torch.cartesian_prod(*(torch.arange(size) for size in prediction.shape)):
            if mask[0, row, column]:
                difference = prediction[channel, row, column] - target[channel, row, column]
                total, count = total + difference * difference, count + 1
        losses.append(total / max(count, 1))
    return torch.stack(losses).mean()


def test_values_and_gradients_equal_a_loop() -> None:
    target, start = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    mask = torch.rand(2, 1, 4, 5) < 0.3
    results = []
    for function in (masked_mse, naive):
        prediction = start.clone().requires_grad_()
        loss = function(prediction, target, mask)
        loss.backward()
        results.append((loss.detach(), prediction.grad))
    assert results[0][0].item() == pytest.approx(results[1][0].item(), rel=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-6)
    assert (results[0][1] == 0)[~mask.expand(-1, 3, -1, -1)].all(), "unmasked pixels have a gradient"


def test_masks_with_no_and_one_pixel() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    prediction = torch.ones(1, 3, 64, 64, requires_grad=True)
    loss = masked_mse(prediction, torch.zeros(1, 3, 64, 64), mask.bool())
    loss.backward()
    assert loss.item() == 0
    assert not prediction.grad.any()
    mask[0, 0, 5, 5] = 1
    assert masked_mse(2 * prediction, torch.zeros(1, 3, 64, 64), mask.bool()).item() == pytest.approx(4, rel=1e-5)


def test_loss_of_a_batch_is_the_mean_over_images() -> None:
    prediction, target = torch.rand(4, 3, 6, 6), torch.rand(4, 3, 6, 6)
    mask = torch.rand(4, 1, 6, 6) < torch.tensor([0.1, 0.9, 0.5, 0.0]).view(4, 1, 1, 1)
    losses = [masked_mse(prediction[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(4)]
    assert masked_mse(prediction, target, mask).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
