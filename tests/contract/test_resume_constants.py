"""A resumed run is that of the checkpoint: constants behind lambdas, closures, partials and objects are compared."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, SequentialLR, StepLR

from super_selfish.engine.optim.constants import constants_of, constructed, differences
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.errors import CheckpointMismatch
from super_selfish.supervisors import RotateNetSupervisor

RUN = {"epochs": 1, "batch_size": 4, "verbose": False, "watch": 0, "name": "run", "lr": 0.01}
GLOBAL = 0.25


class Factory:
    """A callable object, which has no name that shows its constants."""

    def __init__(self, decay: float) -> None:
        self._decay = decay

    def __call__(self, parameters: Any, lr: float) -> torch.optim.Optimizer:
        return AdamW(parameters, lr=lr, weight_decay=self._decay)

    def method(self, parameters: Any, lr: float) -> torch.optim.Optimizer:
        return self(parameters, lr)


def configured(decay: float) -> Callable[..., torch.optim.Optimizer]:
    def make(parameters: Any, lr: float) -> torch.optim.Optimizer:
        return AdamW(parameters, lr=lr, weight_decay=decay)

    return make


OPTIMIZERS: dict[str, Callable[[float], Any]] = {
    "lambda": lambda decay: lambda parameters, lr: AdamW(parameters, lr=lr, weight_decay=decay),
    "closure": configured,
    "partial": lambda decay: functools.partial(AdamW, weight_decay=decay),
    "object": Factory,
    "method": lambda decay: Factory(decay).method,
}
SCHEDULES: dict[str, tuple[str, Callable[[int], Any]]] = {
    "lambda": ("T_max", lambda value: lambda optimizer: CosineAnnealingLR(optimizer, T_max=value)),
    "partial": ("step_size", lambda value: functools.partial(StepLR, step_size=value)),
    "function of the step": (
        "warm",
        lambda value: lambda optimizer: (lambda warm: LambdaLR(optimizer, lambda step: min(1, step / warm)))(value),
    ),
    "several in turn": (
        "T_max",
        lambda value: (
            lambda optimizer: SequentialLR(
                optimizer, [StepLR(optimizer, 2), CosineAnnealingLR(optimizer, T_max=value)], milestones=[3]
            )
        ),
    ),
    "milestones": (
        "milestones",
        lambda value: (
            lambda optimizer: SequentialLR(optimizer, [StepLR(optimizer, 2), StepLR(optimizer, 3)], milestones=[value])
        ),
    ),
}


@pytest.mark.parametrize("form", OPTIMIZERS)
def test_constants_of_optimizers(form: str) -> None:
    weight = torch.zeros(2, requires_grad=True)
    made = [constructed([OPTIMIZERS[form](decay)([weight], lr=0.1)], []) for decay in (0.01, 0.01, 0.5)]
    assert differences(made[1], made[0]) == []
    assert differences(made[2], made[0]) == ["weight_decay of `optimizer` is 0.5 here and 0.01 in the checkpoint"]


@pytest.mark.parametrize("form", SCHEDULES)
def test_constants_of_schedules(form: str) -> None:
    name, factory = SCHEDULES[form]
    weight = torch.zeros(2, requires_grad=True)
    made = [constructed([], [factory(value)(torch.optim.SGD([weight], lr=0.1))]) for value in (8, 8, 16)]
    assert differences(made[1], made[0]) == []
    (difference,) = differences(made[2], made[0])
    assert re.search(rf"{name} of `lr_scheduler` is \[?16\]? here and \[?8\]? in the checkpoint", difference)


def test_the_length_of_the_library_s_schedules_is_no_constant() -> None:
    weight = torch.zeros(2, requires_grad=True)
    schedules = [Schedule("cosine", warm_up=0.1).for_run(epochs, 4, "step") for epochs in (2, 20)]
    made = [constructed([], [schedule(torch.optim.SGD([weight], lr=0.1))]) for schedule in schedules]
    assert differences(made[1], made[0]) == []


def test_another_constant_is_refused_and_the_same_is_none(make: Any, images: Any) -> None:
    """Every algorithm: the error names both values and changes no file; with the same constants, training goes on."""
    optimizer, (_, schedule) = OPTIMIZERS["lambda"], SCHEDULES["lambda"]
    make(images(8)).supervise(**RUN, optimizer=optimizer(0.01), lr_scheduler=schedule(8))
    before = {path: path.read_bytes() for path in sorted(Path("run.ckpt").rglob("*")) if path.is_file()}
    more = {**RUN, "epochs": 2, "resume": True}
    for values, message in (((0.5, 8), r"weight_decay.* 0\.5 .* 0\.01 "), ((0.01, 16), "T_max.* 16 .* 8 ")):
        with pytest.raises(CheckpointMismatch, match=message):
            make(images(8)).supervise(**more, optimizer=optimizer(values[0]), lr_scheduler=schedule(values[1]))
    assert {path: path.read_bytes() for path in sorted(Path("run.ckpt").rglob("*")) if path.is_file()} == before
    resumed = make(images(8)).supervise(**more, optimizer=optimizer(0.01), lr_scheduler=schedule(8))
    assert resumed.train_state.epoch == 2


class Shifted(nn.Module):
    """A criterion whose constant is a buffer."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.register_buffer("shift", torch.full((), shift))

    def forward(self, *given: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(*given) + self.shift


CRITERIA: dict[str, Callable[[float], Any]] = {
    "closure": lambda value: lambda *given: nn.functional.cross_entropy(*given, label_smoothing=value),
    "partial": lambda value: functools.partial(nn.functional.cross_entropy, label_smoothing=value),
    "module": lambda value: nn.CrossEntropyLoss(label_smoothing=value),
    "buffer": Shifted,
}


@pytest.mark.parametrize("form", CRITERIA)
def test_constants_of_criteria(form: str) -> None:
    made = [{"loss": constants_of(CRITERIA[form](value))} for value in (0.1, 0.1, 0.2)]
    assert differences(made[1], made[0]) == []
    (difference,) = differences(made[2], made[0])
    assert re.search(r"`loss` is \[?0\.2.* and \[?0\.1", difference)


def test_another_constant_of_a_criterion_is_refused(images: Any) -> None:
    def make(value: float) -> RotateNetSupervisor:
        return RotateNetSupervisor(images(8), backbone="small_resnet", loss=CRITERIA["closure"](value))

    make(0.1).supervise(**RUN)
    with pytest.raises(CheckpointMismatch, match=r"value of `loss` is 0\.2 here and 0\.1 in the checkpoint"):
        make(0.2).supervise(**{**RUN, "epochs": 2, "resume": True})
    assert make(0.1).supervise(**{**RUN, "epochs": 2, "resume": True}).train_state.epoch == 2


class Noise:
    """A transform without a repr that shows its settings."""

    def __init__(self, level: float) -> None:
        self._level = level

    def __call__(self, image: Any) -> Any:
        return image


@pytest.mark.parametrize(
    "form",
    [
        lambda value: lambda image: image * value,
        lambda value: functools.partial(lambda image, level: image * level, level=value),
        Noise,
        lambda value: [Noise(value), Noise(0.0)],
        lambda value: Noise(value).__call__,
        lambda value: torch.nn.Sequential(nn.Dropout(value)),
        lambda value: eval(f"lambda image: image * {value}"),
        lambda value: {"strength": (value, None)},
    ],
)
def test_constants_of_transforms(form: Callable[[float], Any]) -> None:
    assert constants_of(form(0.1)) == constants_of(form(0.1))
    (difference,) = differences({"views": constants_of(form(0.2))}, {"views": constants_of(form(0.1))})
    assert "0.2" in difference
    assert "0.1" in difference
    json.dumps(constants_of(form(0.1)))


def test_global_variables_and_code_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(image: float) -> float:
        return image * GLOBAL

    before = {"views": constants_of(scaled)}
    monkeypatch.setitem(globals(), "GLOBAL", 0.75)
    assert differences({"views": constants_of(scaled)}, before) == [
        "GLOBAL of `views` is 0.75 here and 0.25 in the checkpoint"
    ]
    one, other = ({"views": constants_of(eval(code))} for code in ("lambda x: x + 1.5", "lambda x: x - 1.5"))
    assert len(differences(one, other)) == 1
    assert differences(one, other, same_python=False) == [], "bytecode depends on the version of Python"


def test_what_changes_during_training_is_no_constant(make: Any, images: Any) -> None:
    class Counted(AdamW):
        calls = 0

        def step(self, closure: Any = None) -> Any:
            self.calls += 1
            return super().step(closure)

    run = {**RUN, "optimizer": Counted, "lr_scheduler": lambda made: StepLR(made, 1, gamma=0.5)}
    make(images(8)).supervise(**run)
    assert make(images(8)).supervise(**{**run, "epochs": 2, "resume": True}).train_state.epoch == 2


def test_a_checkpoint_without_constants_is_resumed(make: Any, images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from super_selfish.engine.checkpointer import Checkpointer

    parts = Checkpointer.parts
    monkeypatch.setattr(
        Checkpointer,
        "parts",
        lambda self: {**(found := parts(self)), "run": {k: v for k, v in found["run"].items() if k != "constants"}},
    )
    make(images(8)).supervise(**RUN)
    assert make(images(8)).supervise(**{**RUN, "epochs": 2, "resume": True}).train_state.epoch == 2
