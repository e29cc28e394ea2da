"""Runs of a study: one network of an arm, with its scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

UNTRAINED, PUBLISHED, PRETRAINED, ADAPTED = "untrained", "published", "pretrained", "adapted"
TRAINED = (PRETRAINED, ADAPTED)
"""Arms with pretraining on the images."""
ARMS = (UNTRAINED, PUBLISHED, PRETRAINED, ADAPTED)
SHOWN = {
    UNTRAINED: "untrained",
    PUBLISHED: "published weights, as is",
    PRETRAINED: "pretrained on the images",
    ADAPTED: "published weights, adapted",
}
"""Names of the arms in tables and plots."""
PROBE, TUNED = "probe", "tuned"

Hits = npt.NDArray[np.bool_]


@dataclass
class StudyRow:
    """One network: its pretraining and its scores on the test images.

    Attributes:
        arm: ``"untrained"``, ``"published"``, ``"pretrained"`` or ``"adapted"``.
        seed: Random seed of initial weights and pretraining.
        problem: Why there are no scores, or what is wrong with the features; None: nothing.
        updates: Number of updates of the pretraining.
        epochs: Number of epochs that were planned.
        pretraining: Duration of the pretraining in seconds.
        probe: Linear probes: number of labels per class, number of the draw, and for each test image ``"1"`` if it
            was classified correctly, ``"0"`` otherwise.
        tuned: Fine-tuned networks, in the same form.
        rates: Learning rate of fine-tuning by number of labels per class, as text.
        skipped: Number of planned scores for which there was no time.
        seconds: Duration of the run.
        used: Seconds of the budget that were used at its end.
    """

    arm: str
    seed: int
    problem: str | None = None
    updates: int = 0
    epochs: int = 0
    pretraining: float = 0.0
    probe: list[list[Any]] = field(default_factory=list)
    tuned: list[list[Any]] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    skipped: int = 0
    seconds: float = 0.0
    used: float = 0.0

    def add(self, method: str, count: int, draw: int, hits: Hits) -> None:
        """Add a score."""
        getattr(self, method).append([count, draw, "".join("1" if hit else "0" for hit in hits)])

    def hits(self, method: str, count: int) -> dict[int, Hits]:
        """Whether each test image was classified correctly, by draw."""
        found = {}
        for known, draw, text in getattr(self, method):
            if known == count:
                found[int(draw)] = np.frombuffer(text.encode(), np.uint8) == ord("1")
        return found
