"""What makes a run fast, and what is said where it cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError, OutOfMemory
from super_selfish.models import SmallResNet
from super_selfish.supervisors import BYOLSupervisor, MomentumContrastSupervisor, RotateNetSupervisor, Supervisor

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)


def quiet(path: Any) -> dict[str, Any]:
    return {"epochs": 1, "batch_size": 8, "name": path / "run", "verbose": False}


def rotations(error: BaseException | None = None, **options: Any) -> Supervisor:
    class Failing(RotateNetSupervisor):
        def _forward(self, data: Any) -> Tensor:
            if error is not None and self.cursor.step:
                raise error
            return super()._forward(data)

    return Failing(IMAGES, backbone=SmallResNet(width=4), **options)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_running_out_of_memory_says_what_takes_less(error: BaseException, tmp_path: Any) -> None:
    supervisor = rotations(error)
    with pytest.raises(
        OutOfMemory, match=r"step 2.*8 images at once.*accumulate=2.*batch_size.*now 8.*resolution"
    ) as told:
        supervisor.supervise(**quiet(tmp_path))
    assert told.value.__cause__ is error
    assert not (tmp_path / "run.safetensors").exists()
    assert not supervisor.training
    with pytest.raises(OutOfMemory, match=r"4 micro-batches.*accumulate=8"):
        rotations(error).supervise(accumulate=4, **quiet(tmp_path))


def test_no_parts_are_advised_where_the_images_of_a_batch_are_compared(tmp_path: Any) -> None:
    class Failing(MomentumContrastSupervisor):
        def _forward(self, data: Any) -> Tensor:
            raise MemoryError

    with pytest.raises(OutOfMemory) as told:
        Failing(IMAGES, backbone=SmallResNet(width=4), queue_size=0).supervise(**quiet(tmp_path))
    assert "accumulate" not in str(told.value)


def test_other_errors_stay_what_they_are(tmp_path: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        rotations(RuntimeError("shapes do not fit")).supervise(**quiet(tmp_path))


def test_trained_networks_and_averages_are_compiled_for_the_run_alone(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def compile_(function: Any, *, disable: bool = False) -> Any:
        if disable:
            return function

        def call(*inputs: Any, **named: Any) -> Any:
            calls.append(type(function.__self__).__name__)
            return function(*inputs, **named)

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    torch.manual_seed(0)
    supervisor = BYOLSupervisor(IMAGES, backbone=SmallResNet(width=4), embedding_size=8, hidden_size=8)
    assert supervisor.networks() == [supervisor.model, supervisor.ema]
    supervisor.supervise(compile=True, **quiet(tmp_path))
    assert calls == ["CombinedNet"] * 4  # two batches, two networks, both views at once
    supervisor.model(torch.rand(2, 3, 32, 32))
    assert len(calls) == 4


def test_networks_that_cannot_be_compiled_are_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def fails(*_inputs: Any) -> Any:
        raise BackendCompilerFailed(lambda: None, RuntimeError("no g++"), None)

    monkeypatch.setattr(torch, "compile", lambda function, disable=False: function if disable else fails)
    with pytest.raises(ConfigurationError, match=r"cannot be compiled.*no g\+\+.*leave `compile` out"):
        rotations().supervise(compile=True, **quiet(tmp_path))


@pytest.mark.slow
def test_a_compiled_training_is_nearly_the_same(tmp_path: Any) -> None:
    losses = []
    for compile_ in (False, True):
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        supervisor = MomentumContrastSupervisor(IMAGES, backbone=backbone, queue_size=32)
        losses.append(supervisor.supervise(compile=compile_, **quiet(tmp_path)).history[0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
