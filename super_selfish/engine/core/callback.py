"""What watches a run without ever touching a gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from super_selfish.engine.loop.run import Run


class Callback:
    """Four events of a run; override those that matter.

    Each gets the :class:`~super_selfish.engine.loop.run.Run`: ``run.supervisor``, ``run.cursor`` (epoch, batch, step),
    ``run.epochs``, ``run.mean_loss()``.

    Examples:
        >>> class StopWatch(Callback):
        ...     def on_epoch_end(self, run):
        ...         self.speed = run.supervisor.history[-1]["images_per_second"]
    """

    def on_train_begin(self, run: Run) -> None:
        """Before the first batch is read."""

    def on_step_end(self, run: Run) -> None:
        """After each update of the weights."""

    def on_epoch_end(self, run: Run) -> None:
        """After the last update of an epoch; ``run.supervisor.history[-1]`` is its entry."""

    def on_train_end(self, run: Run) -> None:
        """After the last epoch, an interruption or an error; not if ``on_train_begin`` itself had one."""


class Keeper(Callback):
    """The callback that writes checkpoints; this one writes none."""

    def write(self, run: Run) -> None:
        """Store the state as it is."""


def tell(callbacks: Iterable[Callback], event: str, run: Run, listening: list[Callback]) -> None:
    """Call a method of each; ``listening`` keeps those that have begun without an error: only they end."""
    for callback in callbacks:
        if event == "on_train_end" and not any(callback is other for other in listening):
            continue
        getattr(callback, event)(run)
        if event == "on_train_begin":
            listening.append(callback)
