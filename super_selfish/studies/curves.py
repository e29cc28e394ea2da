"""Scores of the arms of a study, from its runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from super_selfish.evaluation.score import Integers
from super_selfish.studies.records import PROBE, StudyRow
from super_selfish.studies.statistics import Estimate, Numbers, estimate


class Curves:
    """Scores of the arms.

    Args:
        rows: The runs.
        groups: Group of each test image (images,).
        counts: Numbers of labels per class of the linear probe, ascending; 0, for all, is the last.
        tuned: Numbers of labels per class of fine-tuning.
    """

    def __init__(self, rows: Sequence[StudyRow], groups: Integers, counts: Sequence[int], tuned: Sequence[int]) -> None:
        self.rows, self.groups, self.counts, self.tuned = rows, groups, list(counts), list(tuned)

    def arms(self, method: str = PROBE) -> list[str]:
        """Arms with scores for every number of labels, in the order of the runs."""
        wanted = self.counts if method == PROBE else self.tuned
        names = dict.fromkeys(row.arm for row in self.rows)
        return [arm for arm in names if wanted and all(self._found(arm, method, count) for count in wanted)]

    def correct(self, arm: str, count: int, method: str = PROBE, draws: Sequence[int] | None = None) -> Numbers:
        """Whether each test image was classified correctly (seeds, draws, images), for the draws of all seeds."""
        found = self._found(arm, method, count)
        chosen = self.draws(arm, count, method) if draws is None else draws
        return np.array([[hits[draw] for draw in chosen] for hits in found], np.float64)

    def draws(self, arm: str, count: int, method: str = PROBE) -> list[int]:
        """Numbers of the draws that all seeds of an arm have."""
        found = self._found(arm, method, count)
        return sorted(set.intersection(*(set(hits) for hits in found)))

    def _found(self, arm: str, method: str, count: int) -> list[dict[int, Numbers]]:
        rows = [row.hits(method, count) for row in self.rows if row.arm == arm]
        return [{draw: hits.astype(np.float64) for draw, hits in row.items()} for row in rows if row]

    def accuracy(self, arm: str, count: int, method: str = PROBE) -> Estimate:
        """Mean accuracy of an arm for a number of labels, with its interval."""
        return estimate([self.correct(arm, count, method)], None, self.groups)

    def mean(self, arm: str) -> float:
        """Mean accuracy of the linear probes of an arm over all numbers of labels."""
        return float(np.mean([self.correct(arm, count).mean() for count in self.counts]))

    def difference(self, first: str, second: str, counts: Sequence[int] | None = None, method: str = PROBE) -> Estimate:
        """Mean difference of two arms over some or all numbers of labels, with its interval."""
        wanted = (self.counts if method == PROBE else self.tuned) if counts is None else counts
        pairs = []
        for count in wanted:
            shared = sorted(set(self.draws(first, count, method)) & set(self.draws(second, count, method)))
            pairs.append([self.correct(arm, count, method, shared) for arm in (first, second)])
        return estimate([pair[0] for pair in pairs], [pair[1] for pair in pairs], self.groups)
