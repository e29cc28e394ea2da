"""A training in TensorBoard."""

from __future__ import annotations

import os
from typing import Any

from super_selfish.distributed import rank
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.errors import ConfigurationError


class TensorBoard(Callback):
    """Writes every number of the history to TensorBoard, on the axis of epochs. Needs the extra ``tensorboard``.

    Args:
        folder: For ``tensorboard --logdir``.

    Raises:
        ConfigurationError: If TensorBoard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigurationError(
                "TensorBoard is not installed.", fix='Install it: pip install "super-selfish[tensorboard]".'
            ) from error
        self._make: Any = SummaryWriter
        self._writer: Any = None
        self.folder = os.fspath(folder)

    def on_train_begin(self, run: RunView) -> None:
        """Open the file; a training that continues leaves out what it does again."""
        if rank():
            return  # the first process writes
        self._writer = self._make(self.folder, purge_step=run.train_state.epoch + 1)

    def on_epoch_end(self, run: RunView) -> None:
        """Write the epoch's entry."""
        if self._writer is None:
            return
        entry = run.supervisor._history[-1]
        for name, value in entry.items():
            if name != "epoch":
                self._writer.add_scalar(name, float(value), entry["epoch"])

    def on_train_end(self, run: RunView) -> None:  # noqa: ARG002 - the protocol's
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
