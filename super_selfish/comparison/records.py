"""Runs of a comparison, and the file with one JSON line per run, by which a comparison is resumed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from super_selfish.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch
from super_selfish.files import append, keep_previous, write_text

logger = logging.getLogger("super_selfish")

REFERENCE = 0
"""Stage of the references, which are not trained by the comparison."""
COLLAPSE = "representation collapse"
"""Problem of a run whose features are nearly the same for all images."""
TOO_SLOW = "too slow: no update fits into the time of a run beside measuring its speed and its evaluation"
"""Problem of a run without time for an update."""


@dataclass
class Row:
    """One run: a reference (stage 0), or the training of an algorithm in stage 1 or 2.

    Attributes:
        name: Name of the algorithm or the reference.
        stage: 0, 1 or 2.
        seed: Random seed.
        problem: Why the features are not usable (such as ``"representation collapse"``); None: they are.
        at_chance: Whether the pretext task was not solved better than by its trivial baseline; None: not measured.
        pretext: Score of the pretext task on held-out images, as text.
        knn: How often each labelled image was classified correctly by kNN (images,), in [0, 1]; None without labels.
        ridge: The same by ridge regression.
        quality: Label-free metrics of the features.
        updates: Number of updates.
        epochs: Number of epochs that were planned.
        seconds: Duration of the run with its evaluation.
        used: Seconds of the budget that were used at the end of the run.
        step_seconds: Measured seconds per update; None: no update was made.
    """

    name: str
    stage: int
    seed: int = 0
    problem: str | None = None
    at_chance: bool | None = None
    pretext: str = ""
    knn: list[float] | None = None
    ridge: list[float] | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    updates: int = 0
    epochs: int = 0
    seconds: float = 0.0
    used: float = 0.0
    step_seconds: float | None = None

    @property
    def correct(self) -> npt.NDArray[np.float64] | None:
        """Mean of both methods for each labelled image (images,); None without labels."""
        return None if self.knn is None or self.ridge is None else (np.array(self.knn) + np.array(self.ridge)) / 2

    @property
    def score(self) -> float | None:
        """Mean accuracy of both methods, in [0, 1]; None without labels."""
        return None if self.correct is None else float(self.correct.mean())


AnyRow = TypeVar("AnyRow")


class RunLog(Generic[AnyRow]):
    """The file ``<name>.runs.jsonl``: a line of settings, a line with the plan, and one line per run.

    Args:
        path: The file.
        settings: What must not change when the runs are resumed, as JSON.
        resume: True, False or ``"auto"``; see :func:`super_selfish.compare`.
        row: Dataclass of a run.
        what: Noun for the runs in messages, such as ``"comparison"``.

    Attributes:
        plan: The stored plan; None: not yet made.
        rows: The stored runs.

    Raises:
        CheckpointError: If there is nothing to resume.
        CheckpointMismatch: If the file belongs to other images or settings.
        CheckpointCorrupt: If the file is damaged.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        resume: bool | str,
        row: Callable[..., AnyRow],
        what: str = "comparison",
    ) -> None:
        self.path, self.what = path, what
        self.plan: dict[str, Any] | None = None
        self.rows: list[AnyRow] = []
        self._row, self._head = row, ""
        if resume and path.is_file() and path.stat().st_size:
            self._read(settings)
            return
        if resume is True:
            raise CheckpointError(
                f"There is no {what} `{path}` to resume.", fix='Pass resume="auto" to start over if there is none.'
            )
        self._head = json.dumps({"settings": dict(settings)}) + "\n"

    @contextmanager
    def interruptions(self) -> Iterator[None]:
        """Context manager: log what is stored when the runs are interrupted."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            logger.warning(
                "Interrupted: %d runs are stored in `%s`. The same call continues.", len(self.rows), self.path
            )
            raise

    def set_plan(self, plan: Mapping[str, Any]) -> None:
        """Store the plan."""
        self.plan = dict(plan)
        self._append({"plan": self.plan})

    def add(self, row: AnyRow) -> None:
        """Store a run."""
        self.rows.append(row)
        self._append({"run": vars(row)})

    def _append(self, line: Mapping[str, Any]) -> None:
        """Append a line. A new file begins with the first one, so that invalid arguments and images leave none."""
        if self._head:
            keep_previous(self.path)
            write_text(self.path, self._head)
            self._head = ""
        append(self.path, (json.dumps(line) + "\n").encode())

    def find(self, **wanted: Any) -> AnyRow | None:
        """The stored run with these values, such as ``stage=1, name="byol", seed=0``."""
        return next((row for row in self.rows if wanted.items() <= vars(row).items()), None)

    def _read(self, settings: Mapping[str, Any]) -> None:
        content = self.path.read_bytes()
        complete, _, torn = content.rpartition(b"\n")
        if torn:  # the process was killed while it wrote the last line
            logger.warning("The last line of `%s` is incomplete; its run is repeated.", self.path)
        try:
            head, *lines = [json.loads(line) for line in complete.splitlines()] or [{}]
            stored = head["settings"]
            for line in lines:
                if "plan" in line:
                    self.plan = line["plan"]
                else:
                    self.rows.append(self._row(**line["run"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointCorrupt(
                f"`{self.path}` is damaged.", fix="Pass resume=False to start over; the file is kept as *.prev."
            ) from error
        given = json.loads(json.dumps(dict(settings)))
        differing = sorted(key for key in given.keys() | stored.keys() if given.get(key) != stored.get(key))
        if differing:
            raise CheckpointMismatch(
                f"`{self.path}` records another {self.what}.",
                expected=", ".join(f"{key}={stored.get(key)!r}" for key in differing),
                received=", ".join(f"{key}={given.get(key)!r}" for key in differing),
                fix="Pass another `name`, or resume=False to start over; the file is kept as *.prev.",
            )
        if torn:
            write_text(self.path, complete.decode() + "\n")
