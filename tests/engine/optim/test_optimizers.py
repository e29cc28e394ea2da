"""Construction of optimizers."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from super_selfish.engine.optim.optimizers import lay_out_gradients, make_optimizer


def layer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "factory",
    [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, functools.partial(torch.optim.SGD, momentum=0.9)],
)
def test_fused_step_equals_unfused_step(factory: Any) -> None:
    results = []
    for make in (lambda groups: factory(groups, lr=0.1), lambda groups: make_optimizer(factory, groups, 0.1)):
        net = layer()
        optimizer = make(list(net.parameters()))
        for step in range(3):
            torch.manual_seed(step)
            net(torch.rand(2, 3, 8, 8)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append(net.weight.detach())
    assert optimizer.defaults["fused"] is True
    assert torch.allclose(*results, atol=1e-6)


def test_custom_optimizers_and_explicit_implementations_are_kept() -> None:
    parameters = list(layer().parameters())
    chosen = functools.partial(torch.optim.Adam, foreach=True)
    assert make_optimizer(chosen, parameters, 0.1).defaults["foreach"] is True
    assert not make_optimizer(chosen, parameters, 0.1).defaults.get("fused")
    assert isinstance(make_optimizer(torch.optim.RMSprop, parameters, 0.1), torch.optim.RMSprop)

    class Custom(torch.optim.Adam):
        pass

    assert not make_optimizer(Custom, parameters, 0.1).defaults.get("fused")
    doubles = [nn.Parameter(torch.zeros(2, dtype=torch.float64))]
    assert not make_optimizer(torch.optim.Adam, doubles, 0.1).defaults.get("fused")


def test_learning_rates_of_groups_are_kept() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5}, {"params": [nn.Parameter(torch.zeros(1))]}]
    optimizer = make_optimizer(torch.optim.Adam, groups, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]


def test_fused_step_with_gradients_of_another_memory_layout() -> None:
    torch.manual_seed(0)
    gradient = torch.rand(4, 3, 3, 3)
    results = []
    for fused in (False, True):
        net = layer()
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, fused=fused)
        net.weight.grad = gradient.clone()
        lay_out_gradients(optimizer)
        optimizer.step()
        results.append(net.weight.detach())
    assert torch.allclose(*results)
