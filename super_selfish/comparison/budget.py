"""The time budget of a comparison: parsing, clock, and the plan that divides it into equal shares."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from super_selfish.datasets.preprocessed import MINIMUM_SIDE
from super_selfish.engine.callbacks.progress import duration
from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import Supervisor

FINALISTS = 4
FINAL_LENGTH = 3.5
"""Length of a training of stage 2 in shares; a share is the length of a training of stage 1."""
LEAST_UPDATES = 100
"""Number of updates below which a training is too short to judge an algorithm."""
TIMED_STEPS = 6
"""Number of updates by which the speed of an algorithm is measured."""
TWO_SEEDS = 3600.0
"""Budget in seconds from which finalists are trained with two seeds."""

MOST_TIMING = 0.15
"""Fraction of the time of a run that measuring the speed may take."""
SLACK = 1.1
"""Factor by which runs may take longer than measured, as speeds differ between runs."""

_LEAST_BUDGET = 10.0
_RESERVE = 0.04  # fraction of the budget for the statistics and the page
_UNITS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

Algorithms = Mapping[str, type[Supervisor]]


def budget_seconds(budget: object) -> float:
    """A budget in seconds.

    Args:
        budget: A number of seconds, or text with a unit.

    Raises:
        ConfigurationError: If it is not a duration of at least 10 s.

    Examples:
        >>> budget_seconds("30min"), budget_seconds("1.5h"), budget_seconds(90)
        (1800.0, 5400.0, 90.0)
    """
    seconds = math.nan
    if isinstance(budget, int | float) and not isinstance(budget, bool):
        seconds = float(budget)
    elif isinstance(budget, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", budget.lower())
        if found and (found[2] in _UNITS or not found[2]):
            seconds = float(found[1]) * _UNITS.get(found[2], 1.0)
    if not _LEAST_BUDGET <= seconds < math.inf:
        raise ConfigurationError(
            "`budget` is not a duration of at least 10 s.",
            expected='a number of seconds, or text such as "30min", "2h" or "90s"',
            received=f"budget={budget!r}",
        )
    return seconds


class Budget:
    """Clock of a comparison.

    Args:
        seconds: The budget.
        used: Seconds that earlier calls used.
        now: Function that returns the time in seconds.
    """

    def __init__(self, seconds: float, used: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.now = seconds, now
        self._begin = now() - used

    @property
    def used(self) -> float:
        """Seconds used so far."""
        return self.now() - self._begin

    @property
    def left(self) -> float:
        """Seconds left for trainings."""
        return self.seconds * (1 - _RESERVE) - self.used


@dataclass(frozen=True)
class Plan:
    """How the budget is divided.

    Attributes:
        side: Side of the images in px.
        algorithms: Names of the algorithms of stage 1, in order of training.
        share: Length of a training of stage 1 in seconds.
        seeds: Number of seeds of stage 2; 0: there is no stage 2.
        updates: Expected number of updates in stage 1 by algorithm.
        notes: What was reduced to fit the budget.
        left_out: Expected number of updates of the algorithms that were left out, by name.
        enough: Estimated budget in seconds in which every training makes enough updates; 0: this one does.
    """

    side: int
    algorithms: tuple[str, ...]
    share: float
    seeds: int
    updates: Mapping[str, int]
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    enough: float = 0.0

    @property
    def finalists(self) -> int:
        """Number of algorithms of stage 2."""
        return min(FINALISTS, len(self.algorithms)) if self.seeds else 0

    def forecast(self, seconds: float) -> str:
        """What will be trained, and how long."""
        low, high = min(self.updates.values()), max(self.updates.values())
        text = (
            f"Comparison of {len(self.algorithms)} algorithms within {duration(seconds)}, at {self.side} px. "
            f"Stage 1: {duration(self.share)} for each algorithm, about {low:,} to {high:,} updates. "
        )
        if self.enough:
            text += (
                f"Fewer than {LEAST_UPDATES} updates are too few to judge an algorithm: a budget of about "
                f"{duration(self.enough)} would be enough. "
            )
        if not self.seeds:
            return f"{text}No stage 2, as it needs labels."
        runs = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        return f"{text}Stage 2: {self.finalists} finalists, {runs}, {duration(FINAL_LENGTH * self.share)} each."


def make_plan(
    algorithms: Algorithms,
    seconds: float,
    left: float,
    side: int,
    step_seconds: Callable[[int], float],
    *,
    is_labelled: bool,
    may_shrink: bool,
    evaluation: float = 0.0,
    references: int = 0,
) -> Plan:
    """Divide the time that is left. Where trainings of stage 1 would be too short, reduce what is trained.

    First the resolution is halved while most algorithms would make fewer than :data:`LEAST_UPDATES` updates, then the
    slowest algorithms are dropped. Four algorithms of two families stay, the recommended first choices among them.

    Args:
        algorithms: Applicable algorithms by name.
        seconds: The budget in seconds.
        left: Seconds left of it.
        side: Side of the images in px.
        step_seconds: Function from a side to the seconds of an update of an algorithm with a relative cost of 1.
        is_labelled: Whether there are labels, so that there is a stage 2.
        may_shrink: Whether the resolution may be lowered.
        evaluation: Duration of an evaluation in updates of an algorithm with a relative cost of 1.
        references: Number of references, each of which takes an evaluation.
    """
    names = sorted(algorithms, key=lambda name: (not algorithms[name].first_choice, cost(algorithms[name]), name))
    seeds = (2 if seconds >= TWO_SEEDS else 1) if is_labelled else 0
    notes: list[str] = []
    left_out: dict[str, int] = {}
    unit = step_seconds(side)

    def updates() -> dict[str, int]:
        share = (left - references * evaluation * unit) / shares(len(names), seeds)
        return {name: updates_within(share, unit * cost(algorithms[name]), evaluation * unit) for name in names}

    while may_shrink and side > MINIMUM_SIDE and statistics.median(updates().values()) < LEAST_UPDATES:
        side = max(MINIMUM_SIDE, side // 2)
        unit = step_seconds(side)
        notes.append(f"Resolution lowered to {side} px, for more updates within the budget.")
    while (slowest := _droppable(names, algorithms)) is not None and updates()[slowest] < LEAST_UPDATES:
        left_out[slowest] = updates()[slowest]
        names.remove(slowest)
    found, enough = updates(), 0.0
    if min(found.values()) < LEAST_UPDATES:
        run = run_seconds(unit * max(cost(algorithms[name]) for name in names), evaluation * unit)
        before = seconds - left + references * evaluation * unit
        enough = sufficient_budget(run, kept(algorithms, names), before, is_labelled=is_labelled)
        if left_out:
            notes.append(kept_anyway(names, algorithms))
    share = left / shares(len(names), seeds)
    return Plan(side, tuple(names), share, seeds, found, tuple(notes), left_out, enough)


def run_seconds(step: float, evaluation: float) -> float:
    """Seconds of a run of stage 1 that makes enough updates, with measuring its speed and its evaluation.

    Args:
        step: Seconds per update.
        evaluation: Seconds of the evaluation.

    Examples:
        >>> round(run_seconds(1.0, 10.0)), updates_within(run_seconds(1.0, 10.0), 1.0, 10.0)
        (128, 100)
    """
    return SLACK * ((LEAST_UPDATES + TIMED_STEPS) * step + evaluation)


def updates_within(share: float, step: float, evaluation: float) -> int:
    """Number of updates of a run that takes ``share`` seconds, the inverse of :func:`run_seconds`."""
    rest = max(0.0, share / SLACK - evaluation)
    return int((rest - min(TIMED_STEPS * step, MOST_TIMING * rest)) / step + 1e-6)


def kept_anyway(names: Collection[str], algorithms: Algorithms) -> str:
    """Why algorithms are trained although they make few updates, too."""
    first = [name for name in names if algorithms[name].first_choice]
    others = [name for name in names if not algorithms[name].first_choice]
    which = " and ".join(part for part in (f"the first choices ({', '.join(first)})", ", ".join(others)) if part)
    return (
        f"{FINALISTS} algorithms of two families are trained in any case, even if they make fewer than {LEAST_UPDATES} "
        f"updates: {which}, the fastest of the others."
    )


def kept(algorithms: Algorithms, names: Collection[str]) -> int:
    """Number of algorithms that are trained if the budget is enough for some of them: all that are as fast."""
    slowest = max(cost(algorithms[name]) for name in names)
    return sum(cost(each) <= slowest for each in algorithms.values())


def sufficient_budget(run: float, algorithms: int, before: float, *, is_labelled: bool) -> float:
    """Budget in seconds for trainings of stage 1 that take ``run`` seconds, rounded up.

    Args:
        run: Seconds of a training of stage 1.
        algorithms: Number of algorithms of stage 1.
        before: Seconds that are used before the first training.
        is_labelled: Whether there is a stage 2.

    Examples:
        >>> sufficient_budget(60.0, 4, 20.0, is_labelled=False), sufficient_budget(60.0, 4, 20.0, is_labelled=True)
        (300.0, 1200.0)
    """
    found = 0.0
    for seeds in (1, 2) if is_labelled else (0,):
        found = (before + shares(algorithms, seeds) * run) / (1 - _RESERVE)
        if found < TWO_SEEDS:
            break
    unit = 30.0 if found < 600 else 60.0 if found < TWO_SEEDS else 600.0 if found < 6 * 3600 else 3600.0
    return max(_LEAST_BUDGET, unit * math.ceil(found / unit))


def shares(algorithms: int, seeds: int) -> float:
    """Number of shares of both stages.

    Examples:
        >>> shares(13, 2), shares(13, 0)
        (41.0, 13.0)
    """
    return algorithms + min(FINALISTS, algorithms) * seeds * FINAL_LENGTH


def cost(algorithm: type[Supervisor]) -> float:
    """Relative training time; that of a medium algorithm if it was not measured."""
    return 2.0 if algorithm.relative_cost is None else algorithm.relative_cost


def _droppable(names: list[str], algorithms: Algorithms) -> str | None:
    """The slowest algorithm that may be left out: no first choice, and two families stay."""
    if len(names) <= FINALISTS:
        return None
    for name in sorted(names, key=lambda each: -cost(algorithms[each])):
        families = {algorithms[other].family for other in names if other != name}
        if not algorithms[name].first_choice and len(families) > 1:
            return name
    return None
