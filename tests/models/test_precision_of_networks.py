"""Networks in half precision between float32 inputs and outputs."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from super_selfish.models import CombinedNet
from super_selfish.models.combined import in_lower_precision


class Told(nn.Linear):
    """Remembers what numbers it computed with."""

    def forward(self, x: Tensor) -> Tensor:
        made = super().forward(x)
        self.seen = made.dtype
        return made


def net() -> CombinedNet:
    return CombinedNet(nn.Sequential(nn.Flatten(), Told(48, 8)), Told(8, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_layers_are_lowered_and_what_comes_out_is_float32(dtype: torch.dtype) -> None:
    network = net()
    network.lowered_to = dtype
    images = torch.rand(2, 3, 4, 4)
    whole = network(images)
    assert (network.backbone[1].seen, network.predictor.seen) == (dtype, dtype)
    assert (whole.dtype, network.features(images).dtype) == (torch.float32, torch.float32)
    assert network.predict(torch.rand(2, 8)).dtype == torch.float32
    network.lowered_to = None
    plain = network(images)
    assert network.predictor.seen == torch.float32
    assert 0 < (plain - whole).abs().max() < 0.05


def test_what_passes_from_backbone_to_predictor_stays_lowered() -> None:
    seen: list[torch.dtype] = []

    class Asks(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.dtype)
            return super().forward(x)

    network = CombinedNet(nn.Sequential(nn.Flatten(), nn.Linear(48, 8)), nn.Sequential(Asks(8, 4)))
    network.lowered_to = torch.bfloat16
    network(torch.rand(2, 3, 4, 4))
    assert seen == [torch.bfloat16]


def test_a_copy_has_its_own_precision() -> None:
    network = net()
    network.lowered_to = torch.bfloat16
    twin = copy.deepcopy(network)
    network.lowered_to = None
    twin(torch.rand(1, 3, 4, 4))
    assert twin.predictor.seen == torch.bfloat16
    assert not hasattr(network.predictor, "seen")


def test_gradients_reach_float32_weights() -> None:
    network = net()
    network.lowered_to = torch.bfloat16
    network(torch.rand(2, 3, 4, 4)).sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in network.parameters()
    )


def test_named_arguments_and_named_tuples() -> None:
    class Pair(NamedTuple):
        made: Tensor
        count: int

    network = net()
    network.lowered_to = torch.bfloat16
    assert network(x=torch.rand(1, 3, 4, 4)).shape == (1, 4)
    head = nn.Linear(8, 2)
    assert network.predict(torch.rand(1, 8), predictor=head).dtype == torch.float32
    made = in_lower_precision(torch.bfloat16, lambda x: Pair(x @ x, 3), torch.rand(2, 2))
    assert (made.made.dtype, made.count) == (torch.float32, 3)


def test_nested_outputs_are_float32_and_integers_stay() -> None:
    def network(x: Tensor) -> dict[str, list[Tensor]]:
        return {"made": [x @ x, torch.ones(1, dtype=torch.int64)]}

    made = in_lower_precision(torch.bfloat16, network, torch.rand(2, 2))["made"]
    assert [part.dtype for part in made] == [torch.float32, torch.int64]
