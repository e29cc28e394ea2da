"""Networks are compiled for the time of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import SmallResNet
from super_selfish.supervisors import BYOLSupervisor, MomentumContrastSupervisor, RotateNetSupervisor

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
QUIET: dict[str, Any] = {"epochs": 1, "batch_size": 8, "verbose": False}


def test_networks_and_averages_are_compiled_for_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def compile_(function: Any, *, disable: bool = False) -> Any:
        def call(*inputs: Any, **named: Any) -> Any:
            calls.append(type(function.__self__).__name__)
            return function(*inputs, **named)

        return function if disable else call

    monkeypatch.setattr(torch, "compile", compile_)
    torch.manual_seed(0)
    supervisor = BYOLSupervisor(IMAGES, backbone=SmallResNet(width=4), embedding_size=8, hidden_size=8)
    assert supervisor.networks() == [supervisor.model, supervisor.ema]
    supervisor.supervise(compile=True, **QUIET)
    assert calls == ["CombinedNet"] * 4  # two batches, two networks, both views at once
    supervisor.model(torch.rand(2, 3, 32, 32))
    assert len(calls) == 4


def test_networks_that_cannot_be_compiled_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def fails(*_inputs: Any) -> Any:
        raise BackendCompilerFailed(lambda: None, RuntimeError("no g++"), None)

    monkeypatch.setattr(torch, "compile", lambda function, disable=False: function if disable else fails)
    with pytest.raises(ConfigurationError, match=r"no g\+\+"):
        RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4)).supervise(compile=True, **QUIET)


@pytest.mark.slow
def test_a_compiled_training_has_nearly_the_same_loss() -> None:
    losses = []
    for compile_ in (False, True):
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        supervisor = MomentumContrastSupervisor(IMAGES, backbone=backbone, queue_size=32)
        losses.append(supervisor.supervise(compile=compile_, **QUIET).history[0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
