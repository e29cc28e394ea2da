"""The result of a study: outcome, table and JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from super_selfish.engine.callbacks.progress import duration
from super_selfish.studies.cohort import ALL
from super_selfish.studies.curves import Curves
from super_selfish.studies.plan import LEAST_UPDATES, StudyPlan
from super_selfish.studies.records import ADAPTED, PRETRAINED, PUBLISHED, SHOWN, TRAINED, TUNED, UNTRAINED, StudyRow
from super_selfish.studies.statistics import Estimate, equivalent_labels

Outcome = Literal[
    "helped", "no difference shown", "harmed", "too short to judge", "published weights suffice", "failed"
]


@dataclass
class Study:
    """Result of :func:`super_selfish.study`. ``print`` shows the table and the verdict.

    Attributes:
        outcome: ``"helped"``, ``"no difference shown"``, ``"harmed"``, ``"too short to judge"`` in place of these two
            if pretraining made fewer than 300 updates, ``"published weights suffice"``, or ``"failed"`` if no
            pretraining was completed.
        algorithm: Name of the algorithm.
        trained: The arm with pretraining that the verdict is about: the better one of ``"pretrained"`` and
            ``"adapted"``; None if both failed.
        gain: Mean accuracy of its linear probes over all numbers of labels, minus that of the untrained network.
        versus_published: The same, minus that of the published weights as they are; None without them.
        labels: Mean number of training labels per class, by the nominal number; 0: all.
        equivalent: Number of labels per class that the untrained network needs for the accuracy of the pretrained one,
            by number of labels per class; infinite: more than all.
        left_out: Number of images that stayed out of pretraining, by reason.
        rows: All runs.
        curves: Scores of the arms.
        plan: What was planned.
        images: Number of images for pretraining.
        test: Number of test images.
        device: Device of the trainings.
        notes: What was left out or reduced.
        seconds: Time used, in seconds.
        budget: The budget in seconds.
        verdict: Sentences.
        files: Paths of the written files.
    """

    outcome: Outcome
    algorithm: str
    trained: str | None
    gain: Estimate | None
    versus_published: Estimate | None
    labels: dict[int, float]
    equivalent: dict[int, float]
    left_out: dict[str, int]
    rows: list[StudyRow]
    curves: Curves
    plan: StudyPlan
    images: int
    test: int
    device: str
    notes: list[str]
    seconds: float
    budget: float
    verdict: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def is_shown_to_help(self) -> bool:
        """Whether pretraining is shown to be better than no training, and published weights do not suffice."""
        return self.outcome == "helped"

    @property
    def updates(self) -> tuple[int, int]:
        """Smallest and largest number of updates of the pretrainings that the verdict is about."""
        made = [row.updates for row in self.rows if row.arm == self.trained] or [0]
        return min(made), max(made)

    @property
    def is_too_short(self) -> bool:
        """Whether a pretraining made too few updates to judge it."""
        return self.updates[0] < LEAST_UPDATES

    @property
    def gain_is_shown(self) -> bool:
        """Whether the interval of the gain excludes 0; otherwise, label equivalence is a matter of chance."""
        return self.gain is not None and not self.gain.difference.low <= 0 <= self.gain.difference.high

    @property
    def hours(self) -> dict[str, float]:
        """Hours of pretraining of an arm, all seeds together, by arm."""
        return {
            arm: sum(row.pretraining for row in self.rows if row.arm == arm) / 3600
            for arm in TRAINED
            if any(row.arm == arm for row in self.rows)
        }

    @classmethod
    def of(cls, curves: Curves, labels: dict[int, float], **facts: Any) -> Study:
        """Decide from the runs.

        Args:
            curves: The scores.
            labels: Mean number of labels per class of each draw.
            **facts: The other attributes.
        """
        arms = curves.arms()
        trained = max((arm for arm in arms if arm in TRAINED), key=curves.mean, default=None)
        found = cls("failed", facts.pop("algorithm"), trained, None, None, labels, {}, curves=curves, **facts)
        if trained is None or UNTRAINED not in arms:
            return found
        found.gain = curves.difference(trained, UNTRAINED)
        published = None
        if PUBLISHED in arms:
            found.versus_published = curves.difference(trained, PUBLISHED)
            published = curves.difference(PUBLISHED, UNTRAINED)
        found.outcome = outcome(found.gain, found.versus_published, published)
        if found.outcome in ("harmed", "no difference shown") and found.is_too_short:
            found.outcome = "too short to judge"
        places = [labels[count] for count in curves.counts]
        untrained = [float(curves.correct(UNTRAINED, count).mean()) for count in curves.counts]
        for count in curves.counts:
            value = float(curves.correct(trained, count).mean())
            found.equivalent[count] = equivalent_labels(value, places, untrained)
        return found

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of the table: linear probes of each arm, their difference to untrained, then fine-tuning."""
        counts = self.curves.counts
        head = ["", *(self.shown(count) for count in counts), "mean", "hours"]
        body = []
        for arm in self.curves.arms():
            cells = [accuracy(self.curves.accuracy(arm, count)) for count in counts]
            hours = f"{self.hours[arm]:.2f}" if arm in self.hours else "0"
            body.append([SHOWN[arm], *cells, f"{100 * self.curves.mean(arm):.1f} %", hours])
        if self.trained is not None and self.gain is not None:
            cells = [gain(self.curves.difference(self.trained, UNTRAINED, [count])) for count in counts]
            body.append([f"{self.trained} − untrained", *cells, gain(self.gain), ""])
            if self.gain_is_shown:
                cells = [equivalence(self.equivalent[count]) for count in counts]
                body.append(["untrained needs", *cells, "", ""])
        for arm in self.curves.arms(TUNED):
            cells = [
                accuracy(self.curves.accuracy(arm, count, TUNED)) if count in self.curves.tuned else ""
                for count in counts
            ]
            body.append([tuned_name(arm), *cells, "", ""])
        return head, body

    def shown(self, count: int) -> str:
        """Head of the column of a number of labels per class."""
        return f"all ({self.labels[ALL]:.0f}) labels" if count == ALL else f"{count} label{'s' if count > 1 else ''}"

    def as_dict(self) -> dict[str, Any]:
        """The result without the results of single images, as JSON."""
        curves, found = self.curves, {}
        for method, counts in (("linear_probe", curves.counts), ("fine_tuning", curves.tuned)):
            key = "probe" if method == "linear_probe" else TUNED
            found[method] = {
                arm: {str(count): as_json(curves.accuracy(arm, count, key)) for count in counts}
                for arm in curves.arms(key)
            }
        rows = [vars(row) | {"probe": len(row.probe), "tuned": len(row.tuned)} for row in self.rows]
        simple = ("outcome", "algorithm", "trained", "left_out", "images", "test", "device", "notes", "seconds")
        return {
            **{name: getattr(self, name) for name in (*simple, "budget", "verdict", "hours", "is_shown_to_help")},
            **found,
            "gain": None if self.gain is None else as_json(self.gain),
            "versus_published": None if self.versus_published is None else as_json(self.versus_published),
            "labels_a_class": {str(count): value for count, value in self.labels.items()},
            "equivalent_labels": {
                str(count): None if math.isinf(value) else value for count, value in self.equivalent.items()
            },
            "plan": dataclasses.asdict(self.plan),
            "rows": rows,
            "files": [str(path) for path in self.files],
        }

    def to_json(self) -> str:
        """The result as text."""
        return json.dumps(self.as_dict(), indent=1) + "\n"

    def __str__(self) -> str:
        head, body = self.table()
        widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *body]]
        used = f"{duration(self.seconds)} of {duration(self.budget)} used."
        table = [line.rstrip() for line in lines]
        return "\n".join([*table, "", *self.conditions(), used, "", *self.verdict])

    def conditions(self) -> list[str]:
        """Sentences: protocol, what was left out, and what went wrong."""
        out = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items() if count)
        failed = [f"{SHOWN[row.arm]}, seed {row.seed}: {row.problem}." for row in self.rows if row.problem is not None]
        return [
            "Accuracy with the 95 % interval by labels per class: linear probes on frozen features, unless fine-tuned; "
            f"{self.test:,} test images.",
            f"{self.images:,} images for pretraining. Left out: {out or 'none'}."
            if self.left_out
            else f"{self.images:,} images for pretraining. Test images were not left out.",
            *failed,
            *self.notes,
        ]


def outcome(gain: Estimate, versus_published: Estimate | None, published: Estimate | None) -> Outcome:
    """The outcome from differences of linear probes.

    Args:
        gain: Of the arm with pretraining to the untrained network.
        versus_published: Of the arm with pretraining to published weights as they are; None: there are none.
        published: Of published weights to the untrained network.
    """
    if versus_published is not None and published is not None:
        suffices = published.difference.low > 0 and versus_published.difference.low <= 0
        if suffices:
            return "published weights suffice"
    if gain.difference.low > 0:
        return "helped"
    return "harmed" if gain.difference.high < 0 else "no difference shown"


def tuned_name(arm: str) -> str:
    """Name of a fine-tuned arm: that of the untrained network is training from scratch."""
    names = {UNTRAINED: "supervised from scratch", PUBLISHED: "published weights, fine-tuned"}
    return names.get(arm) or {PRETRAINED: "pretrained, fine-tuned", ADAPTED: "adapted, fine-tuned"}[arm]


def accuracy(found: Estimate) -> str:
    """An accuracy with half the width of its interval, in percent."""
    value, low, high = found.difference
    return f"{100 * value:.1f} ± {50 * (high - low):.1f} %"


def gain(found: Estimate) -> str:
    """A difference with its interval, in percentage points."""
    value, low, high = (100 * part for part in found.difference)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def equivalence(labels: float) -> str:
    """A number of labels per class as text.

    Examples:
        >>> equivalence(62.3), equivalence(1.44), equivalence(float("inf")), equivalence(0)
        ('62', '1.4', 'more than all', 'less than the fewest')
    """
    if math.isinf(labels):
        return "more than all"
    if not labels:
        return "less than the fewest"
    return f"{labels:.0f}" if labels >= 10 else f"{labels:.2g}"


def as_json(found: Estimate) -> dict[str, float]:
    """Value and interval."""
    return dict(zip(("value", "low", "high"), found.difference, strict=True))
