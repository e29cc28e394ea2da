"""CPCLoss: labels, comparison with a loop, and a limited number of negatives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.errors import ConfigurationError
from super_selfish.losses import CPCLoss


def one_hot_targets(batch: int, rows: int, columns: int) -> Tensor:
    """Return orthogonal targets (batch, batch · rows · columns, rows, columns)."""
    count = batch * rows * columns
    return torch.eye(count).view(batch, rows, columns, count).permute(0, 3, 1, 2)


def shifted(targets: Tensor, steps: range) -> Tensor:
    """Return the targets ``step`` rows below, for each step."""
    return torch.stack([targets.roll(-step, 2) for step in steps], 1)


def naive(predictions: Tensor, targets: Tensor, k: int, ignore: int, scale: float) -> Tensor:
    batch, _, rows, columns = targets.shape
    total = torch.zeros(())
    for index, step in enumerate(range(ignore + 1, k + 1)):
        losses = []
        for b in range(batch):
            for r in range(rows - step):
                for c in range(columns):
                    prediction = predictions[b, index, :, r, c]
                    products = [
                        scale * prediction @ targets[i, :, y, x]
                        for i in range(batch)
                        for y in range(rows)
                        for x in range(columns)
                    ]
                    own = scale * prediction @ targets[b, :, r + step, c]
                    losses.append(torch.logsumexp(torch.stack(products), 0) - own)
        total = total + torch.stack(losses).mean()
    return total


def test_loss_of_perfect_predictions_is_zero() -> None:
    targets = one_hot_targets(2, 5, 3)
    loss = CPCLoss(k=3, ignore=1, scale=100.0)
    assert loss(shifted(targets, range(2, 4)), targets) < 1e-5
    assert loss(shifted(targets, range(1, 3)), targets) > 10, "targets of the wrong step"
    assert loss(shifted(targets.flip(0), range(2, 4)), targets) > 10, "targets of another image"


def test_labels_are_flat_indices_of_the_positives() -> None:
    targets = torch.zeros(2, 4, 7, 5)
    for step in (1, 3):
        expected = [b * 35 + (r + step) * 5 + c for b in range(2) for r in range(7 - step) for c in range(5)]
        assert CPCLoss.labels(targets, step).tolist() == expected


@pytest.mark.parametrize(("k", "ignore"), [(3, 1), (1, 0), (3, 2)])
def test_value_and_gradients_equal_a_loop(k: int, ignore: int) -> None:
    generator = torch.Generator().manual_seed(0)
    predictions = torch.randn(2, k - ignore, 6, 5, 4, generator=generator).requires_grad_()
    targets = torch.randn(2, 6, 5, 4, generator=generator).requires_grad_()
    values = [CPCLoss(k=k, ignore=ignore)(predictions, targets), naive(predictions, targets, k, ignore, 0.1)]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-5)
    ours, theirs = (torch.autograd.grad(value, (predictions, targets)) for value in values)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_loss_at_chance_level() -> None:
    loss = CPCLoss(k=1, ignore=0)
    assert loss(torch.zeros(2, 1, 8, 7, 7), torch.rand(2, 8, 7, 7)).item() == pytest.approx(4.585, abs=1e-3)
    assert CPCLoss()(torch.zeros(2, 2, 8, 7, 5), torch.rand(2, 8, 7, 5)).item() == pytest.approx(2 * math.log(70))


def test_limited_number_of_negatives() -> None:
    loss = CPCLoss(k=2, ignore=0, N=9)
    assert loss(torch.zeros(2, 2, 8, 7, 7), torch.rand(2, 8, 7, 7)).item() == pytest.approx(2 * math.log(10), rel=1e-6)
    targets = one_hot_targets(2, 5, 3)
    bounded = CPCLoss(k=1, ignore=0, N=20, scale=100.0)
    for _ in range(20):
        assert bounded(shifted(targets, range(1, 2)), targets) < 1e-5, "the positive was sampled as a negative"


def test_negatives_are_sampled_uniformly() -> None:
    """All logits but one are equal. The loss is high if that candidate is sampled: in 10 of 29 cases."""
    targets = one_hot_targets(2, 5, 3)
    predictions = torch.zeros(2, 1, 30, 5, 3)
    predictions[0, 0, 22, 1, 1] = 50.0  # most similar to target 22, a negative
    loss = CPCLoss(k=1, ignore=0, N=10, reduction="none", scale=1.0)
    is_sampled = [loss(predictions, targets)[4].item() > 10 for _ in range(400)]
    assert sum(is_sampled) / 400 == pytest.approx(10 / 29, abs=0.08)


def test_more_negatives_than_targets_means_all() -> None:
    predictions, targets = torch.randn(2, 2, 6, 5, 4), torch.randn(2, 6, 5, 4)
    assert torch.equal(CPCLoss(N=39)(predictions, targets), CPCLoss()(predictions, targets))
    assert torch.equal(CPCLoss(N=10_000)(predictions, targets), CPCLoss()(predictions, targets))


def test_reductions() -> None:
    predictions, targets = torch.randn(2, 2, 6, 5, 4), torch.randn(2, 6, 5, 4)
    losses = CPCLoss(reduction="none")(predictions, targets)
    assert losses.shape == (2 * 3 * 4 + 2 * 2 * 4,)
    assert torch.allclose(CPCLoss(reduction="sum")(predictions, targets), losses.sum())
    assert torch.allclose(CPCLoss()(predictions, targets), losses[:24].mean() + losses[24:].mean())


def test_target_shaper_is_trained_with_the_loss() -> None:
    shaper = nn.Conv2d(6, 3, 1, bias=False)
    loss = CPCLoss(shaper)
    predictions, latents = torch.randn(2, 2, 3, 5, 4), torch.randn(2, 6, 5, 4)
    value = loss(predictions, latents)
    value.backward()
    assert torch.allclose(value, CPCLoss()(predictions, shaper(latents)))
    assert all(parameter.grad.abs().max() > 0 for parameter in loss.parameters())
    assert sum(1 for _ in loss.parameters()) == 1
    assert not list(CPCLoss().parameters())


def test_small_grids_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match="step 3"):
        CPCLoss()(torch.zeros(2, 2, 6, 3, 7), torch.zeros(2, 6, 3, 7))


@pytest.mark.parametrize(
    "wrong",
    [{"k": 0}, {"ignore": -1}, {"k": 2, "ignore": 2}, {"N": 0}, {"reduction": "most"}, {"scale": 0}, {"k": True}],
)
def test_arguments_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        CPCLoss(**wrong)


def test_criterion_equals_torch_cross_entropy() -> None:
    predictions, targets = torch.randn(1, 1, 4, 3, 2), torch.randn(1, 4, 3, 2)
    logits = predictions[0, 0].movedim(0, -1)[:2].reshape(4, 4) @ targets[0].movedim(0, -1).reshape(6, 4).T
    expected = F.cross_entropy(0.5 * logits, torch.tensor([2, 3, 4, 5]))
    assert torch.allclose(CPCLoss(k=1, ignore=0, scale=0.5)(predictions, targets), expected)
