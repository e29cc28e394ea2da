"""Logging to TensorBoard."""

from __future__ import annotations

import os
from typing import Any

from super_selfish.distributed import rank
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.errors import ConfigurationError
from super_selfish.renamed import old_names

__getattr__ = old_names(__name__)


class TensorBoardCallback(Callback):
    """Writes all scalars of the history to TensorBoard after each epoch. Requires the extra ``tensorboard``.

    Args:
        folder: Log directory, as for ``tensorboard --logdir``.

    Raises:
        ConfigurationError: If TensorBoard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigurationError(
                "TensorBoard is not installed.",
                fix='Install it from the checkout: pip install "./super-selfish[tensorboard]".',
            ) from error
        self._writer_class: Any = SummaryWriter
        self._writer: Any = None
        self.folder = os.fspath(folder)

    def on_train_begin(self, run: RunView) -> None:
        """Open the event file. A resumed training discards events of the epochs that it repeats."""
        if rank():
            return  # only rank 0 writes
        self._writer = self._writer_class(self.folder, purge_step=run.train_state.epoch + 1)

    def on_epoch_end(self, run: RunView) -> None:
        """Write the scalars of the epoch."""
        if self._writer is None:
            return
        entry = run.supervisor._history[-1]
        for name, value in entry.items():
            if name != "epoch":
                self._writer.add_scalar(name, float(value), entry["epoch"])

    def on_train_end(self, run: RunView) -> None:  # noqa: ARG002 - signature of the hook
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
