"""The whole state of a training, written between steps."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.engine.core.settings import Settings, interval
from super_selfish.engine.loop.monitored_loader import MonitoredLoader
from super_selfish.engine.loop.run import Run
from super_selfish.engine.optim.optimizers import flat
from super_selfish.engine.persistence import Persistence
from super_selfish.engine.resumption import Resumption, kind, present_keys, states
from super_selfish.errors import CheckpointError
from super_selfish.storage.checkpoint_folder import CheckpointFolder
from super_selfish.storage.codec import encode

logger = logging.getLogger("super_selfish")


class EpochLoader(MonitoredLoader):
    """The loader that an own ``_epochs`` iterates: what it does after a pass still belongs to the epoch.

    Args:
        run: The run.
        begin: Called at the beginning of each pass.
    """

    def __init__(self, run: Run, begin: Callable[[], None]) -> None:
        super().__init__(run)
        self._begin = begin

    def __iter__(self) -> Iterator[Any]:
        self._begin()
        yield from super().__iter__()


class Checkpointer(Callback):
    """Writes ``NAME.ckpt`` when it is time, between two steps.

    Args:
        supervisor: What is trained.
        base: The path without suffix.
        settings: Of the run.
        scheduler: Of the learning rate.
        resumed: What the run continues from.
    """

    run: Run  # set before the training begins

    def __init__(
        self, supervisor: SupervisorBase, base: Path, settings: Settings, scheduler: Any, resumed: Resumption | None
    ) -> None:
        self.supervisor = supervisor
        self.scheduler = scheduler
        self.settings = settings
        self.folder = CheckpointFolder(base)
        self.steps, self.seconds = interval(settings.checkpoint_every)
        self.start_epoch = supervisor._train_state.epoch if resumed is None else resumed.start_epoch
        self.written = supervisor._train_state.step
        self.moment = time.monotonic()
        self.fresh = resumed is None and not self._continues()
        self.tried = self.checked = self.waiting = self.reported = False

    @property
    def wanted(self) -> bool:
        """Whether anything is ever written."""
        return self.settings.checkpoint_every != 0

    def _continues(self) -> bool:
        """Whether the newest checkpoint is of this supervisor's own past."""
        steps = self.folder.steps()
        if not steps:
            return True
        if steps[0] > self.supervisor._train_state.step:
            return False
        try:
            newest = self.folder.newest_valid("size")
        except CheckpointError:  # none is whole: that is no reason not to train
            return False
        return newest is not None and newest.manifest.get("run") == self.supervisor._run_id

    def on_train_begin(self, run: RunView) -> None:  # noqa: ARG002 - the protocol's
        """Tidy up, and say what becomes of an older training."""
        if not self.wanted:
            return
        self.folder.clean()
        if self.fresh:
            self.supervisor._run_id = secrets.token_hex(8)
            logger.warning(
                "`%s` holds an older training: it becomes `%s` after the first step of this one. "
                'To continue it instead, call supervise(..., resume="auto").',
                self.folder.path,
                self.folder.previous,
            )

    def on_step_end(self, run: RunView) -> None:  # noqa: ARG002 - the protocol's
        """Write if it is time, unless the epoch has ended, which is not closed yet."""
        if not self.checked:  # every stage has had its turn
            self.checked = True
            self.supervisor._deferred.check_all_loaded(str(self.folder.path.with_suffix("")))
        first = self.wanted and not self.tried
        if first:  # what cannot be stored is found after one step, not after hours
            self.tried = True
            encode(self.parts(), "state")
        if not self.run.epoch_ended and (self._due() or (first and self.fresh)):  # nobody shall continue the older one
            self.write()

    def on_epoch_end(self, run: RunView) -> None:  # noqa: ARG002 - the protocol's
        """Write if it is time; with an own ``_epochs`` once what it does after an epoch is done."""
        if self.settings.checkpoint_every is None or self._due():
            self.waiting = not self.supervisor.accumulates
            if not self.waiting:
                self.write()

    def catch_up(self) -> None:
        """Write what waited for the end of an epoch in an own ``_epochs``: it goes on to the next one."""
        if self.waiting and self.run.loader.between_steps:
            self.write()
        self.waiting = False

    def _due(self) -> bool:
        if self.steps:
            return self.supervisor._train_state.step % self.steps == 0
        return self.seconds > 0 and time.monotonic() - self.moment >= self.seconds

    def write(self) -> None:
        """Store the state as it is, unless it is stored already; a full disk is a warning."""
        if not self.wanted or self.written == self.run.train_state.step:
            return
        self._report_untracked()
        run, manifest = self.run, Persistence(self.supervisor).manifest()
        try:
            self.folder.write(run.train_state.step, self.parts(), manifest, self.settings.keep, fresh=self.fresh)
        except CheckpointError as error:
            logger.warning("Training goes on without a checkpoint of step %d. %s", run.train_state.step, error)
            return
        finally:
            self.moment = time.monotonic()
        self.written = run.train_state.step

    def _report_untracked(self) -> None:
        """Warn once of optimizers whose state no checkpoint holds."""
        tracked = self.supervisor._tracked.values()
        untracked = [each for each in self.run.updates.seen if not any(each is thing for thing in tracked)]
        if untracked and not self.reported:
            self.reported = True
            logger.warning(
                "Checkpoints do not hold the state of %s: a resumed training starts it over. Return the optimizer from "
                "`_init_data_optimizer`, or call self.track(name, optimizer) before training.",
                kind(untracked),
            )

    def parts(self) -> dict[str, Any]:
        """Everything that the next step depends on, by name."""
        run = self.run
        losses = run.losses
        keys = present_keys(self.supervisor)
        return {
            "model": Persistence(self.supervisor).tensors(),
            "optimizer": states(run.optimizers),
            "scheduler": states(flat(self.scheduler)),
            "run": {
                "kinds": [kind(run.optimizers), kind(flat(self.scheduler))],
                "pieces": run.loader.micro_batches,
                "begun_at": self.start_epoch,
                "losses": None if losses.total is None else losses.total.detach(),
                "count": losses.count,
                "logs": {name: [float(total), count] for name, (total, count) in losses.logs.items()},
                "skipped": dict(run.loader.skipped),
                "precision": run.precision.state_dict(),
                "skipped_updates": run.guard.skipped,
            },
            "tracked": {name: thing.state_dict() for name, thing in self.supervisor._tracked.items()},
            "images": {"keys": None if keys is None else torch.from_numpy(keys.copy())},
        }
