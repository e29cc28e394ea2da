"""Callbacks: what follows a run without changing what is trained, and the history columns that they add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch

from super_selfish.engine.core.clock import Clock
from super_selfish.loading.loader import TrainLoader, TrainState


class RunView(Protocol):
    """What callbacks read of a run; the run itself is :class:`super_selfish.engine.loop.run.Run`."""

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
        """Epochs planned in this call of ``supervise``."""

    @property
    def steps(self) -> int:
        """Updates of the weights in this call so far."""

    @property
    def finished_epochs(self) -> int:
        """Epochs of this call that are over."""

    @property
    def train_state(self) -> TrainState:
        """Epoch, batch, step and samples over the supervisor's life."""

    @property
    def planned_steps(self) -> int:
        """Updates of all epochs of this call."""

    @property
    def clock(self) -> Clock:
        """Images per second, and time spent waiting for data."""

    def mean_loss(self) -> float:
        """Mean loss of the epoch so far; synchronises a GPU."""

    def seconds_left(self) -> float:
        """Estimated seconds until the planned epochs are done."""


class Column(NamedTuple):
    """How a column of the history is shown.

    Attributes:
        title: Its name in the report.
        note: What it measures.
        is_share: Whether values are printed as percentages.
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
    """The measures in a history with their labels, speed last; without a label, a column is shown under its key.

    Args:
        history: One entry per epoch.
        stored: Labels of a weights file, for callbacks whose class is not imported: lists of the fields, by key.
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
    """Four events of a run; override those that matter.

    Each method receives the run: ``run.supervisor``, ``run.train_state`` (epoch, batch, step), ``run.epochs``,
    ``run.mean_loss()``; see :class:`RunView`. What ``on_epoch_end`` adds to ``run.supervisor.history[-1]`` is stored,
    written to ``NAME.history.csv`` and plotted in the report.

    Attributes:
        columns: Of the class: labels of the history columns that it adds, by key.

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
        """Before the first batch is read."""

    def on_step_end(self, run: RunView) -> None:
        """After each update of the weights."""

    def on_epoch_end(self, run: RunView) -> None:
        """After the last update of an epoch; ``run.supervisor.history[-1]`` is its entry."""

    def on_train_end(self, run: RunView) -> None:
        """After the last epoch, an interruption or an error; not if ``on_train_begin`` itself raised."""


def call_all(callbacks: Iterable[Callback], event: str, run: RunView, begun: list[Callback]) -> None:
    """Invoke a method of each callback; ``begun`` keeps those whose ``on_train_begin`` succeeded: only they end."""
    for callback in callbacks:
        if event == "on_train_end" and not any(callback is other for other in begun):
            continue
        getattr(callback, event)(run)
        if event == "on_train_begin":
            begun.append(callback)
