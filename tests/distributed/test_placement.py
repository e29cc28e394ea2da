"""Device placement, tested without a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from super_selfish.distributed.placement import (
    available_gpu,
    device_by_name,
    device_for_training,
    training_device,
    was_placed,
)
from super_selfish.errors import ConfigurationError
from super_selfish.models import CombinedNet

CPU, GPU, OTHER, META = (torch.device(name) for name in ("cpu", "cuda:0", "cuda:1", "meta"))


def small_net(**parts: nn.Module) -> CombinedNet:
    return CombinedNet(parts.get("backbone", nn.Linear(4, 3)), parts.get("predictor", nn.Linear(3, 2)))


@pytest.mark.parametrize(
    ("present", "placed", "gpu", "expected"),
    [
        ({CPU}, False, GPU, GPU),
        ({CPU}, False, None, None),
        ({CPU}, True, GPU, None),
        ({GPU}, False, OTHER, None),
        ({OTHER}, True, GPU, None),
        ({CPU, OTHER}, False, GPU, OTHER),
        ({CPU, OTHER}, True, None, OTHER),
        ({GPU, OTHER}, False, GPU, None),
        ({CPU, GPU, OTHER}, False, GPU, None),
        (set(), False, GPU, None),
    ],
)
def test_training_device(
    present: set[torch.device], placed: bool, gpu: torch.device | None, expected: torch.device | None
) -> None:
    assert training_device(present, placed=placed, gpu=gpu) == expected


@pytest.mark.parametrize(
    "move",
    [
        lambda net: net.to("cpu"),
        lambda net: net.to(CPU),
        lambda net: net.to(device="cpu"),
        lambda net: net.to("cpu", torch.float64),
        lambda net: net.to(torch.zeros(1)),
        lambda net: net.cpu(),
        lambda net: net.to("meta").to_empty(device="cpu"),
    ],
)
def test_move_to_the_cpu_is_recorded(move: Callable[[CombinedNet], CombinedNet]) -> None:
    assert was_placed(move(small_net()))


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net,
        lambda net: net.to(torch.float64),
        lambda net: net.to(dtype=torch.float64),
        lambda net: net.to(None, torch.float64),
        lambda net: net.to(memory_format=torch.channels_last),
        lambda net: net.double(),
        lambda net: net.eval(),
    ],
)
def test_change_of_dtype_or_memory_format_is_not_recorded(change: Callable[[CombinedNet], CombinedNet]) -> None:
    assert not was_placed(change(small_net()))


def test_move_to_cuda_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[object] = []
    monkeypatch.setattr(nn.Module, "cuda", lambda module, device=None: moved.append(device) or module)
    assert was_placed(small_net().cuda(1))
    assert moved == [1]


def test_failed_move_is_not_recorded() -> None:
    net = small_net()
    with pytest.raises(RuntimeError):
        net.to("no device")
    assert not was_placed(net)


def test_record_is_kept_in_copies_and_parents() -> None:
    net = small_net().to("cpu")
    assert was_placed(copy.deepcopy(net))
    assert was_placed(nn.Sequential(net))
    assert "placed" not in net.state_dict()


def test_parts_are_moved_to_the_accelerator() -> None:
    assert device_for_training(small_net(backbone=nn.Linear(4, 3, device="meta"))) == META
    assert device_for_training(small_net(predictor=nn.Linear(3, 2, device="meta"))) == META
    assert device_for_training(small_net(backbone=nn.Linear(4, 3, device="meta"), predictor=nn.ReLU())) is None


def test_device_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name, expected in (("auto", "cuda"), ("cuda:1", "cuda:1"), ("cpu", "cpu"), ("cuda", "cuda")):
        assert device_by_name(name) == torch.device(expected)
    for name in ("cuda:2", "mps", "cpu:1"):
        with pytest.raises(ConfigurationError, match="not available"):
            device_by_name(name)
    with pytest.raises(ConfigurationError, match=r"unknown\. Expected: cpu or cuda or auto\..*Did you mean 'cuda'"):
        device_by_name("cuad")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert device_by_name("auto") == torch.device("cpu")
    with pytest.raises(ConfigurationError, match="not available"):
        device_by_name("cuda")


def test_available_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert available_gpu() == torch.device("cuda")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    assert available_gpu() is None
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "cpu:gloo,cuda:nccl")
    assert available_gpu() == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert available_gpu() is None
