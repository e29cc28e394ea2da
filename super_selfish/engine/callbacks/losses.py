"""The training loss at a finer resolution than in the history."""

from __future__ import annotations

from super_selfish.engine.core.callback import Callback, RunView


class Steps(Callback):
    """Records the mean loss of every few steps; the history holds one value per epoch.

    Args:
        every: Number of steps between two points.

    Attributes:
        points: Pairs of the fractional epoch and the mean loss since the previous point.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self.points: list[tuple[float, float]] = []
        self._before = (0, 0.0)  # steps of this epoch and sum of their losses, at the previous point

    def on_step_end(self, run: RunView) -> None:
        """Record a point every few steps; the sum is reset in each epoch."""
        state, batches = run.train_state, run.loader.batches  # also right after a resume in mid-epoch
        done = state.batch or batches
        if done % self.every:
            return
        steps, total = self._before if self._before[0] < done else (0, 0.0)
        now = run.mean_loss() * done
        epochs = state.epoch - run.start_epoch + state.batch / batches
        self.points.append((epochs, (now - total) / (done - steps)))
        self._before = (done, now)
