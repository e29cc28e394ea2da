"""Ending a training when a column of the history no longer improves."""

from __future__ import annotations

import math
from typing import Literal

from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.errors import ConfigurationError, check_argument, check_choice, is_count, is_number
from super_selfish.suggestions import did_you_mean


class EarlyStopping(Callback):
    """Ends the training after an epoch when a column of the history has not improved for several epochs.

    The weights of the last epoch are stored, as after a complete training. Epochs without a value, such as those
    between two evaluations, do not count. The loss of BYOL and of adversarial algorithms does not measure progress:
    monitor ``"knn"``, ``"probe"`` or ``"effective_rank"`` instead. With a learning rate schedule, a training that ends
    early never reaches its low learning rates. Pass it after the callbacks whose columns it monitors.

    Args:
        monitor: Column of the history, such as ``"loss"``, or ``"knn"`` with ``supervise(evaluate=...)``.
        patience: Number of values without improvement after which the training ends, at least 1.
        min_delta: Smallest change that counts as an improvement, at least 0.
        mode: Whether the ``"min"`` or the ``"max"`` is best.

    Raises:
        ConfigurationError: If an argument is out of range; after the first epoch, if there is no such column.

    References:
        Prechelt, "Early Stopping - But When?", 1998.

    Examples:
        >>> import numpy as np
        >>> from super_selfish.supervisors import RotateNetSupervisor
        >>> images = np.zeros((8, 32, 32, 3), np.uint8)
        >>> stopping = EarlyStopping("loss", patience=1, min_delta=10.0)
        >>> supervisor = RotateNetSupervisor(images, backbone="small_resnet")
        >>> trained = supervisor.supervise(epochs=9, callbacks=[stopping], verbose=False)
        >>> len(supervisor.history)
        2
    """

    def __init__(
        self,
        monitor: str = "loss",
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        check_argument(isinstance(monitor, str) and bool(monitor), "monitor", monitor, "a column of the history")
        check_argument(is_count(patience, 1), "patience", patience, "a number of epochs, at least 1")
        check_argument(is_number(min_delta, 0, math.inf), "min_delta", min_delta, "a number of at least 0")
        check_choice("mode", mode, ("min", "max"))
        self.monitor, self.patience, self.min_delta, self.mode = monitor, patience, min_delta, mode
        self._begin = 0

    def on_train_begin(self, run: RunView) -> None:
        """Count the epochs of a resumed training too. One that has ended early ends again at once."""
        self._begin = len(run.supervisor._history) - run.resumed_epochs
        self._check(run)

    def on_epoch_end(self, run: RunView) -> None:
        """Request the end of the training if the column has not improved."""
        history = run.supervisor._history
        declared = {key for callback in run.callbacks for key in callback.columns}
        if self.monitor not in {*declared, *(key for entry in history for key in entry)}:
            known = sorted({*declared, *history[-1]} - {"epoch"})
            raise ConfigurationError(
                f"The history has no column {self.monitor!r} to monitor.",
                expected=", ".join(known),
                received=f"monitor={self.monitor!r}",
                fix=did_you_mean(self.monitor, known),
            )
        self._check(run)

    def _check(self, run: RunView) -> None:
        entries = run.supervisor._history[max(0, self._begin) :]
        values = [float(entry[self.monitor]) for entry in entries if self.monitor in entry]
        if self.values_without_improvement(values) >= self.patience:
            best = min(values) if self.mode == "min" else max(values)
            run.request_stop(f"{self.monitor} has not improved on {best:.4g} for {self.patience} epochs.")

    def values_without_improvement(self, values: list[float]) -> int:
        """Number of values since the last improvement.

        Args:
            values: The column, in the order of epochs.

        Examples:
            >>> EarlyStopping().values_without_improvement([3.0, 2.0, 2.5, 2.0])
            2
        """
        best, waited = math.inf, 0
        for value in values:
            signed = value if self.mode == "min" else -value
            better = signed < best - self.min_delta if best < math.inf else signed < best
            best, waited = (signed, 0) if better else (best, waited + 1)
        return waited
