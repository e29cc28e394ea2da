"""Criteria and metrics are not weights: loading needs the networks alone, and resuming compares their constants."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stopping import RaiseAfter
from torch import Tensor, nn

import super_selfish
from super_selfish.errors import CheckpointMismatch
from super_selfish.models import CombinedNet
from super_selfish.storage.weights_file import read_weights
from super_selfish.supervisors import LabelSupervisor, all_supervisors

RUN = {"epochs": 1, "batch_size": 4, "verbose": False, "name": "store/test", "watch": 0}


class Scaled(nn.Module):
    """A criterion with a constant, a state, a parameter and a nested criterion with class weights."""

    def __init__(self, criterion: nn.Module, constant: float = 1.0) -> None:
        super().__init__()
        self.criterion = criterion
        self.inner = nn.ModuleList([nn.CrossEntropyLoss(weight=torch.full((3,), constant))])
        self.register_buffer("constant", torch.tensor(constant))
        self.register_buffer("calls", torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, *arguments: Tensor) -> Tensor:
        self.calls += 1
        return self.criterion(*arguments) * self.scale.exp() * self.constant


@pytest.fixture
def build(make: Callable[..., Any], images: Callable[..., Any]) -> Callable[..., Any]:
    own = type(make()), make().loss

    def build(constant: float | None = 1.0, data: bool = True) -> Any:
        if constant is None:
            return make(images(8) if data else None)
        return make(images(8) if data else None, loss=Scaled(own[1], constant))

    return build


def test_weights_files_load_without_the_criterion(
    build: Callable[..., Any], tiny_backbone: type, caplog: Any, algorithm: str
) -> None:
    trained = build().supervise(**RUN)
    tensors = read_weights("store/test").tensors
    assert {key for key in tensors if key.startswith("loss")} == {"loss.calls", "loss.scale"}
    small = {"patch_size": 8} if algorithm == "contrastive_predictive_coding" else {}
    assert small == {} or trained.patch_size == 8
    with caplog.at_level(logging.WARNING, "super_selfish"):
        loaded = super_selfish.load("store/test", backbone=tiny_backbone())
    assert "loss" not in caplog.text
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key])
    build(None, data=False).load("store/test")


def test_pretrained_keeps_constants_and_loads_what_was_trained(build: Callable[..., Any]) -> None:
    first = build(1.0).supervise(**RUN)
    second = build(2.0).load("store/test")
    assert float(second.loss.constant) == 2
    assert second.loss.inner[0].weight.tolist() == [2, 2, 2]
    assert torch.equal(second.loss.scale, first.loss.scale)
    assert torch.equal(second.loss.calls, first.loss.calls)
    second.supervise(**RUN | {"pretrained": True})
    assert float(second.loss.constant) == 2
    second.save("store/again")
    assert torch.equal(build(1.0).load("store/again").loss.scale, second.loss.scale)


def test_a_training_without_a_criterion_is_the_start_of_one_with_it(build: Callable[..., Any], caplog: Any) -> None:
    build(None).supervise(**RUN)
    with caplog.at_level(logging.WARNING, "super_selfish"):
        second = build(3.0).load("store/test")
    assert "loss.scale" in caplog.text
    assert float(second.loss.constant) == 3


def test_resume_restores_the_state_and_refuses_other_constants(
    build: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    whole = build(2.0).supervise(**RUN | {"epochs": 2, "name": "store/whole"})
    with pytest.raises(KeyboardInterrupt):
        build(2.0).supervise(callbacks=[RaiseAfter(2)], **RUN | {"epochs": 2})
    resumed = build(2.0).supervise(**RUN | {"epochs": 2, "resume": True})
    assert all(torch.equal(value, weights(resumed)[key]) for key, value in weights(whole).items())
    with pytest.raises(CheckpointMismatch, match=r"loss.constant is 3.0 here and 2.0 in the checkpoint"):
        build(3.0).supervise(**RUN | {"epochs": 3, "resume": True})


def test_networks_are_checked_as_strictly_with_a_criterion(build: Callable[..., Any], make: Callable[..., Any]) -> None:
    build().supervise(**RUN)
    torch.manual_seed(0)
    other = make(None, backbone=nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(2)))
    with pytest.raises(CheckpointMismatch):
        other.load("store/test")


class Counting(nn.Module):
    """A metric: buffers only."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.tensor(threshold))
        self.register_buffer("total", torch.zeros(()))


def with_metric(base: type, threshold: float | None) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if threshold is not None:
                self.metric = Counting(threshold)
                self.second = nn.CrossEntropyLoss(weight=torch.full((2,), threshold))

        def _after_update(self) -> None:
            super()._after_update()
            if threshold is not None:
                self.metric.total += 1

    return Own


def test_metrics_of_a_custom_class_are_not_weights(
    make: Callable[..., Any], images: Callable[..., Any], algorithm: str
) -> None:
    base = all_supervisors()[algorithm]
    with_one, with_other, without = (with_metric(base, threshold) for threshold in (0.25, 0.5, None))
    make(images(8), cls=with_one).supervise(**RUN)
    assert {key for key in read_weights("store/test").tensors if key.startswith(("metric", "second"))} == {
        "metric.total"
    }
    assert make(images(8), cls=without).load("store/test").train_state.step == 2
    read = make(images(8), cls=with_other).load("store/test")
    assert (float(read.metric.threshold), float(read.metric.total)) == (0.5, 2)
    assert read.second.weight.tolist() == [0.5, 0.5]
    with pytest.raises(CheckpointMismatch, match=r"metric.threshold is 0.5 here and 0.25"):
        make(images(8), cls=with_other).supervise(**RUN | {"epochs": 2, "resume": True})
    resumed = make(images(8), cls=with_one).supervise(**RUN | {"epochs": 2, "resume": True})
    assert float(resumed.metric.total) == 4
    make(images(8), cls=without).supervise(**RUN | {"name": "store/none"})
    assert make(images(8), cls=with_one).load("store/none").train_state.step == 2


def labelled(weight: list[float] | None, outputs: int = 3) -> LabelSupervisor:
    torch.manual_seed(0)
    net = CombinedNet(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten()), nn.Linear(48, outputs))
    data = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8), np.arange(8) % 3
    return LabelSupervisor(net, data, loss=nn.CrossEntropyLoss(None if weight is None else torch.tensor(weight)))


@pytest.mark.parametrize("first", [None, [1.0, 2.0, 3.0]])
def test_class_weights_are_those_of_the_call(first: list[float] | None) -> None:
    labelled(first).supervise(**RUN)
    second = labelled([9.0, 9.0, 1.0]).supervise(**RUN | {"pretrained": True})
    assert second.loss.weight.tolist() == [9, 9, 1]
    assert labelled(None).load("store/test").train_state.epoch == 2
    with pytest.raises(CheckpointMismatch, match="weight"):
        labelled([9.0, 9.0, 2.0]).supervise(**RUN | {"epochs": 3, "resume": True})


def test_a_criterion_that_holds_the_network_does_not_store_it_twice() -> None:
    class Penalised(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            penalty = sum(weight.square().sum() for weight in self.net.parameters())
            return nn.functional.cross_entropy(outputs, targets) + 1e-4 * penalty

    def build() -> LabelSupervisor:
        supervisor = labelled(None)
        supervisor.loss = Penalised(supervisor.model.predictor)
        return supervisor

    trained = build().supervise(**RUN)
    assert set(read_weights("store/test").tensors) == {"predictor.weight", "predictor.bias"}
    read = build().load("store/test")
    assert torch.equal(read.model.predictor.weight, trained.model.predictor.weight)
    resumed = build().supervise(**RUN | {"epochs": 2, "resume": True})
    assert resumed.train_state.epoch == 2
