"""The runs of a study in their order: measurements, plan, then one network after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from super_selfish.comparison.budget import Budget
from super_selfish.comparison.records import RunLog
from super_selfish.datasets.preprocessed import MINIMUM_SIDE
from super_selfish.engine.callbacks.displays import print_line
from super_selfish.engine.callbacks.progress import duration
from super_selfish.errors import ConfigurationError
from super_selfish.studies.cohort import Cohort
from super_selfish.studies.lab import Lab
from super_selfish.studies.plan import COUNTS, LEAST_UPDATES, StudyPlan, make_plan
from super_selfish.studies.records import PROBE, SHOWN, TRAINED, UNTRAINED, StudyRow

_TIMING = 0.03  # fraction of the budget for a measurement of the speed
_LEAST_TIMING = 2.0  # seconds
_LEAST_PART = 0.3  # a further seed is left out if less than this fraction of its time is left
_LATE = 1.3  # factor of the planned duration of its scores after which a run begins no further one
_SLACK = 0.05  # fraction of the budget that they may take longer in any case


class StudyRuns:
    """The runs of a study, in order. Stored runs are not repeated.

    Args:
        log: The stored runs.
        budget: The clock.
        cohort: The images.
        lab: Makes and scores networks.
        arms: Names of the arms.
        seed: Random seed of the study.
        verbose: Print the forecast and a line per run to stderr.
    """

    def __init__(
        self,
        log: RunLog[StudyRow],
        budget: Budget,
        cohort: Cohort,
        lab: Lab,
        arms: Sequence[str],
        seed: int,
        verbose: bool,
    ) -> None:
        self.log, self.budget, self.cohort, self.lab = log, budget, cohort, lab
        self.arms, self.seed, self.verbose = list(arms), seed, verbose
        self.slowdown = 1.0
        self.notes: list[str] = []

    def run(self, algorithm: str, read: dict[str, int], *, may_shrink: bool) -> StudyPlan:
        """All runs.

        Args:
            algorithm: Name of the algorithm.
            read: Numbers of images that were read, which a resumed study reads again.
            may_shrink: Whether the resolution may be lowered.

        Returns:
            The plan.
        """
        if self.log.plan is None:
            self.log.set_plan(dataclasses.asdict(self.plan(may_shrink)) | read)
        plan = self.stored_plan()
        if plan.side < self.cohort.images.side:
            self.lab.shrink(plan.side)
        self.print(plan.forecast(self.arms, algorithm, self.budget.seconds))
        todo = [
            (arm, self.seed + number)
            for number in range(plan.seeds)
            for arm in self.arms
            if not number or arm in (*TRAINED, UNTRAINED)
        ]
        for place, (arm, seed) in enumerate(todo):
            if self.log.find(arm=arm, seed=seed) is None:
                self.one(arm, seed, todo[place:], plan)
        skipped = sum(row.skipped for row in self.log.rows)
        if skipped:
            self.notes.append(f"{skipped} planned scores were left out, as there was no time.")
        return plan

    def stored_plan(self) -> StudyPlan:
        """The plan in the file."""
        fields = {each.name for each in dataclasses.fields(StudyPlan)}
        stored = {key: value for key, value in (self.log.plan or {}).items() if key in fields}
        lists = {key: tuple(value) for key, value in stored.items() if isinstance(value, list)}
        return StudyPlan(**{**stored, **lists})

    def plan(self, may_shrink: bool) -> StudyPlan:
        """Measure speeds, and divide the budget."""
        limit, notes = max(_LEAST_TIMING, _TIMING * self.budget.seconds), []
        side = self.cohort.images.side
        update = self.lab.update_seconds(side, limit)
        trainings = sum(arm in TRAINED for arm in self.arms)
        while may_shrink and side > MINIMUM_SIDE and 0.5 * self.budget.left < update * LEAST_UPDATES * trainings:
            side = max(MINIMUM_SIDE, side // 2)
            update = self.lab.update_seconds(side, limit)
            notes.append(f"Resolution lowered to {side} px, for more updates within the budget.")
        if not np.isfinite(update):
            raise ConfigurationError(
                "`budget` is too short for these images.",
                expected="time for updates of pretraining",
                received=f"no update within {duration(limit)}",
                fix="Pass a larger `budget`, a smaller `resolution`, or a smaller `backbone`.",
            )
        if side < self.cohort.images.side:
            self.lab.shrink(side)
        counts = self.cohort.counts(COUNTS)
        costs = self.lab.costs(counts, update, limit)
        return make_plan(costs, self.budget.left, side, self.arms, counts, notes)

    def one(self, arm: str, seed: int, todo: Sequence[tuple[str, int]], plan: StudyPlan) -> None:
        """Make and score one network within its part of the time that is left.

        Args:
            arm: Name of the arm.
            seed: Random seed.
            todo: This run and all later ones.
            plan: The plan.
        """
        scoring = {each: self.scoring_seconds(*each, plan) * self.slowdown for each in todo}
        trainings = sum(each in TRAINED for each, _ in todo)
        seconds, least, left = 0.0, 0.0, self.budget.left
        if arm in TRAINED:
            least = _LEAST_PART * plan.pretraining
            seconds = min(plan.pretraining, (left - sum(scoring.values())) / trainings)
        if seed != self.seed and (seconds < least or left <= 0):
            self.notes.append(f"No time was left for {SHOWN[arm]}, seed {seed}.")
            return
        seconds = max(seconds, least)
        allowed = seconds + max(_LATE * scoring[arm, seed], scoring[arm, seed] + _SLACK * self.budget.seconds)
        end = self.budget.now() + min(allowed, max(0.0, left))
        first = self.log.find(arm=arm, seed=self.seed)
        row = self.lab.run(arm, seed, seconds, plan, {} if first is None else first.rates, end)
        spent = row.seconds - row.pretraining
        self.slowdown = max(self.slowdown, spent / max(1e-9, self.scoring_seconds(arm, seed, plan)))
        self.store(row, plan)

    def scoring_seconds(self, arm: str, seed: int, plan: StudyPlan) -> float:
        """Planned duration of the scores of a network."""
        return plan.scoring[arm] if seed == self.seed else plan.scoring_again[arm]

    def store(self, row: StudyRow, plan: StudyPlan) -> None:
        """Store a run, and print it."""
        row.used = self.budget.used
        self.log.add(row)
        scores = [
            np.mean([hits.mean() for hits in found.values()])
            for count in plan.counts
            if (found := row.hits(PROBE, count))
        ]
        shown = f"linear probe {100 * float(np.mean(scores)):.1f} % in the mean" if scores else ""
        trained = f" {row.updates:,} updates," if row.updates else ""
        left = duration(max(0.0, self.budget.seconds - self.budget.used))
        result = "; ".join(part for part in (shown, row.problem) if part)
        self.print(f"{SHOWN[row.arm]}, seed {row.seed}:{trained} {duration(row.seconds)}: {result} ({left} left)")

    def print(self, text: str) -> None:
        """Print a line to stderr."""
        if self.verbose:
            print_line(text)


def sizes(images: Any) -> dict[str, int]:
    """Numbers of images that were read."""
    return {"images": len(images.train), "labelled": len(images.labels)}
