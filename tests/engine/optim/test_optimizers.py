"""The optimizer of a run."""

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
def test_torchs_own_are_fused_and_do_the_same(factory: Any) -> None:
    ends = []
    for make in (lambda groups: factory(groups, lr=0.1), lambda groups: make_optimizer(factory, groups, 0.1)):
        net = layer()
        optimizer = make(list(net.parameters()))
        for step in range(3):
            torch.manual_seed(step)
            net(torch.rand(2, 3, 8, 8)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(net.weight.detach())
    assert optimizer.defaults["fused"] is True
    assert torch.allclose(*ends, atol=1e-6)


def test_the_users_choice_and_other_optimizers_stay() -> None:
    parameters = list(layer().parameters())
    chosen = functools.partial(torch.optim.Adam, foreach=True)
    assert make_optimizer(chosen, parameters, 0.1).defaults["foreach"] is True
    assert not make_optimizer(chosen, parameters, 0.1).defaults.get("fused")
    assert isinstance(make_optimizer(torch.optim.RMSprop, parameters, 0.1), torch.optim.RMSprop)

    class Own(torch.optim.Adam):
        pass

    assert not make_optimizer(Own, parameters, 0.1).defaults.get("fused")
    doubles = [nn.Parameter(torch.zeros(2, dtype=torch.float64))]
    assert not make_optimizer(torch.optim.Adam, doubles, 0.1).defaults.get("fused")


def test_rates_of_groups_stay() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5}, {"params": [nn.Parameter(torch.zeros(1))]}]
    made = make_optimizer(torch.optim.Adam, groups, 0.1)
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.1]


def test_gradients_of_another_layout_are_not_mixed_up() -> None:
    torch.manual_seed(0)
    gradient = torch.rand(4, 3, 3, 3)
    ends = []
    for fused in (False, True):
        net = layer()
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, fused=fused)
        net.weight.grad = gradient.clone()
        lay_out_gradients(optimizer)
        optimizer.step()
        ends.append(net.weight.detach())
    assert torch.allclose(*ends)
