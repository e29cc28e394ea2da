"""A supervisor trains where the user put it, otherwise on a GPU if there is one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import super_selfish
from super_selfish.engine import processes
from super_selfish.errors import ConfigurationError
from super_selfish.models import CombinedNet
from super_selfish.supervisors import LabelSupervisor, Supervisor

Make = Callable[..., Supervisor]
GPU = torch.device("cuda")
RUN: dict[str, Any] = {"epochs": 0, "checkpoint_every": 0}


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """A GPU that is there by name only: networks that are moved to it stay, and the move is recorded here."""
    recorded: list[torch.device] = []
    to = Supervisor.to

    def recording(supervisor: Supervisor, *args: Any, **kwargs: Any) -> Supervisor:
        if args and isinstance(args[0], torch.device) and args[0].type == "cuda":
            recorded.append(args[0])
            return supervisor
        return to(supervisor, *args, **kwargs)

    monkeypatch.setattr("super_selfish.distributed.placement.available_gpu", lambda: GPU)
    monkeypatch.setattr(Supervisor, "to", recording)
    return recorded


def test_a_gpu_is_used_and_logged(
    make: Make, images: Callable[..., np.ndarray], moves: list[torch.device], capsys: pytest.CaptureFixture[str]
) -> None:
    make(images(8)).supervise(**RUN)
    assert moves == [GPU]
    assert capsys.readouterr().err.count('.to("cpu")') == 1


@pytest.mark.parametrize(
    "move",
    [
        lambda it: it.to("cpu"),
        lambda it: it.cpu(),
        lambda it: it.model.cpu() and it,
        lambda it: it.to("cpu").to(torch.float32),
    ],
)
def test_a_supervisor_put_on_the_cpu_stays_there(
    make: Make,
    images: Callable[..., np.ndarray],
    moves: list[torch.device],
    move: Callable[[Any], Supervisor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    move(make(images(8))).supervise(**RUN)
    assert moves == []
    assert '.to("cpu")' not in capsys.readouterr().err


def test_a_change_of_dtype_is_no_placement(
    make: Make, images: Callable[..., np.ndarray], moves: list[torch.device]
) -> None:
    make(images(8)).to(torch.float32).supervise(**RUN)
    assert moves == [GPU]


def test_a_quiet_training_logs_the_gpu(
    make: Make,
    images: Callable[..., np.ndarray],
    moves: list[torch.device],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.INFO, "super_selfish"):
        make(images(8)).supervise(verbose=False, **RUN)
    assert len([record for record in caplog.records if "automatically" in record.message]) == 1
    assert capsys.readouterr().err == ""


def test_a_loaded_supervisor_is_trained_on_the_gpu_too(
    make: Make, images: Callable[..., np.ndarray], moves: list[torch.device]
) -> None:
    supervisor = make(images(8)).to("cpu").save("run")
    given = {key: value for key, value in supervisor.user_arguments.items() if isinstance(value, nn.Module)}
    loaded = super_selfish.load("run", dataset=images(8), **given)
    loaded.supervise(**RUN)
    again = make(images(8)).to("cpu").load("run").supervise(**RUN)
    assert moves == [GPU]
    assert again.device == torch.device("cpu")


def test_features_on_the_cpu_give_one_hint_where_a_gpu_is_left_unused(
    make: Make, images: Callable[..., np.ndarray], moves: list[torch.device], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = make(images(8))
    for _ in range(2):
        supervisor.extract(images(4))
    assert caplog.text.count("GPU") == 1
    make(images(8)).to("cpu").extract(images(4))
    assert caplog.text.count("GPU") == 1
    assert moves == []


def test_a_head_follows_the_backbone(make: Make, images: Callable[..., np.ndarray], moves: list[torch.device]) -> None:
    labelled = (images(8), np.arange(8) % 2)

    def trained(supervisor: Supervisor) -> LabelSupervisor:
        net = CombinedNet(supervisor.get_backbone(output="pooled"), nn.LazyLinear(2))
        net(torch.zeros(1, *(supervisor.preprocessing.channels, *supervisor.preprocessing.resolution)))
        return LabelSupervisor(net, labelled).supervise(**RUN)

    trained(make(images(8)).to("cpu"))
    assert moves == []
    trained(make(images(8)))
    assert moves == [GPU]


def test_each_process_uses_its_own_gpu(
    make: Make, images: Callable[..., np.ndarray], moves: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[bool] = []
    group = processes.Group(rank=1, world=2, local_rank=1)
    monkeypatch.setattr(processes, "join", lambda on_gpu: joined.append(on_gpu) or group)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    supervisor = make(images(8))
    assert processes.join_processes(supervisor)[0] is group
    assert moves == [torch.device("cuda", 1)]
    assert processes.join_processes(make(images(8)).to("cpu")) == (group, None)
    assert joined == [True, False]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigurationError, match="GPU"):
        processes.join_processes(supervisor)
