"""Logging to Weights & Biases."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from super_selfish.distributed import rank
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.errors import ConfigurationError, check_argument


class WandbCallback(Callback):
    """Logs settings, and after each epoch all values of the history, to Weights & Biases. Requires the extra ``wandb``.

    A resumed training continues its run. With ``mode="offline"``, or ``WANDB_MODE=offline`` in the environment, the run
    is written to the folder ``wandb`` without network access; ``wandb sync`` uploads it later.

    Args:
        project: Name of the project.
        **options: Further arguments of ``wandb.init``, such as ``mode="offline"``, ``entity``, ``group`` or ``dir``.

    Raises:
        ConfigurationError: If Weights & Biases is not installed, or the name of the project is empty.
    """

    def __init__(self, project: str, **options: Any) -> None:
        check_argument(isinstance(project, str) and bool(project), "project", project, "the name of a project")
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            raise ConfigurationError(
                "Weights & Biases is not installed.",
                fix='Install it from the checkout: pip install "./super-selfish[wandb]".',
            ) from error
        self.project, self.options = project, options
        self._run: Any = None
        self._outer: BaseException | None = None

    def on_train_begin(self, run: RunView) -> None:
        """Start the run, or continue it after a resume."""
        if rank():
            return  # only rank 0 writes
        supervisor = run.supervisor
        settings = supervisor.settings
        self._outer = sys.exc_info()[1]
        identity = {"id": supervisor.run_id, "name": Path(settings.name).name, "resume": "allow"}
        config = {"algorithm": supervisor.algorithm(), **supervisor.hyperparameters(), **settings.as_json()}
        self._run = self._wandb.init(project=self.project, **identity | self.options)
        self._run.config.update(config, allow_val_change=True)  # a resumed training may have more epochs

    def on_epoch_end(self, run: RunView) -> None:
        """Log the values of the epoch."""
        if self._run is not None:
            self._run.log(dict(run.supervisor._history[-1]), step=run.train_state.step)

    def on_train_end(self, run: RunView) -> None:  # noqa: ARG002 - signature of the hook
        """Finish the run; after an error or an interruption, it is marked as failed."""
        if self._run is not None:
            self._run.finish(exit_code=int(sys.exc_info()[1] is not self._outer))
            self._run = None
