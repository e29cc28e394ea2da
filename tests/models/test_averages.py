"""Exponential moving averages of networks, and the momentum schedule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.models import MomentumSchedule, cosine_momentum, momentum_copy, update_ema
from super_selfish.models.averages import inference


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.996), (250, 0.996586), (500, 0.998), (1000, 1.0), (1700, 1.0)])
def test_cosine_momentum_values(step: int, momentum: float) -> None:
    assert cosine_momentum(step, 1000, 0.996) == pytest.approx(momentum, abs=5e-7)


def test_schedule_advances_and_resumes() -> None:
    straight, first, second = (MomentumSchedule(0.9, "cosine") for _ in range(3))
    straight.begin(6)
    expected = [straight.advance() for _ in range(6)]
    assert expected == [cosine_momentum(step, 6, 0.9) for step in range(6)]
    first.begin(6)
    momenta = [first.advance() for _ in range(4)]
    second.begin(6)
    second.load_state_dict(first.state_dict())
    assert momenta + [second.advance() for _ in range(2)] == expected
    second.begin(6)
    assert second.advance() == 0.9
    second.begin(0)
    assert 0.9 <= second.advance() <= 1
    constant = MomentumSchedule(0.9, None)
    constant.begin(2)
    assert [constant.advance() for _ in range(3)] == [0.9] * 3


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_update_ema_averages_parameters_and_keeps_buffers(momentum: float) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = momentum_copy(network)
    before = [parameter.clone() for parameter in average.parameters()]
    for parameter in network.parameters():
        parameter.data.add_(1.0)
    network(torch.randn(8, 3))
    update_ema(average, network, momentum)
    for old, new, trained in zip(before, average.parameters(), network.parameters(), strict=True):
        assert torch.allclose(new, momentum * old + (1 - momentum) * trained, atol=1e-6)
        assert not new.requires_grad
    assert torch.equal(average[1].running_mean, torch.zeros(4))


class ReassignsBuffer(nn.Module):
    """Replaces its buffer instead of writing into it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.layer(x)


def test_inference_restores_reassigned_buffers() -> None:
    network = momentum_copy(ReassignsBuffer())
    with inference(network):
        output = network(torch.ones(3, 2))
    assert output.is_inference()
    assert not network.mean.is_inference()
    assert torch.allclose(network.mean, torch.full((2,), 0.1))
    network.load_state_dict(ReassignsBuffer().state_dict())
