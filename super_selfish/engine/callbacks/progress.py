"""The progress of a run: a progress bar or log lines, and the history file."""

from __future__ import annotations

import csv
import io
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from colorama import Fore, Style, just_fix_windows_console
from tqdm import tqdm

from super_selfish.engine.core.callback import Callback, RunView, columns_of
from super_selfish.errors import CheckpointError
from super_selfish.files import append, replacing, with_suffix

logger = logging.getLogger("super_selfish")

HISTORY = ".history.csv"
BAR_SECONDS = 0.5
LINE_SECONDS = 30.0


class Progress(Callback):
    """Prints epoch, loss, images per second, fraction of time spent waiting for data, and time left to stderr.

    On a terminal, a progress bar covers the whole run. Otherwise (log file, notebook, CI), one line per epoch is
    printed, and one every 30 seconds within long epochs. History columns with ``in_progress`` are included. A resumed
    training continues the count of its epochs.

    Args:
        epochs: Number of epochs of the training, including those before it was resumed; None: those of the run.
    """

    def __init__(self, epochs: int | None = None) -> None:
        self._epochs = epochs
        self._before = 0  # epochs that were completed before the training was resumed
        self._bar: Any = None
        self._shown = 0.0

    def on_train_begin(self, run: RunView) -> None:
        """Open the progress bar, and print where a resumed training continues."""
        self._shown = time.monotonic()
        self._before = 0 if self._epochs is None else self._epochs - run.epochs
        if self._before or run.train_state.batch:
            epoch = f"epoch {self._before + 1}/{self._before + run.epochs}"
            sys.stderr.write(f"Resuming in {epoch}, after step {run.train_state.step}.\n")
        if sys.stderr.isatty():
            just_fix_windows_console()
            total = run.epochs * run.loader.batches
            layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
            self._bar = tqdm(total=total, unit="step", bar_format=layout, dynamic_ncols=True, file=sys.stderr)

    def on_step_end(self, run: RunView) -> None:
        """Refresh at intervals only, because reading the loss synchronizes the GPU."""
        if self._bar is not None:
            self._bar.update(min(run.steps, self._bar.total) - self._bar.n)
        if self._bar is None and run.train_state.batch == 0:
            return  # the line of the finished epoch follows
        if time.monotonic() - self._shown >= (LINE_SECONDS if self._bar is None else BAR_SECONDS):
            self._show(run)

    def on_epoch_end(self, run: RunView) -> None:
        """Show the finished epoch."""
        self._show(run, finished=True)

    def on_train_end(self, run: RunView) -> None:  # noqa: ARG002 - signature of the hook
        """Close the progress bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, run: RunView, finished: bool = False) -> None:
        self._shown = time.monotonic()
        done, total = self._before + run.finished_epochs + (not finished), self._before + run.epochs
        if finished:
            entry = run.supervisor._history[-1]
            loss, speed, wait = entry["loss"], entry["images_per_second"], entry["data_wait"]
        else:
            loss, speed, wait = run.mean_loss(), run.clock.images_per_second, run.clock.data_wait
        numbers = f"loss {loss:.4f}, {speed:.{0 if speed >= 10 else 1}f} images/s, {wait:.0%} waiting for data"
        for key, column in columns_of([entry]).items() if finished else ():
            numbers += f", {column.title} {column.format(entry[key])}" if column.in_progress else ""
        if self._bar is not None:
            self._bar.set_description_str(f"{Style.BRIGHT}epoch {min(done, total)}/{total}{Style.RESET_ALL}")
            self._bar.set_postfix_str(f"{Fore.CYAN}{numbers}{Style.RESET_ALL}")
            return
        where = "" if finished else f" (batch {run.train_state.batch}/{run.loader.batches})"
        sys.stderr.write(f"epoch {done}/{total}{where}: {numbers}, {duration(run.seconds_left())} left\n")
        sys.stderr.flush()


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


rewrite: ContextVar[Callable[[str], str]] = ContextVar("rewrite", default=str)
"""Rewrites advice before it is printed: the command line replaces arguments by flags."""


def print_advice(text: str) -> None:
    """Print a line that names arguments of ``supervise`` or of a constructor."""
    print_line(rewrite.get()(text))


def print_line(text: str) -> None:
    """Print a line to stderr, above the progress bar if there is one."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()
