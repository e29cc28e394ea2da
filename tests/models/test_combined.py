"""CombinedNet and the classification head."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from super_selfish.errors import CheckpointError, CheckpointMismatch, ConfigurationError
from super_selfish.models import Classification, CombinedNet, SmallResNet
from super_selfish.models.combined import load_exactly


def test_classification_ends_in_a_linear_layer() -> None:
    head = Classification([8, 6, 5, 3])
    kinds = [type(layer).__name__ for layer in head.layers]
    assert kinds == ["Linear", "BatchNorm1d", "PReLU"] * 2 + ["Linear"]
    assert [layer.out_features for layer in head.layers if isinstance(layer, nn.Linear)] == [6, 5, 3]
    assert Classification([8, 3])(torch.rand(2, 2, 2, 2)).shape == (2, 3)
    assert "BatchNorm1d" not in str(Classification([8, 6, 3], batchnorm=False))
    for layers in ([8], [8, 0]):
        with pytest.raises(ConfigurationError, match="`layers`"):
            Classification(layers)


def test_resizable_head_takes_the_number_of_outputs_of_the_weights() -> None:
    first, second = Classification([8, 6, 3], resizable=True), Classification([8, 6, 40], resizable=True)
    load_exactly(second, first.state_dict(), "a file")
    assert second.layers[-1].out_features == 3
    assert "out_features=3" in str(second)
    values = torch.rand(4, 8)
    assert torch.equal(second.eval()(values), first.eval()(values))
    assert all(parameter.requires_grad for parameter in second.parameters())
    for other in (Classification([8, 6, 40]), Classification([8, 5, 3], resizable=True)):
        with pytest.raises(CheckpointMismatch, match="shape"):
            load_exactly(other, first.state_dict(), "a file")


def test_state_dict_has_no_duplicate_keys() -> None:
    net = CombinedNet(SmallResNet(width=4), Classification([32, 4]))
    modules = {key.split(".")[0] for key in net.state_dict()}
    assert modules == {"backbone", "predictor"}
    assert len(net.state_dict()) == len(net.backbone.state_dict()) + len(net.predictor.state_dict())


def test_maps_are_flattened_for_a_linear_layer() -> None:
    net = CombinedNet(nn.Conv2d(3, 2, 3, padding=1), nn.Linear(2 * 8 * 8, 5))
    assert net(torch.rand(4, 3, 8, 8)).shape == (4, 5)


def test_empty_sequential_is_a_valid_predictor() -> None:
    assert torch.equal(CombinedNet(nn.Identity(), nn.Sequential())(torch.ones(1)), torch.ones(1))
    for arguments in ({}, {"backbone": nn.Identity()}, {"predictor": nn.Identity()}):
        with pytest.raises(ConfigurationError, match="CombinedNet"):
            CombinedNet(**arguments)


def test_save_and_load_are_all_or_nothing() -> None:
    first, second = (CombinedNet(SmallResNet(width=4), nn.Linear(32, 3)) for _ in range(2))
    assert first.save("store/net") is first
    assert second.load("store/net") is second
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
    other = CombinedNet(SmallResNet(width=4), nn.Linear(32, 4))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(CheckpointMismatch, match=r"predictor\.weight"):
        other.load("store/net")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in before.items())
    with pytest.raises(CheckpointError, match="absent"):
        other.load("store/absent")


class OnGPU(torch.Tensor):
    """A tensor that reports to be on a GPU."""

    is_cuda = True


def test_data_parallel_has_no_effect_on_cpu() -> None:
    torch.manual_seed(0)
    plain = CombinedNet(SmallResNet(width=4), nn.Linear(32, 5))
    shared = CombinedNet(plain.backbone, plain.predictor, distributed=True)
    x = torch.rand(4, 3, 32, 32)
    assert torch.equal(plain(x), shared(x))


def test_data_parallel_splits_a_batch_over_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tested without GPUs: replicas receive chunks of the batch and do not split them again."""
    torch.manual_seed(0)
    net = CombinedNet(SmallResNet(width=4), nn.Linear(32, 5), distributed=True).eval()
    sizes: list[int] = []

    def split(module: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        replica = copy.deepcopy(module)
        for child in replica.modules():  # like torch's replicas: tensors in place of parameters
            for name, parameter in list(child.named_parameters(recurse=False)):
                delattr(child, name)
                setattr(child, name, parameter.detach())
        chunks = inputs[0].chunk(2)
        sizes.extend(map(len, chunks))
        return torch.cat([replica(chunk.as_subclass(OnGPU)) for chunk in chunks])

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(nn.parallel, "data_parallel", split)
    x = torch.rand(6, 3, 32, 32)
    output = net(x.as_subclass(OnGPU))
    assert sizes == [3, 3]
    net.distributed = False
    assert torch.allclose(output.as_subclass(torch.Tensor), net(x), atol=1e-6)
