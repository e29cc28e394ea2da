"""A resumed run is that of the checkpoint: constants behind lambdas, closures, partials and objects are compared."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, SequentialLR, StepLR

from super_selfish.engine.optim.constants import constants_of, differences
from super_selfish.errors import CheckpointMismatch

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


def resumed(make: Callable[..., Any], images: Any, first: dict[str, Any], second: dict[str, Any]) -> Any:
    """Train one epoch, then resume with other arguments for a second one."""
    make(images(8)).supervise(**RUN, **first)
    return make(images(8)).supervise(**{**RUN, "epochs": 2}, **second, resume=True)


@pytest.mark.parametrize("form", OPTIMIZERS)
def test_another_constant_of_the_optimizer_is_refused(form: str, make: Any, images: Any) -> None:
    factory = OPTIMIZERS[form]
    with pytest.raises(CheckpointMismatch, match=r"weight_decay.*0\.5\b.*0\.01\b"):
        resumed(make, images, {"optimizer": factory(0.01)}, {"optimizer": factory(0.5)})
    run = {**RUN, "epochs": 2, "optimizer": factory(0.01), "resume": True}
    assert make(images(8)).supervise(**run).train_state.epoch == 2, "the same constant is no difference"


@pytest.mark.parametrize("form", SCHEDULES)
def test_another_constant_of_the_schedule_is_refused(form: str, make: Any, images: Any) -> None:
    name, factory = SCHEDULES[form]
    with pytest.raises(CheckpointMismatch, match=rf"{name}.* \[?16\]? here and \[?8\]? in the checkpoint|step_size=16"):
        resumed(make, images, {"lr_scheduler": factory(8)}, {"lr_scheduler": factory(16)})
    run = {**RUN, "epochs": 2, "lr_scheduler": factory(8), "resume": True}
    assert make(images(8)).supervise(**run).train_state.epoch == 2


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
def test_another_constant_of_the_criterion_is_refused(form: str, images: Any) -> None:
    from super_selfish.supervisors import RotateNetSupervisor

    def make(data: Any, value: float) -> RotateNetSupervisor:
        return RotateNetSupervisor(data, backbone="small_resnet", loss=CRITERIA[form](value))

    make(images(8), 0.1).supervise(**RUN)
    with pytest.raises(CheckpointMismatch, match=r"0\.2\d*.* and .*0\.1"):
        make(images(8), 0.2).supervise(**{**RUN, "epochs": 2, "resume": True})
    assert make(images(8), 0.1).supervise(**{**RUN, "epochs": 2, "resume": True}).train_state.epoch == 2


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
