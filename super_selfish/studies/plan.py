"""The plan of a study: how many seeds and draws, which fine-tunings, and how long pretraining takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from super_selfish.engine.callbacks.progress import duration
from super_selfish.errors import ConfigurationError
from super_selfish.studies.cohort import ALL
from super_selfish.studies.records import TRAINED, UNTRAINED

COUNTS = (1, 5, 20, 100)
"""Numbers of labels per class, besides all."""
DRAWS, SEEDS, TUNED_DRAWS = 5, 2, 2
LEAST_UPDATES = 300
"""Number of updates of pretraining below which one seed is trained, then the resolution lowered."""
LEAST_STEPS, MOST_STEPS = 100, 1000
"""Number of updates of a fine-tuning."""
RATES = (2e-4, 1e-3, 5e-3)
"""Learning rates of fine-tuning that are tried in each arm."""
VALIDATION = 0.2
"""Fraction of the training labels on which they are compared."""

_PROBE_SHARE = _TUNED_SHARE = 0.25  # fractions of the time for probes, and for fine-tuning
_FEW = 10  # updates of pretraining without which there is no study


@dataclass(frozen=True)
class Costs:
    """Measured durations in seconds.

    Attributes:
        update: An update of pretraining.
        extract: Features of all labelled images.
        probe: A linear probe by number of labels per class.
        step: An update of fine-tuning.
    """

    update: float
    extract: float
    probe: dict[int, float]
    step: float


@dataclass(frozen=True)
class StudyPlan:
    """How the budget is divided.

    Attributes:
        side: Side of the images in px.
        counts: Numbers of labels per class of the linear probe; 0: all.
        draws: Number of draws of the labels; all labels are drawn once.
        seeds: Number of pretraining seeds.
        pretraining: Length of a pretraining in seconds.
        updates: Expected number of updates of a pretraining.
        tuned: Numbers of labels per class of fine-tuning; empty: there is none.
        tuned_draws: Number of their draws.
        tuned_arms: Arms that are fine-tuned. That of the untrained network is training from scratch.
        steps: Number of updates of a fine-tuning.
        scoring: Expected duration of all scores of a network, in seconds, by arm, for its first seed.
        scoring_again: The same for its other seeds, which use the learning rates of the first.
        notes: What was left out.
    """

    side: int
    counts: tuple[int, ...]
    draws: int
    seeds: int
    pretraining: float
    updates: int
    tuned: tuple[int, ...]
    tuned_draws: int
    tuned_arms: tuple[str, ...]
    steps: int
    scoring: dict[str, float]
    scoring_again: dict[str, float]
    notes: tuple[str, ...] = ()

    def forecast(self, arms: Sequence[str], algorithm: str, seconds: float) -> str:
        """What will be trained, and how long."""
        runs = plural(self.seeds, "seed")
        lines = [
            f"Study of {algorithm} within {duration(seconds)}, at {self.side} px. "
            f"Pretraining: {duration(self.pretraining)} each, about {self.updates:,} updates, {runs} of "
            f"{' and '.join(arm for arm in arms if arm in TRAINED)}.",
            f"Linear probe: {shown_counts(self.counts)} labels per class, {plural(self.draws, 'draw')}.",
            f"Fine-tuning: {shown_counts(self.tuned)} labels per class, {plural(self.tuned_draws, 'draw')}, "
            f"{self.steps:,} updates each."
            if self.tuned
            else "No fine-tuning.",
        ]
        few = f"So few updates of pretraining (below {LEAST_UPDATES}) are too few to judge it. Pass a larger `budget`."
        return " ".join([*lines, *self.notes, *([few] if self.updates < LEAST_UPDATES else [])])


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    Examples:
        >>> plural(1, "draw"), plural(5, "draw")
        ('1 draw', '5 draws')
    """
    return f"{count} {noun}{'s' if count != 1 else ''}"


def shown_count(count: int) -> str:
    """A number of labels per class as text."""
    return "all" if count == ALL else str(count)


def shown_counts(counts: Sequence[int]) -> str:
    """Numbers of labels per class as text.

    Examples:
        >>> shown_counts([1, 5, 0])
        '1, 5 and all'
    """
    words = [shown_count(count) for count in counts]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def networks(arms: Sequence[str], seeds: int) -> int:
    """Number of networks: one of published weights, and one per seed of each other arm."""
    return sum(seeds if arm in (*TRAINED, UNTRAINED) else 1 for arm in arms)


def probe_seconds(costs: Costs, draws: int) -> float:
    """Expected duration of the probes of a network."""
    return costs.extract + sum(each * (1 if count == ALL else draws) for count, each in costs.probe.items())


def tuning_units(counts: Sequence[int], draws: int, *, is_first: bool) -> int:
    """Number of fine-tunings of a network, in full lengths, with the choice of the learning rate.

    Examples:
        >>> tuning_units([20, 0], 2, is_first=False), tuning_units([20, 0], 2, is_first=True)
        (3, 9)
    """
    trained = sum(1 if count == ALL else draws for count in counts)
    return trained + is_first * len(RATES) * len(counts)


def make_plan(
    costs: Costs, left: float, side: int, arms: Sequence[str], counts: Sequence[int], notes: Sequence[str] = ()
) -> StudyPlan:
    """Divide the time that is left.

    Up to a quarter is for probes and a quarter for fine-tuning, which are reduced until they fit; the rest is for
    pretraining, with one seed if two would be too short.

    Args:
        costs: Measured durations.
        left: Seconds that are left.
        side: Side of the images in px.
        arms: Names of the arms.
        counts: Numbers of labels per class.
        notes: What was reduced before.

    Raises:
        ConfigurationError: If the time does not suffice for a pretraining.
    """
    said, trainings = list(notes), sum(arm in TRAINED for arm in arms)
    for seeds in (SEEDS, 1):
        total = networks(arms, seeds)
        draws = next((n for n in range(DRAWS, 1, -1) if total * probe_seconds(costs, n) <= _PROBE_SHARE * left), 1)
        probes = probe_seconds(costs, draws)
        tuned, tuned_draws, tuned_arms, steps = fine_tuning(costs, _TUNED_SHARE * left, arms, seeds, counts)
        first, again = (
            {arm: probes + costs.step * steps * units * (arm in tuned_arms) for arm in arms}
            for units in (tuning_units(tuned, tuned_draws, is_first=is_first) for is_first in (True, False))
        )
        repeated = sum(again[arm] for arm in arms if arm in (*TRAINED, UNTRAINED))
        rest = left - sum(first.values()) - (seeds - 1) * repeated
        pretraining = rest / (seeds * trainings)
        updates = int(pretraining / costs.update)
        if updates >= LEAST_UPDATES:
            break
    if updates < _FEW:
        raise ConfigurationError(
            "`budget` is too short for these images.",
            expected=f"time for at least {_FEW} updates of pretraining",
            received=f"time for {max(0, updates)}",
            fix="Pass a larger `budget`, a smaller `resolution`, or a smaller `backbone`.",
        )
    said += left_out(seeds, draws, tuned, tuned_draws, tuned_arms, arms, counts)
    plain = (tuple(counts), draws, seeds, pretraining, updates, tuned, tuned_draws, tuned_arms, steps, first, again)
    return StudyPlan(side, *plain, tuple(said))


def fine_tuning(
    costs: Costs, seconds: float, arms: Sequence[str], seeds: int, counts: Sequence[int]
) -> tuple[tuple[int, ...], int, tuple[str, ...], int]:
    """The most fine-tunings that fit: numbers of labels, number of draws, arms, and number of updates of each."""
    two = (counts[min(len(counts) // 2, len(counts) - 2)], ALL) if len(counts) > 1 else (ALL,)  # such as 20 and all
    for wanted, draws, chosen in (
        (two, TUNED_DRAWS, tuple(arms)),
        (two, 1, tuple(arms)),
        ((ALL,), 1, tuple(arms)),
        ((ALL,), 1, (UNTRAINED,)),
    ):
        first = len(chosen) * tuning_units(wanted, draws, is_first=True)
        others = (networks(chosen, seeds) - len(chosen)) * tuning_units(wanted, draws, is_first=False)
        steps = int(seconds / ((first + others) * max(costs.step, 1e-9)))
        if steps >= LEAST_STEPS:
            return wanted, draws, chosen, min(steps, MOST_STEPS)
    return (), 0, (), 0


def left_out(
    seeds: int,
    draws: int,
    tuned: Sequence[int],
    tuned_draws: int,
    tuned_arms: Sequence[str],
    arms: Sequence[str],
    counts: Sequence[int],
) -> list[str]:
    """Sentences: what does not fit into the budget."""
    said = []
    if seeds < SEEDS:
        said.append(f"One pretraining seed instead of {SEEDS}: intervals do not cover the randomness of pretraining.")
    if draws < DRAWS:
        said.append(f"{plural(draws, 'draw')} of the labels instead of {DRAWS}.")
    if not tuned:
        said.append("Fine-tuning and training from scratch were left out.")
    elif len(tuned_arms) < len(arms):
        said.append("Fine-tuning was left out, except for training from scratch with all labels.")
    elif len(tuned) < min(2, len(counts)) or tuned_draws < TUNED_DRAWS:
        said.append(
            f"Fine-tuning with {shown_counts(tuned)} labels per class and {plural(tuned_draws, 'draw')} instead of two "
            f"numbers of labels and {TUNED_DRAWS} draws."
        )
    return said
