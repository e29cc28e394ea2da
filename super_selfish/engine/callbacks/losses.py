"""The training loss at a finer resolution than the history has."""

from __future__ import annotations

from super_selfish.engine.core.callback import Callback, RunView


class Steps(Callback):
    """Records the mean loss of every few steps; the history holds one value per epoch.

    Args:
        every: Steps between two points.

    Attributes:
        points: Pairs of the epoch (a fraction) and the mean loss since the previous point.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self.points: list[tuple[float, float]] = []
        self._before = (0, 0.0)  # steps of this epoch, and the sum of their losses, at the last point

    def on_step_end(self, run: RunView) -> None:
        """Record a point; the sum starts over with each epoch."""
        done = run.steps - run.finished_epochs * run.loader.batches
        if done % self.every:
            return
        steps, total = self._before if self._before[0] < done else (0, 0.0)
        now = run.mean_loss() * done
        self.points.append((run.steps / run.loader.batches, (now - total) / (done - steps)))
        self._before = (done, now)
