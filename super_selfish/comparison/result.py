"""The result of a comparison: table, verdict and JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from super_selfish.comparison import decisions
from super_selfish.comparison.budget import Algorithms
from super_selfish.comparison.decisions import Standing
from super_selfish.comparison.records import REFERENCE, Row
from super_selfish.comparison.sufficiency import is_judged
from super_selfish.engine.callbacks.progress import duration
from super_selfish.evaluation.intervals import Difference
from super_selfish.evaluation.score import Integers

UNTRAINED = "untrained"


@dataclass
class Comparison:
    """Result of :func:`super_selfish.compare`. ``print`` shows the table and the verdict.

    Attributes:
        recommended: Name of the recommended algorithm; None: all were excluded, or the budget was too small. With
            labels, it is too small if no algorithm is better than the untrained network after so few updates; without
            labels, if no run shows that an algorithm is suitable.
        standings: Results of the algorithms of the last stage, best first; empty without labels.
        ties: Names of the algorithms that are not shown to differ from the best.
        candidates: Names of the algorithms that were not excluded.
        excluded: Algorithms that are not applicable or were dropped after stage 1: the reasons by name.
        versus_reference: Name of the best reference, and the accuracy of the recommended algorithm, or of the best one
            if none is recommended, minus that of the reference; None without labels.
        rows: All runs, with the references.
        labelled: Number of labelled images.
        notes: What was left out or reduced.
        conditions: Images, labels and groups, and the settings of all trainings, as sentences.
        seconds: Time used, in seconds.
        budget: The budget in seconds.
        files: Paths of the written files.
    """

    recommended: str | None
    standings: list[Standing]
    candidates: list[str]
    excluded: dict[str, str]
    versus_reference: tuple[str, Difference] | None
    rows: list[Row]
    labelled: int
    notes: list[str]
    seconds: float
    budget: float
    conditions: list[str] = field(default_factory=list)
    verdict: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def ties(self) -> list[str]:
        """Names of the algorithms that are not shown to differ from the best, best first."""
        return [each.name for each in self.standings if each.is_tied]

    @property
    def is_shown_to_help(self) -> bool:
        """Whether an algorithm is recommended and, with labels, its features are better than every reference."""
        if self.recommended is None:
            return False
        return self.versus_reference is None or self.versus_reference[1].low > 0

    @classmethod
    def of(
        cls,
        rows: list[Row],
        algorithms: Algorithms,
        groups: Integers,
        excluded: dict[str, str],
        **facts: Any,
    ) -> Comparison:
        """Decide from the runs.

        Args:
            rows: All runs.
            algorithms: The algorithms of stage 1 by name.
            groups: Group of each labelled image (images,); empty without labels.
            excluded: Algorithms that are not applicable, with the reason.
            **facts: ``notes``, ``conditions``, ``seconds`` and ``budget``.
        """
        first = [row for row in rows if row.stage == 1]
        untrained = next((row for row in rows if row.stage == REFERENCE and row.name == UNTRAINED), None)
        excluded = excluded | decisions.dropped(first, untrained, groups, algorithms)
        final = [row for row in rows if row.stage == 2]
        failed = decisions.unusable(final, untrained, groups)
        excluded |= {name: f"stage 2: {problem}" for name, problem in failed.items()}
        candidates = [row.name for row in first if row.name not in excluded]
        last = [row for row in final or first if row.name in candidates]
        found = decisions.standings(last, groups)
        chosen = decisions.recommended(found, algorithms)
        if not len(groups):
            chosen = decisions.rule(decisions.suitable(first, candidates), algorithms)
        result = cls(chosen, found, candidates, excluded, None, rows, len(groups), **facts)
        if chosen is not None and found:
            if not decisions.is_shown(last, chosen, untrained, groups):
                chosen, result.recommended = found[0].name, None
            result.versus_reference = best_reference(rows, [row for row in last if row.name == chosen], groups)
        return result

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of the table: the algorithms, best first, then the references."""
        if self.labelled:
            return scored_table(self)
        head = ["name", "updates", "effective rank", "pretext task on held-out images"]
        trained = [row for row in self.rows if row.stage == 1]
        body = [[row.name, f"{row.updates:,}", rank(row), row.pretext or (row.problem or "")] for row in trained]
        references = [row for row in self.rows if row.stage == REFERENCE]
        return head, [*body, *([f"reference: {row.name}", "–", rank(row), "–"] for row in references)]

    def as_dict(self) -> dict[str, Any]:
        """The result without the results of single images, as JSON."""
        found = dataclasses.asdict(self)
        found["rows"] = [row | {"knn": mean(row["knn"]), "ridge": mean(row["ridge"])} for row in found["rows"]]
        found["standings"] = [each._asdict() for each in self.standings]
        found["files"] = [str(path) for path in self.files]
        return found | {"ties": self.ties, "is_shown_to_help": self.is_shown_to_help}

    def to_json(self) -> str:
        """The result as text."""
        return json.dumps(self.as_dict(), indent=1) + "\n"

    def __str__(self) -> str:
        head, body = self.table()
        widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *body]]
        out = [f"Excluded: {name}: {reason}" for name, reason in sorted(self.excluded.items())]
        used = f"{duration(self.seconds)} of {duration(self.budget)} used."
        return "\n".join(
            [*(line.rstrip() for line in lines), "", *out, *self.conditions, *self.notes, used, "", *self.verdict]
        )


def best_reference(rows: list[Row], chosen: list[Row], groups: Integers) -> tuple[str, Difference] | None:
    """The best reference, and the difference of an algorithm (rows of its seeds) to it."""
    scores = {row.name: row for row in rows if row.stage == REFERENCE and row.score is not None}
    if not scores:
        return None
    best = max(scores.values(), key=lambda row: row.score or 0.0)
    own = [row.correct for row in chosen if row.correct is not None]
    reference = np.zeros(0) if best.correct is None else best.correct
    samples = decisions.bootstrap([np.stack(own), reference], groups)
    value = sum(float(each.mean()) for each in own) / len(own) - float(reference.mean())
    return best.name, decisions.difference(samples, 0, 1, value)


def scored_table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """The table with labels."""
    head = ["name", "score", "95 % interval", "within 2 points", "kNN", "ridge", "stage 1", "updates"]
    body, finals = [], {each.name for each in found.standings}
    for each in found.standings:
        rows = [row for row in found.rows if row.name == each.name and row.stage]
        last = [row for row in rows if row.stage == max(row.stage for row in rows)]
        first = next((row.score for row in rows if row.stage == 1), None)
        near, ridge = (percent(average([mean(getattr(row, key)) for row in last])) for key in ("knn", "ridge"))
        interval = f"{100 * each.low:.1f} to {100 * each.high:.1f}"
        tie = " (tie)" if each.is_tied and len(found.ties) > 1 else ""
        counts = f"{round(average([row.updates for row in last])):,}"
        within = f"{100 * each.within:.0f} %" if all(is_judged(row) for row in last) else "–"
        body.append([each.name + tie, percent(each.score), interval, within, near, ridge, percent(first), counts])
    others = [row for row in found.rows if row.stage == 1 and row.name not in finals]
    for row in sorted(others, key=lambda row: -(row.score or 0.0)):
        body.append([row.name, "", "", "", "", "", percent(row.score), f"{row.updates:,}"])
    references = [row for row in found.rows if row.stage == REFERENCE]
    for row in sorted(references, key=lambda row: -(row.score or 0.0)):
        near, ridge = percent(mean(row.knn)), percent(mean(row.ridge))
        body.append([f"reference: {row.name}", percent(row.score), "", "", near, ridge, "", ""])
    return head, body


def mean(values: list[float] | None) -> float | None:
    """Mean of a list; None if there is none."""
    return None if values is None else sum(values) / len(values)


def average(values: list[Any]) -> float:
    """Mean of the values that are known."""
    known = [value for value in values if value is not None]
    return float(sum(known)) / len(known)


def percent(value: float | None) -> str:
    """A fraction in percent; empty if unknown."""
    return "" if value is None else f"{100 * value:.1f} %"


def rank(row: Row) -> str:
    """The effective rank of a row; a dash if it has no features."""
    found = row.quality
    return f"{found['effective_rank']:.1f} of {found['dimensions']}" if found else "–"
