"""Networks under autocast with float32 inputs and outputs."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from super_selfish.models import CombinedNet
from super_selfish.models.combined import in_lower_precision


class RecordsDtype(nn.Linear):
    """Records the dtype of its last output."""

    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        self.seen = output.dtype
        return output


def net() -> CombinedNet:
    return CombinedNet(nn.Sequential(nn.Flatten(), RecordsDtype(48, 8)), RecordsDtype(8, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_layers_use_lower_precision_and_outputs_are_float32(dtype: torch.dtype) -> None:
    network = net()
    network.lowered_to = dtype
    images = torch.rand(2, 3, 4, 4)
    lowered = network(images)
    assert (network.backbone[1].seen, network.predictor.seen) == (dtype, dtype)
    assert (lowered.dtype, network.features(images).dtype) == (torch.float32, torch.float32)
    assert network.predict(torch.rand(2, 8)).dtype == torch.float32
    network.lowered_to = None
    plain = network(images)
    assert network.predictor.seen == torch.float32
    assert 0 < (plain - lowered).abs().max() < 0.05


def test_features_between_backbone_and_predictor_keep_lower_precision() -> None:
    seen: list[torch.dtype] = []

    class RecordsInput(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.dtype)
            return super().forward(x)

    network = CombinedNet(nn.Sequential(nn.Flatten(), nn.Linear(48, 8)), nn.Sequential(RecordsInput(8, 4)))
    network.lowered_to = torch.bfloat16
    network(torch.rand(2, 3, 4, 4))
    assert seen == [torch.bfloat16]


def test_copies_have_independent_precision() -> None:
    network = net()
    network.lowered_to = torch.bfloat16
    twin = copy.deepcopy(network)
    network.lowered_to = None
    twin(torch.rand(1, 3, 4, 4))
    assert twin.predictor.seen == torch.bfloat16
    assert not hasattr(network.predictor, "seen")


def test_gradients_of_weights_are_float32() -> None:
    network = net()
    network.lowered_to = torch.bfloat16
    network(torch.rand(2, 3, 4, 4)).sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in network.parameters()
    )


def test_keyword_arguments_and_named_tuples() -> None:
    class Pair(NamedTuple):
        product: Tensor
        count: int

    network = net()
    network.lowered_to = torch.bfloat16
    assert network(x=torch.rand(1, 3, 4, 4)).shape == (1, 4)
    head = nn.Linear(8, 2)
    assert network.predict(torch.rand(1, 8), predictor=head).dtype == torch.float32
    output = in_lower_precision(torch.bfloat16, lambda x: Pair(x @ x, 3), torch.rand(2, 2))
    assert (output.product.dtype, output.count) == (torch.float32, 3)


def test_nested_outputs_are_float32_and_integers_are_unchanged() -> None:
    def network(x: Tensor) -> dict[str, list[Tensor]]:
        return {"outputs": [x @ x, torch.ones(1, dtype=torch.int64)]}

    outputs = in_lower_precision(torch.bfloat16, network, torch.rand(2, 2))["outputs"]
    assert [output.dtype for output in outputs] == [torch.float32, torch.int64]
