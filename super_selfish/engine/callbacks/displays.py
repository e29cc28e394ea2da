"""Where progress is shown: a progress bar on a terminal, a display that is updated in a notebook, or lines of text."""

from __future__ import annotations

import html
import secrets
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from colorama import Fore, Style, just_fix_windows_console
from tqdm import tqdm

_ROWS = 10


@dataclass(frozen=True)
class Status:
    """The progress of a training.

    Attributes:
        epoch: Current epoch, counted from 1; after an epoch, the one that has ended.
        epochs: Number of epochs of the training.
        step: Number of steps of the training so far, at one step per batch.
        steps: Number of steps of the whole training.
        batch: Number of batches of the current epoch so far.
        batches: Number of batches of an epoch.
        numbers: Loss, speed and other values, as text by title.
        left: Estimated remaining time as text.
        finished: Whether the epoch has ended.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    batch: int
    batches: int
    numbers: dict[str, str]
    left: str
    finished: bool

    def __str__(self) -> str:
        where = "" if self.finished else f" (batch {self.batch}/{self.batches})"
        return f"epoch {self.epoch}/{self.epochs}{where}: {self.text}, {self.left} left"

    @property
    def text(self) -> str:
        """The numbers as text."""
        named = {"images/s": "{} images/s", "waiting for data": "{} waiting for data"}
        return ", ".join(named.get(title, f"{title} {{}}").format(text) for title, text in self.numbers.items())


class Display(Protocol):
    """A place where progress is shown."""

    seconds: float
    """Interval between two updates within an epoch, in seconds."""

    def advance(self, step: int) -> None:
        """Move to a step of the training, without new numbers."""

    def show(self, status: Status) -> None:
        """Show the progress."""

    def close(self) -> None:
        """Leave the last state on display."""


class Lines:
    """Lines of text on stderr, for log files: one per epoch, and one every 30 seconds within long epochs."""

    seconds = 30.0

    def advance(self, step: int) -> None:
        """Do nothing."""

    def show(self, status: Status) -> None:
        """Write a line."""
        sys.stderr.write(f"{status}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A progress bar on the terminal that stderr is connected to.

    Args:
        step: Number of steps of the training so far.
        steps: Number of steps of the whole training.
    """

    seconds = 0.5

    def __init__(self, step: int, steps: int) -> None:
        just_fix_windows_console()
        layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        options: dict[str, Any] = {"bar_format": layout, "dynamic_ncols": True, "file": sys.stderr}
        self._bar: Any = tqdm(total=steps, initial=step, unit="step", **options)

    def advance(self, step: int) -> None:
        """Move the bar."""
        self._bar.update(min(step, self._bar.total) - self._bar.n)

    def show(self, status: Status) -> None:
        """Set description and numbers, and move the bar."""
        epoch = f"{Style.BRIGHT}epoch {status.epoch}/{status.epochs}{Style.RESET_ALL}"
        self._bar.n = min(status.step, self._bar.total)
        self._bar.set_description_str(epoch, refresh=False)
        self._bar.set_postfix_str(f"{status.left} left, {Fore.CYAN}{status.text}{Style.RESET_ALL}")

    def close(self) -> None:
        """Leave the bar on the terminal."""
        self._bar.close()


class Notebook:
    """An output of a notebook cell that is updated: a progress bar, and a table of the last ten epochs.

    Args:
        shell: The shell of the kernel.
    """

    seconds = 0.5

    def __init__(self, shell: Any) -> None:
        self._publisher = shell.display_pub
        self._id = secrets.token_hex(8)
        self._rows: list[Status] = []
        self._is_open = False

    def advance(self, step: int) -> None:
        """Do nothing: the bar moves with the numbers."""

    def show(self, status: Status) -> None:
        """Update the output."""
        if status.finished:
            self._rows = [*self._rows, status][-_ROWS:]
        data = {"text/html": as_html(status, self._rows), "text/plain": str(status)}
        self._publisher.publish(data=data, metadata={}, transient={"display_id": self._id}, update=self._is_open)
        self._is_open = True

    def close(self) -> None:
        """Leave the output in the notebook."""


def as_html(status: Status, rows: Sequence[Status]) -> str:
    """Progress as HTML: a bar with the current numbers, and a table of epochs."""
    bar = (
        f'<progress value="{status.step}" max="{status.steps}" style="width: 16em; vertical-align: middle"></progress>'
    )
    text = f"{status.text}, {status.left} left" if status.step < status.steps else status.text
    line = f"{bar} <b>epoch {status.epoch}/{status.epochs}</b>, step {status.step}/{status.steps}: {html.escape(text)}"
    titles = ["epoch", *dict.fromkeys(title for row in rows for title in row.numbers)]
    cells = [[str(row.epoch), *(row.numbers.get(title, "") for title in titles[1:])] for row in rows]
    table = "".join(_row("td", row) for row in cells)
    return f"<div>{line}</div>" + (f"<table>{_row('th', titles)}{table}</table>" if rows else "")


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def kernel_shell() -> Any:
    """The shell of the Jupyter kernel (or Colab) that this process is; None: it is none."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


def open_display(step: int, steps: int) -> Display:
    """The display for this process.

    Args:
        step: Number of steps of the training so far.
        steps: Number of steps of the whole training.
    """
    shell = kernel_shell()
    if shell is not None:
        return Notebook(shell)
    return Bar(step, steps) if sys.stderr.isatty() else Lines()


rewrite: ContextVar[Callable[[str], str]] = ContextVar("rewrite", default=str)
"""Rewrites advice before it is printed: the command line replaces arguments by flags."""


def print_advice(text: str) -> None:
    """Print a line that names arguments of ``supervise`` or of a constructor."""
    print_line(rewrite.get()(text))


def print_line(text: str) -> None:
    """Print a line: to stderr, above the progress bar if there is one; in a notebook to the output of the cell."""
    if kernel_shell() is not None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        return
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()
