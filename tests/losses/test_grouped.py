"""GroupedLoss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.losses import GroupedLoss


def naive(logits: Tensor, targets: Tensor, groups: tuple[int, ...]) -> Tensor:
    total, first = torch.zeros(()), 0
    for group, count in enumerate(groups):
        for row in range(logits.shape[2]):
            for column in range(logits.shape[3]):
                for image in range(len(logits)):
                    values = logits[image, first : first + count, row, column]
                    probability = values.exp()[targets[image, group, row, column]] / values.exp().sum()
                    total = total - probability.log() / (len(logits) * logits.shape[2] * logits.shape[3])
        first += count
    return total


def test_values_and_gradients_equal_a_loop() -> None:
    groups = (4, 7, 2)
    start = torch.randn(2, 13, 3, 2)
    targets = torch.stack([torch.randint(0, count, (2, 3, 2)) for count in groups], dim=1)
    results = []
    for function in (GroupedLoss(groups=groups), lambda logits, targets: naive(logits, targets, groups)):
        logits = start.clone().requires_grad_()
        loss = function(logits, targets)
        loss.backward()
        results.append((loss.item(), logits.grad))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-6)


def test_other_criteria_and_reductions() -> None:
    logits, targets = torch.zeros(2, 150, 3, 4), torch.zeros(2, 2, 3, 4, dtype=torch.int64)
    assert GroupedLoss()(logits, targets).item() == pytest.approx(math.log(50) + math.log(100), rel=1e-6)
    assert GroupedLoss(reduction="none")(logits, targets).shape == (2, 3, 4)
    assert GroupedLoss(reduction="sum")(logits, targets).item() == pytest.approx(24 * math.log(5000), rel=1e-5)
    margin = GroupedLoss(nn.MultiMarginLoss, groups=(3, 2))
    assert margin(torch.zeros(4, 5), torch.zeros(4, 2, dtype=torch.int64)).item() == pytest.approx(2 / 3 + 1 / 2)
    assert GroupedLoss().loss is not GroupedLoss().loss


def test_invalid_shapes_and_groups_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match="149"):
        GroupedLoss()(torch.zeros(1, 149, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.int64))
    with pytest.raises(ConfigurationError, match="1 of targets"):
        GroupedLoss()(torch.zeros(1, 150, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.int64))
    for groups in ((), (50, 0)):
        with pytest.raises(ConfigurationError, match="`groups`"):
            GroupedLoss(groups=groups)
