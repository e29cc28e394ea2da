"""Learning rate schedules over the length of a run: warm-up, then one of four curves."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from super_selfish.errors import (
    ConfigurationError,
    Rule,
    check_argument,
    check_arguments,
    check_choice,
    is_count,
    is_number,
)

SchedulerFactory = Callable[[torch.optim.Optimizer], Any]
CURVES = ("constant", "cosine", "steps", "exponential")
_FRACTION = Rule(lambda fraction: is_number(fraction, 0, 1), "a fraction of the run, in [0, 1]")
_STEPS = Rule(lambda count: count is None or is_count(count, 0), "None, or a number of steps")
RULES = {
    **dict.fromkeys(("warm_up", "freeze", "begin", "end"), _FRACTION),
    "most_epochs": Rule(lambda epochs: epochs == math.inf or is_number(epochs, 0, 1e9), "a number of epochs"),
    "factor": Rule(lambda factor: is_number(factor, 0, math.inf), "a number of at least 0"),
    "at": Rule(
        lambda milestones: isinstance(milestones, tuple | list) and all(is_number(each, 0, 1) for each in milestones),
        "fractions of the run in [0, 1], such as (0.6, 0.8)",
    ),
    "total": _STEPS,
    "batches": _STEPS,
}


@dataclass(frozen=True)
class Schedule:
    """Learning rate schedule, defined by fractions of the run. Call it with an optimizer to get a scheduler.

    Parameter groups with ``{"frozen": True}`` have learning rate 0 in the first part of the run, and warm up after it.

    Attributes:
        curve: Curve after the warm-up: ``"constant"``, ``"cosine"``, ``"steps"`` or ``"exponential"``.
        warm_up: Fraction of the run in which the learning rate increases linearly from near 0.
        most_epochs: Largest duration of the warm-up, and of ``freeze``, in epochs.
        at: Milestones of ``"steps"`` as fractions of the run. At each, the learning rate is multiplied by ``factor``.
        factor: Multiplicative factor of ``"steps"``.
        begin: Fraction of the run after which the ``"exponential"`` decay starts.
        end: Final factor of ``"cosine"`` and ``"exponential"``.
        freeze: Fraction of the run in which frozen groups are not updated.
        total: Number of steps of the schedule; None: the length of the run that it is passed to.
        batches: Number of steps per epoch; None: ``total``.

    Raises:
        ConfigurationError: If an argument is out of range, or the length is needed and not known.

    Examples:
        >>> halves = Schedule("steps", at=(0.5,), factor=0.5, total=4, batches=2)
        >>> [halves.at_step(step) for step in range(4)]
        [1.0, 1.0, 0.5, 0.5]
    """

    curve: str = "constant"
    warm_up: float = 0.0
    most_epochs: float = math.inf
    at: tuple[float, ...] = ()
    factor: float = 0.1
    begin: float = 0.0
    end: float = 0.0
    freeze: float = 0.0
    total: int | None = field(default=None, repr=False, compare=False)  # a resumed run may be longer
    batches: int | None = field(default=None, repr=False, compare=False)
    follows_run: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice("curve", self.curve, CURVES)
        check_arguments(RULES, vars(self))
        if self.curve == "exponential":
            check_argument(0 < self.end <= 1 and self.begin < 1, "end", self.end, "above 0, with `begin` below 1")

    def for_run(self, epochs: int, batches: int, interval: str) -> Schedule:
        """A copy with the length of a run, unless the schedule has its own length.

        Args:
            epochs: Number of epochs of the run.
            batches: Number of optimizer steps per epoch.
            interval: When the scheduler is stepped: every ``"step"`` or every ``"epoch"``.
        """
        copy = dataclasses.replace(self)
        if self.total is None or self.follows_run:
            object.__setattr__(copy, "follows_run", True)
            copy.set_length(epochs, batches, interval)
        return copy

    def set_length(self, epochs: int, batches: int, interval: str) -> None:
        """Set the length of a run; no effect on a schedule with its own length.

        Args:
            epochs: See :meth:`for_run`.
            batches: See :meth:`for_run`.
            interval: See :meth:`for_run`.
        """
        if self.follows_run:
            per_epoch = batches if interval == "step" else 1
            object.__setattr__(self, "total", epochs * per_epoch)  # also updates schedulers created from it
            object.__setattr__(self, "batches", per_epoch)

    @property
    def steps(self) -> int:
        """Total number of steps.

        Raises:
            ConfigurationError: If it is not known.
        """
        if self.total is None:
            raise ConfigurationError(
                "The schedule has no length.",
                expected="a schedule that is passed to supervise(lr_scheduler=...), or one with `total` and `batches`",
                received=repr(self),
                fix="To use it elsewhere, pass total=epochs * batches and batches=...",
            )
        return self.total

    @property
    def warm_up_steps(self) -> int:
        """Number of warm-up steps."""
        return self._fraction_in_steps(self.warm_up)

    @property
    def frozen_steps(self) -> int:
        """Number of steps in which frozen groups are not updated."""
        return self._fraction_in_steps(self.freeze)

    def _awaits_length(self, step: int) -> bool:
        """Whether a scheduler is being created by ``_init_data_optimizer``; its length is set before the first step."""
        return self.follows_run and self.total is None and step == 0

    def _fraction_in_steps(self, fraction: float) -> int:
        if not fraction:
            return 0
        steps_per_epoch = 1 if self.batches is None else self.batches
        return round(min(fraction * self.steps, self.most_epochs * steps_per_epoch))

    def at_step(self, step: int) -> float:
        """Learning rate factor at a step, counted from 0."""
        if self._awaits_length(step):
            return 1.0
        warm = self.warm_up_steps
        if step < warm:
            return (step + 1) / (warm + 1)
        if self.curve == "constant":
            return 1.0
        done = min(1.0, (step - warm) / max(1, self.steps - warm))
        if self.curve == "cosine":
            return self.end + (1 - self.end) * (1 + math.cos(math.pi * done)) / 2
        if self.curve == "steps":
            return self.factor ** sum(done >= milestone for milestone in self.at)
        return float(self.end ** max(0.0, (done - self.begin) / (1 - self.begin)))

    def at_step_after_freeze(self, step: int) -> float:
        """Learning rate factor of frozen groups at a step, counted from 0."""
        if self._awaits_length(step):
            return 0.0
        thawed = step - self.frozen_steps
        return 0.0 if thawed < 0 else min(self.at_step(step), (thawed + 1) / (self.warm_up_steps + 1))

    def __call__(self, optimizer: torch.optim.Optimizer) -> LambdaLR:
        """Create the scheduler of an optimizer. A resumed scheduler takes the length of the run from this schedule."""
        schedule = self
        if self.total is None:  # a copy: its length is set later, and must not affect other runs
            schedule = dataclasses.replace(self)
            object.__setattr__(schedule, "follows_run", True)
        factors: list[Callable[[int], float]] = [
            functools.partial(Schedule.at_step_after_freeze if group.get("frozen") else Schedule.at_step, schedule)
            for group in optimizer.param_groups
        ]  # partial: LambdaLR would store the attributes of other callables, including their length
        return LambdaLR(optimizer, factors)

    def go_to(self, share: float, scheduler: LambdaLR) -> None:
        """Advance a scheduler of this schedule, and its optimizer, to a fraction ``share`` of the run, in [0, 1]."""
        scheduler.last_epoch = round(share * self.steps)
        refresh(scheduler)

    def shape(self) -> str:
        """Human-readable description, valid for any length of the run."""
        most = f", at most {self.most_epochs:g} epochs" if self.most_epochs < math.inf else ""
        warm = f"warm-up over {100 * self.warm_up:.0f} % of the run{most}, then " if self.warm_up else ""
        end, begin = (f"{100 * fraction:.0f} %" for fraction in (self.end, self.begin))
        milestones = ", ".join(f"{100 * milestone:.0f} %" for milestone in self.at)
        curves = {
            "constant": "constant",
            "cosine": f"cosine to {self.end:g}",
            "steps": f"× {self.factor:g} at {milestones} of the run",
            "exponential": f"falling exponentially to {end} from {begin} of the run on",
        }
        return warm + curves[self.curve]

    def describe(self) -> str:
        """Human-readable description, with the numbers of steps of this run."""
        warm = f"warm-up over {self.warm_up_steps} steps, then " if self.warm_up_steps else ""
        milestones = ", ".join(f"{milestone:.0%}" for milestone in self.at)
        decay = f"exponential decay to {self.end:.0%} from {self.begin:.0%} of {self.steps} steps"
        curves = {
            "constant": "constant",
            "cosine": f"cosine decay to {self.end:g} until step {self.steps}",
            "steps": f"× {self.factor:g} at {milestones} of {self.steps} steps",
            "exponential": f"constant, then {decay}",
        }
        frozen = f", backbone frozen for {self.frozen_steps} steps" if self.frozen_steps else ""
        return f"{warm}{curves[self.curve]}{frozen}"


def fit_schedules(scheduler: Any, epochs: int, batches: int, interval: str) -> None:
    """Set the length of a run for schedules without their own length, and update the optimizers' learning rates.

    Args:
        scheduler: Return value of ``_init_data_optimizer``: a scheduler, or schedulers in a list, tuple or dict.
        epochs: See :meth:`Schedule.for_run`.
        batches: See :meth:`Schedule.for_run`.
        interval: See :meth:`Schedule.for_run`.
    """
    schedulers = list(_lambda_schedulers(scheduler))
    before = [_lengths(each) for each in schedulers]  # schedulers of two optimizers may share a schedule
    for schedule in (schedule for each in schedulers for schedule in _schedules(each)):
        schedule.set_length(epochs, batches, interval)
    for each, length in zip(schedulers, before, strict=True):
        if _lengths(each) != length:
            refresh(each)


def refresh_schedules(scheduler: Any) -> None:
    """Apply :func:`refresh` to schedulers that take their length from the run."""
    for each in _lambda_schedulers(scheduler):
        if any(schedule.follows_run for schedule in _schedules(each)):
            refresh(each)


def refresh(scheduler: LambdaLR) -> None:
    """Set the optimizer's learning rates for the current step of its scheduler."""
    parts = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    for group, base, factor in parts:
        group["lr"] = base * factor(scheduler.last_epoch)


def _schedules(scheduler: LambdaLR) -> list[Schedule]:
    bound = [factor.args[0] for factor in scheduler.lr_lambdas if isinstance(factor, functools.partial) and factor.args]
    return [schedule for schedule in bound if isinstance(schedule, Schedule)]


def _lengths(scheduler: LambdaLR) -> list[tuple[int | None, int | None]]:
    return [(schedule.total, schedule.batches) for schedule in _schedules(scheduler)]


def _lambda_schedulers(scheduler: Any) -> Iterator[LambdaLR]:
    if isinstance(scheduler, LambdaLR):
        yield scheduler
    elif isinstance(scheduler, list | tuple | Mapping):
        for part in scheduler.values() if isinstance(scheduler, Mapping) else scheduler:
            yield from _lambda_schedulers(part)


def constant_lr(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """The default schedule: a constant learning rate."""
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=100, gamma=1.0)
