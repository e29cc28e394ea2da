"""Callbacks, which observe a run without affecting training, and the history columns that they add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch

from super_selfish.engine.core.clock import Clock
from super_selfish.loading.loader import TrainLoader, TrainState


class RunView(Protocol):
    """The interface of a run for callbacks, implemented by :class:`super_selfish.engine.loop.run.Run`."""

    @property
    def supervisor(self) -> Any:
        """The supervisor that is trained."""

    @property
    def loader(self) -> TrainLoader:
        """The training loader."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer."""

    @property
    def epochs(self) -> int:
        """Number of epochs planned for this call of ``supervise``."""

    @property
    def steps(self) -> int:
        """Number of steps in this call so far."""

    @property
    def start_epoch(self) -> int:
        """Number of epochs of the supervisor before this training; the same after a resume."""

    @property
    def finished_epochs(self) -> int:
        """Number of completed epochs in this call; 0 after a resume."""

    @property
    def resumed_epochs(self) -> int:
        """Number of epochs that an interrupted training completed before this call resumed it."""

    @property
    def resumed_steps(self) -> int:
        """Number of steps, at one step per batch, that were made before this call resumed the training."""

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """The callbacks of the run, in the order of invocation."""

    @property
    def train_state(self) -> TrainState:
        """Epoch, batch, step and samples over all calls of ``supervise``."""

    @property
    def planned_steps(self) -> int:
        """Number of steps planned for this call."""

    @property
    def clock(self) -> Clock:
        """Images per second, and time spent waiting for data."""

    def mean_loss(self) -> float:
        """Mean loss of the epoch so far; synchronises a GPU."""

    def seconds_left(self) -> float:
        """Estimated remaining time of the planned epochs, in seconds."""

    def request_stop(self, reason: str) -> None:
        """End the training after this epoch as if it were complete; ``reason`` is printed."""


class Column(NamedTuple):
    """How a column of the history is shown.

    Attributes:
        title: Its name in the report.
        note: What it measures.
        is_share: Whether values are fractions that are printed as percentages.
        in_progress: Whether values are printed after each epoch.
    """

    title: str
    note: str = ""
    is_share: bool = False
    in_progress: bool = False

    def format(self, value: float, digits: int = 4) -> str:
        """A value as text."""
        return f"{100 * value:.3g} %" if self.is_share else f"{value:.{digits}g}"


_SPEED = {
    "images_per_second": Column("Images per second", "training speed"),
    "data_wait": Column("Waiting for data", "fraction of the time", is_share=True),
}
_columns = {"loss": Column("Loss", "mean of an epoch"), **_SPEED}


def columns_of(history: Sequence[Mapping[str, Any]], stored: object = None) -> dict[str, Column]:
    """Columns of a history with their labels, speed last. A column without a label is shown under its key.

    Args:
        history: One entry per epoch.
        stored: Labels from a weights file, as lists of fields by key, for callbacks whose class is not imported.
    """
    labels = (
        {key: tuple(value) for key, value in stored.items() if _is_label(value)} if isinstance(stored, dict) else {}
    )
    keys = dict.fromkeys(
        key
        for entry in history
        for key, value in entry.items()
        if key != "epoch" and isinstance(value, int | float) and not isinstance(value, bool)
    )
    return {key: _columns.get(key) or Column(*labels.get(key, (key,))) for key in sorted(keys, key=_SPEED.__contains__)}


def _is_label(value: object) -> bool:
    return isinstance(value, list | tuple) and [*map(type, value)] == [str, str, bool, bool]


class Callback:
    """Base class of callbacks. Override the events that you need.

    Each method receives the run: ``run.supervisor``, ``run.train_state`` (epoch, batch, step), ``run.epochs``,
    ``run.mean_loss()``; see :class:`RunView`. Entries that ``on_epoch_end`` adds to ``run.supervisor.history[-1]`` are
    stored, written to ``NAME.history.csv`` and plotted in the report.

    Attributes:
        columns: Class attribute: labels of the history columns that the callback adds, by key.

    Examples:
        >>> class LearningRate(Callback):
        ...     columns = {"lr": Column("Learning rate", "after the last step of an epoch")}
        ...
        ...     def on_epoch_end(self, run):
        ...         run.supervisor.history[-1]["lr"] = run.optimizer.param_groups[0]["lr"]
    """

    columns: ClassVar[Mapping[str, Column]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _columns.update(cls.columns)

    def on_train_begin(self, run: RunView) -> None:
        """Called before the first batch is read."""

    def on_step_end(self, run: RunView) -> None:
        """Called after each step."""

    def on_epoch_end(self, run: RunView) -> None:
        """Called after the last step of an epoch; ``run.supervisor.history[-1]`` is its entry."""

    def on_train_end(self, run: RunView) -> None:
        """Called after the last epoch, an interruption or an error, unless ``on_train_begin`` raised."""


def call_all(callbacks: Iterable[Callback], event: str, run: RunView, begun: list[Callback]) -> None:
    """Invoke an event of each callback; ``on_train_end`` only for ``begun``, whose ``on_train_begin`` succeeded."""
    object.__setattr__(run.supervisor, "_in_callback", True)  # networks that callbacks ask for are copies
    try:
        for callback in callbacks:
            if event == "on_train_end" and not any(callback is other for other in begun):
                continue
            getattr(callback, event)(run)
            if event == "on_train_begin":
                begun.append(callback)
    finally:
        object.__setattr__(run.supervisor, "_in_callback", False)
