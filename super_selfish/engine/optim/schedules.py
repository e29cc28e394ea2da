"""Learning rates over the length of a run: warm-up, then one of four curves."""

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

CURVES = ("constant", "cosine", "steps", "exponential")
_SHARE = Rule(lambda share: is_number(share, 0, 1), "a share of the run, in [0, 1]")
_STEPS = Rule(lambda count: count is None or is_count(count, 0), "None, or a number of steps")
RULES = {
    **dict.fromkeys(("warm_up", "freeze", "begin", "end"), _SHARE),
    "most_epochs": Rule(lambda epochs: epochs == math.inf or is_number(epochs, 0, 1e9), "a number of epochs"),
    "factor": Rule(lambda factor: is_number(factor, 0, math.inf), "a number of at least 0"),
    "at": Rule(
        lambda places: isinstance(places, tuple | list) and all(is_number(place, 0, 1) for place in places),
        "shares of the run in [0, 1], such as (0.6, 0.8)",
    ),
    "total": _STEPS,
    "batches": _STEPS,
}


@dataclass(frozen=True)
class Schedule:
    """A factor of the learning rate, from the share of the run that is done; called with an optimizer.

    Groups of the optimizer that are marked ``{"frozen": True}`` have rate 0 in the first part of the run, and their
    warm-up after it.

    Attributes:
        curve: ``"constant"``, ``"cosine"``, ``"steps"`` or ``"exponential"``: what follows the warm-up.
        warm_up: Share of the run in which the rate rises from near 0, along a straight line.
        most_epochs: How long the warm-up is at most, and ``freeze`` as well, in epochs.
        at: Shares of the run after which the rate is multiplied by ``factor``, for ``"steps"``.
        factor: See ``at``.
        begin: Share of the run where the curve leaves 1, for ``"exponential"``.
        end: The last factor, for ``"cosine"`` and ``"exponential"``.
        freeze: Share of the run in which marked groups stay as they are.
        total: Steps of the schedule; None: those of the run that it is passed to.
        batches: Steps per epoch; None: as ``total``.

    Raises:
        ConfigurationError: If the curve is unknown, or the length is needed and not known.

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
    total: int | None = field(default=None, repr=False, compare=False)  # a run that continues may be longer
    batches: int | None = field(default=None, repr=False, compare=False)
    follows_run: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice("curve", self.curve, CURVES)
        check_arguments(RULES, vars(self))
        if self.curve == "exponential":
            check_argument(0 < self.end <= 1 and self.begin < 1, "end", self.end, "above 0, with `begin` below 1")

    def for_run(self, epochs: int, batches: int, interval: str) -> Schedule:
        """A copy with the length of a run, where none was given.

        Args:
            epochs: Of the whole run.
            batches: Steps of the optimizer per epoch.
            interval: When the schedule is stepped: every ``"step"`` or every ``"epoch"``.
        """
        copy = dataclasses.replace(self)
        if self.total is None or self.follows_run:
            object.__setattr__(copy, "follows_run", True)
            copy.set_length(epochs, batches, interval)
        return copy

    def set_length(self, epochs: int, batches: int, interval: str) -> None:
        """Take the length of a run; no effect on a schedule that was given its own.

        Args:
            epochs: See :meth:`for_run`.
            batches: See :meth:`for_run`.
            interval: See :meth:`for_run`.
        """
        if self.follows_run:
            per_epoch = batches if interval == "step" else 1
            object.__setattr__(self, "total", epochs * per_epoch)  # schedulers that were made of it follow too
            object.__setattr__(self, "batches", per_epoch)

    @property
    def steps(self) -> int:
        """Number of steps of the schedule.

        Raises:
            ConfigurationError: If it is not known.
        """
        if self.total is None:
            raise ConfigurationError(
                "The schedule has no length.",
                expected="a schedule that is passed to supervise(lr_scheduler=...), or one with a length",
                received=repr(self),
                fix="Pass total=epochs * batches, and batches, to use it elsewhere.",
            )
        return self.total

    @property
    def warm_up_steps(self) -> int:
        """Updates until the rate is reached."""
        return self._part(self.warm_up)

    @property
    def frozen_steps(self) -> int:
        """Updates that leave marked groups as they are."""
        return self._part(self.freeze)

    def _awaits_length(self, step: int) -> bool:
        """Whether ``_init_data_optimizer`` makes a scheduler, whose length is set before the first step."""
        return self.follows_run and self.total is None and step == 0

    def _part(self, share: float) -> int:
        if not share:
            return 0
        epoch = 1 if self.batches is None else self.batches
        return round(min(share * self.steps, self.most_epochs * epoch))

    def at_step(self, step: int) -> float:
        """The factor for the update after ``step`` others."""
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
            return self.factor ** sum(done >= place for place in self.at)
        return float(self.end ** max(0.0, (done - self.begin) / (1 - self.begin)))

    def at_step_after_freeze(self, step: int) -> float:
        """The factor of marked groups for the update after ``step`` others."""
        if self._awaits_length(step):
            return 0.0
        thawed = step - self.frozen_steps
        return 0.0 if thawed < 0 else min(self.at_step(step), (thawed + 1) / (self.warm_up_steps + 1))

    def __call__(self, optimizer: torch.optim.Optimizer) -> LambdaLR:
        """The schedule of an optimizer; one that continues takes the length of the run from here."""
        schedule = self
        if self.total is None:  # a copy: its length is set later, and must not become that of other runs
            schedule = dataclasses.replace(self)
            object.__setattr__(schedule, "follows_run", True)
        chosen: list[Callable[[int], float]] = [
            functools.partial(Schedule.at_step_after_freeze if group.get("frozen") else Schedule.at_step, schedule)
            for group in optimizer.param_groups
        ]  # partial: LambdaLR stores the attributes of other objects, and with them their length
        return LambdaLR(optimizer, chosen)

    def go_to(self, share: float, scheduler: LambdaLR) -> None:
        """Let what :meth:`__call__` gave, and its optimizer, be as far as a share of the run, in [0, 1]."""
        scheduler.last_epoch = round(share * self.steps)
        refresh(scheduler)

    def shape(self) -> str:
        """The schedule in words, for runs of any length."""
        most = f", at most {self.most_epochs:g} epochs" if self.most_epochs < math.inf else ""
        warm = f"warm-up over {100 * self.warm_up:.0f} % of the run{most}, then " if self.warm_up else ""
        end, begin = (f"{100 * share:.0f} %" for share in (self.end, self.begin))
        curves = {
            "constant": "constant",
            "cosine": f"cosine to {self.end:g}",
            "steps": f"× {self.factor:g} at {', '.join(f'{100 * place:.0f} %' for place in self.at)} of the run",
            "exponential": f"falling exponentially to {end} from {begin} of the run on",
        }
        return warm + curves[self.curve]

    def describe(self) -> str:
        """The schedule in words, with the updates of this run."""
        warm = f"{self.warm_up_steps} updates of warm-up, " if self.warm_up_steps else ""
        curves = {
            "constant": "then constant" if warm else "constant",
            "cosine": f"cosine to {self.end:g} over {self.steps} updates",
            "steps": f"× {self.factor:g} at {', '.join(f'{place:.0%}' for place in self.at)} of {self.steps} updates",
            "exponential": f"constant, then falling to {self.end:.0%} from {self.begin:.0%} of {self.steps} updates",
        }
        held = f", weights of the backbone held still for {self.frozen_steps} updates" if self.frozen_steps else ""
        return f"{warm}{curves[self.curve]}{held}"


def fit_schedules(scheduler: Any, epochs: int, batches: int, interval: str) -> None:
    """Give the length of a run to those schedules of the library that follow it, and to their optimizers.

    Args:
        scheduler: What ``_init_data_optimizer`` returned: a scheduler, or several in a list, tuple or dictionary.
        epochs: See :meth:`Schedule.for_run`.
        batches: See :meth:`Schedule.for_run`.
        interval: See :meth:`Schedule.for_run`.
    """
    made = list(_lambda_schedulers(scheduler))
    before = [_lengths(each) for each in made]  # schedulers of two optimizers may share a schedule
    for schedule in (schedule for each in made for schedule in _schedules(each)):
        schedule.set_length(epochs, batches, interval)
    for each, length in zip(made, before, strict=True):
        if _lengths(each) != length:
            refresh(each)


def refresh_schedules(scheduler: Any) -> None:
    """As :func:`refresh`, of those schedules of the library that follow the run."""
    for each in _lambda_schedulers(scheduler):
        if any(schedule.follows_run for schedule in _schedules(each)):
            refresh(each)


def refresh(scheduler: LambdaLR) -> None:
    """Give the optimizer the rates of the step that its schedule has reached."""
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


SchedulerFactory = Callable[[torch.optim.Optimizer], Any]


def constant_lr(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """The default schedule: the learning rate stays as it is."""
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=100, gamma=1.0)
