"""Callbacks: what follows a run without changing what is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch

from super_selfish.engine.core.clock import Clock
from super_selfish.loading.loader import Cursor, TrainLoader


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
    def cursor(self) -> Cursor:
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


class Callback:
    """Four events of a run; override those that matter.

    Each method receives the run: ``run.supervisor``, ``run.cursor`` (epoch, batch, step), ``run.epochs``,
    ``run.mean_loss()``; see :class:`RunView`.

    Examples:
        >>> class StopWatch(Callback):
        ...     def on_epoch_end(self, run):
        ...         self.speed = run.supervisor.history[-1]["images_per_second"]
    """

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
