"""The progress of a run, and the history file."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from super_selfish.engine.callbacks.displays import Display, Status, open_display
from super_selfish.engine.core.callback import Callback, RunView, columns_of
from super_selfish.errors import CheckpointError
from super_selfish.files import append, replacing, with_suffix

logger = logging.getLogger("super_selfish")

HISTORY = ".history.csv"
FIRST_SECONDS = 2.0
"""Time until the first update, in seconds."""

MEASURED_STEPS = 2
"""Number of steps from which the remaining time is estimated."""


class Progress(Callback):
    """Prints epoch, loss, images per second, fraction of time spent waiting for data, and time left.

    On a terminal, a progress bar covers the whole training. In a Jupyter or Colab notebook, a bar and a table of the
    last ten epochs are displayed. Otherwise (log file, CI), one line per epoch is written to stderr, and one every 30
    seconds within long epochs. A resumed training begins at the step of its checkpoint. History columns with
    ``in_progress`` are included.
    """

    def __init__(self) -> None:
        self._display: Display | None = None
        self._shown = 0.0
        self._is_first = True

    def on_train_begin(self, run: RunView) -> None:
        """Open the display."""
        self._shown, self._is_first = time.monotonic(), True
        steps = run.resumed_steps
        self._display = open_display(steps, steps + run.planned_steps)

    def on_step_end(self, run: RunView) -> None:
        """Refresh at intervals only, because reading the loss synchronizes the GPU. The last step is the epoch's."""
        if self._display is None or run.train_state.batch == 0:
            return
        self._display.advance(run.resumed_steps + run.steps)
        seconds = min(FIRST_SECONDS, self._display.seconds) if self._is_first else self._display.seconds
        if run.steps >= MEASURED_STEPS and time.monotonic() - self._shown >= seconds:
            self._show(self._display, run, finished=False)

    def on_epoch_end(self, run: RunView) -> None:
        """Show the finished epoch."""
        if self._display is not None:
            self._show(self._display, run, finished=True)

    def on_train_end(self, run: RunView) -> None:  # noqa: ARG002 - signature of the hook
        """Close the display."""
        if self._display is not None:
            self._display.close()
            self._display = None

    def _show(self, display: Display, run: RunView, *, finished: bool) -> None:
        self._shown, self._is_first = time.monotonic(), False
        if finished:
            entry = run.supervisor._history[-1]
            loss, speed, wait = entry["loss"], entry["images_per_second"], entry["data_wait"]
        else:
            loss, speed, wait = run.mean_loss(), run.clock.images_per_second, run.clock.data_wait
        numbers = {"loss": f"{loss:.4f}", "images/s": f"{speed:.{0 if speed >= 10 else 1}f}"}
        numbers["waiting for data"] = f"{wait:.0%}"
        for key, column in columns_of([entry]).items() if finished else ():
            if column.in_progress:
                numbers[column.title] = column.format(entry[key])
        epoch, batches = run.resumed_epochs + run.finished_epochs, run.loader.batches
        step = epoch * batches + run.train_state.batch
        epochs = run.resumed_epochs + run.epochs
        left = duration(run.seconds_left())
        place = (epoch + (not finished), epochs, min(step, epochs * batches), epochs * batches)
        display.show(Status(*place, run.train_state.batch, batches, numbers, left, finished))


class HistoryFile(Callback):
    """Writes ``<name>.history.csv`` after each epoch: one row per epoch, one column per metric.

    A row is appended, so that the time per epoch does not grow with the number of epochs. The file is rewritten
    atomically if there is a new column or the file was changed, and at the end of the training.

    Args:
        base: The path without suffix.
    """

    def __init__(self, base: Path) -> None:
        self.path = with_suffix(base, HISTORY)
        self._columns: list[str] = []
        self._rows = 0
        self._size = -1  # of the file, in bytes

    def on_epoch_end(self, run: RunView) -> None:
        """Write the row of the epoch; log a warning if that fails."""
        history = run.supervisor._history
        appends = len(history) == self._rows + 1 and set(history[-1]) <= set(self._columns)
        self._write(history, appends=appends and self._is_unchanged())

    def on_train_end(self, run: RunView) -> None:
        """Rewrite the file, as callbacks may have changed earlier rows."""
        if self._rows:
            self._write(run.supervisor._history, appends=False)

    def _is_unchanged(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size == self._size

    def _write(self, history: Sequence[Mapping[str, Any]], *, appends: bool) -> None:
        if not appends:
            self._columns = list(dict.fromkeys(key for entry in history for key in entry))
        text = io.StringIO()
        rows = csv.DictWriter(text, self._columns, lineterminator="\n")
        if not appends:
            rows.writeheader()
        rows.writerows(history[-1:] if appends else history)
        content = text.getvalue().encode()
        try:
            if appends:
                append(self.path, content)
            else:
                with replacing(self.path) as temporary:
                    temporary.write_bytes(content)
        except CheckpointError as error:
            logger.warning("The history could not be written. %s", error)
            self._size = -1
            return
        self._rows, self._size = len(history), len(content) + (self._size if appends else 0)


def duration(seconds: float) -> str:
    """Format a duration in its two largest units.

    Examples:
        >>> duration(42.4), duration(754), duration(90000)
        ('42 s', '12 min 34 s', '1 d 1 h')
    """
    whole = round(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    parts: list[str] = []
    for size, unit in units:
        if whole >= size or (unit == "s" and not parts):
            parts.append(f"{whole // size} {unit}")
            whole %= size
    return " ".join(parts[:2])
