"""Learning rate schedules, and LARS."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from super_selfish.engine.optim.lars import LARS
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.errors import ConfigurationError


def test_warm_up_then_cosine() -> None:
    schedule = Schedule("cosine", warm_up=0.2, end=0.1, total=20, batches=5)
    factors = [schedule.at_step(step) for step in range(21)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4] == 1.0
    assert factors[12] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert factors[20] == pytest.approx(0.1)


def test_most_epochs_limits_the_warm_up() -> None:
    assert Schedule("cosine", warm_up=0.2, most_epochs=10, total=10_000, batches=100).warm_up_steps == 1000


def test_steps_and_exponential() -> None:
    steps = Schedule("steps", at=(0.5, 0.75), total=8)
    assert [steps.at_step(step) for step in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    falling = Schedule("exponential", begin=0.5, end=0.01, total=8)
    assert [falling.at_step(step) for step in (0, 4, 6, 8)] == pytest.approx([1, 1, 0.1, 0.01])


def test_frozen_groups_have_learning_rate_zero_at_first() -> None:
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "frozen": True}, {"params": weights[1:]}], lr=0.5)
    scheduler = Schedule(freeze=0.5, total=4)(optimizer)
    seen = []
    for _ in range(4):
        seen.append(tuple(group["lr"] for group in optimizer.param_groups))
        optimizer.step()
        scheduler.step()
    assert seen == [(0, 0.5), (0, 0.5), (0.5, 0.5), (0.5, 0.5)]


def test_resumed_run_uses_its_own_length() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    short, longer = Schedule("cosine", total=4)(optimizer), Schedule("cosine", total=100)(optimizer)
    longer.load_state_dict(copy.deepcopy(short.state_dict()))
    for _ in range(5):
        optimizer.step()
        longer.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx((1 + math.cos(math.pi * 5 / 100)) / 2)
    assert repr(Schedule("cosine", total=4)) == repr(Schedule("cosine", total=100))


def test_lars_matches_reference_implementation() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    bias = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    groups = [{"params": [weight]}, {"params": [bias], "adapt": False, "weight_decay": 0.0}]
    optimizer = LARS(groups, lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
    expected, velocity, expected_bias, bias_velocity = weight.detach().clone(), 0.0, 2.0, 0.0
    for _ in range(3):
        weight.grad = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
        bias.grad = torch.tensor([0.25], dtype=torch.float64)
        gradient = weight.grad + 0.1 * expected
        velocity = 0.9 * velocity + 0.5 * 0.01 * expected.norm() / gradient.norm() * gradient
        expected = expected - velocity
        bias_velocity = 0.9 * bias_velocity + 0.5 * 0.25
        expected_bias -= bias_velocity
        optimizer.step()
    assert torch.allclose(weight, expected, atol=1e-12)
    assert bias.item() == pytest.approx(expected_bias)


def test_lars_updates_a_layer_of_zeros() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([weight], lr=0.1).step()
    assert torch.equal(weight, torch.full((2, 2), -0.1))


@pytest.mark.parametrize("invalid", [{"lr": 0.0}, {"momentum": 1.0}, {"weight_decay": -1.0}, {"trust": 0.0}])
def test_lars_rejects_invalid_arguments(invalid: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(invalid))):
        LARS([nn.Parameter(torch.ones(1))], **{"lr": 0.1} | invalid)


@pytest.mark.parametrize(
    "invalid",
    [
        {"curve": "cosin"},
        {"warm_up": 2.0},
        {"freeze": -0.1},
        {"factor": -1.0},
        {"at": 0.5},
        {"total": 2.5},
        {"curve": "exponential"},
        {"curve": "exponential", "begin": 1.0, "end": 0.1},
    ],
)
def test_schedule_rejects_invalid_arguments(invalid: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Schedule(**invalid)
