"""Writing of checkpoints: the complete training state between two steps."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import RunView
from super_selfish.engine.core.identity import as_json
from super_selfish.engine.core.settings import Settings, interval
from super_selfish.engine.loop.monitored_loader import MonitoredLoader
from super_selfish.engine.loop.restoration import StepWriter
from super_selfish.engine.loop.run import Run
from super_selfish.engine.optim.constants import constructed
from super_selfish.engine.optim.optimizers import flat
from super_selfish.engine.persistence import Persistence
from super_selfish.engine.resumption import Resumption, kind, present_keys, states
from super_selfish.errors import CheckpointError
from super_selfish.storage.checkpoint_folder import CheckpointFolder
from super_selfish.storage.codec import encode

logger = logging.getLogger("super_selfish")


class EpochLoader(MonitoredLoader):
    """The data loader that ``_epochs`` receives. A custom ``_epochs`` may run code after each pass over it.

    Args:
        run: The run.
        begin: Called at the beginning of each pass, when such code has run.
    """

    def __init__(self, run: Run, begin: Callable[[], None]) -> None:
        super().__init__(run)
        self._begin = begin

    def __iter__(self) -> Iterator[Any]:
        self._begin()
        yield from super().__iter__()


class HistoryRecord:
    """The history as JSON text. Only entries that have changed are encoded again, as a long training has many.

    Attributes:
        kinds: One entry for each set of columns.
    """

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self.kinds: dict[tuple[str, ...], dict[str, Any]] = {}

    def update(self, history: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        """Return the JSON text of a history as a tensor of bytes."""
        pairs = zip(self._entries, history, strict=False)
        same = next((number for number, (known, entry) in enumerate(pairs) if known != entry), None)
        same = min(len(self._entries), len(history)) if same is None else same
        del self._entries[same:], self._texts[same:]
        for entry in history[same:]:
            self._entries.append(dict(entry))
            self._texts.append(json.dumps(as_json(dict(entry))))
            self.kinds.setdefault(tuple(entry), dict(entry))
        return torch.frombuffer(bytearray(f"[{', '.join(self._texts)}]".encode()), dtype=torch.uint8)


class Checkpointer(StepWriter):
    """Writes checkpoints to ``NAME.ckpt`` at the checkpoint interval, between two steps.

    Args:
        supervisor: The supervisor that is trained.
        base: Path of the output files, without suffix.
        settings: Settings of the run.
        optimizer: The optimizer, before the first step.
        scheduler: The learning rate schedule.
        resumed: The checkpoint that the run resumes from, or None.

    Attributes:
        stored_step: Step of the newest checkpoint of this training, or None.
    """

    run: Run  # set before training begins

    def __init__(
        self,
        supervisor: SupervisorBase,
        base: Path,
        settings: Settings,
        optimizer: Any,
        scheduler: Any,
        resumed: Resumption | None,
    ) -> None:
        self.supervisor = supervisor
        self.scheduler = scheduler
        self.constants = supervisor._constants | constructed(flat(optimizer), flat(scheduler))
        self.settings = settings
        self.folder = CheckpointFolder(base)
        self.steps, self.seconds = interval(settings.checkpoint_every)
        self.start_epoch = supervisor._train_state.epoch if resumed is None else resumed.start_epoch
        self.written = supervisor._train_state.step
        self.stored_step = None if resumed is None else self.written
        self.moment = time.monotonic()
        self.fresh = resumed is None and not self._continues()
        if self.fresh and self.wanted:
            supervisor._run_id = secrets.token_hex(8)
        self.tried = self.checked = self.waiting = self.reported = False
        self.history = HistoryRecord()

    @property
    def wanted(self) -> bool:
        """Whether checkpoints are enabled."""
        return self.settings.checkpoint_every != 0

    def _continues(self) -> bool:
        """Whether the newest checkpoint is an earlier state of this supervisor, or there is none."""
        steps = self.folder.steps()
        if not steps:
            return True
        if steps[0] > self.supervisor._train_state.step:
            return False
        try:
            newest = self.folder.newest_valid("size")
        except CheckpointError:  # all are damaged, which does not prevent training
            return False
        return newest is not None and newest.manifest.get("run") == self.supervisor._run_id

    def on_train_begin(self, run: RunView) -> None:  # noqa: ARG002 - signature of callbacks
        """Remove incomplete files, and log what happens to an older training."""
        if not self.wanted:
            return
        self.folder.clean()
        if self.fresh:
            logger.warning(
                "`%s` holds an older training. It is moved to `%s` after the first step of this one. "
                'To continue it instead, call supervise(..., resume="auto").',
                self.folder.path,
                self.folder.previous,
            )

    def on_step_end(self, run: RunView) -> None:  # noqa: ARG002 - signature of callbacks
        """Write a checkpoint if it is due. At the end of an epoch, :meth:`on_epoch_end` writes it."""
        if not self.checked:  # all stages have run
            self.checked = True
            self.supervisor._deferred.check_all_loaded(str(self.folder.path.with_suffix("")))
        first = self.wanted and not self.tried
        if first:  # fail early if state cannot be stored
            self.tried = True
            encode(self.parts(), "state")
        if not self.run.epoch_ended and (self._due() or (first and self.fresh)):  # do not resume the older one
            self.write()

    def on_epoch_end(self, run: RunView) -> None:  # noqa: ARG002 - signature of callbacks
        """Write a checkpoint if it is due; with a custom ``_epochs``, after its code at the end of the epoch."""
        if self.settings.checkpoint_every is None or self._due():
            self.waiting = not self.supervisor.accumulates
            if not self.waiting:
                self.write()

    def catch_up(self) -> None:
        """Write the checkpoint that was delayed until a custom ``_epochs`` begins the next pass."""
        self.run.restoration.undo_restored()
        if self.waiting and self.run.loader.between_steps:
            self.write()
        self.waiting = False

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of this run after a step, because the later steps were undone.

        Args:
            step: ``train_state.step`` from which training continues.
        """
        self.waiting = False
        if self.written > step:
            self.folder.clean(after=step)
            self.written, self.stored_step = step, next(iter(self.folder.steps()), None)

    def _due(self) -> bool:
        if self.steps:
            return self.supervisor._train_state.step % self.steps == 0
        return self.seconds > 0 and time.monotonic() - self.moment >= self.seconds

    def write(self) -> None:
        """Write a checkpoint unless this step is already stored. A failure, such as a full disk, logs a warning."""
        if not self.wanted or self.written == self.run.train_state.step:
            return
        self._report_untracked()
        run, parts = self.run, self.parts()
        manifest = Persistence(self.supervisor).manifest(history=list(self.history.kinds.values())) | {"history": []}
        try:
            self.folder.write(run.train_state.step, parts, manifest, self.settings.keep, fresh=self.fresh)
        except CheckpointError as error:
            logger.warning("Training continues without a checkpoint of step %d. %s", run.train_state.step, error)
            return
        finally:
            self.moment = time.monotonic()
        self.written = self.stored_step = run.train_state.step

    def _report_untracked(self) -> None:
        """Warn once about optimizers whose state is not stored in checkpoints."""
        tracked = self.supervisor._tracked.values()
        untracked = [each for each in self.run.updates.seen if not any(each is thing for thing in tracked)]
        if untracked and not self.reported:
            self.reported = True
            logger.warning(
                "Checkpoints do not contain the state of %s: it is lost on resume. Return the optimizer from "
                "`_init_data_optimizer`, or call self.track(name, optimizer) before training.",
                kind(untracked),
            )

    def parts(self) -> dict[str, Any]:
        """Return the complete state that the next step depends on, by name."""
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
                "constants": self.constants,
                "losses": None if losses.total is None else losses.total.detach(),
                "count": losses.count,
                "logs": {name: [float(total), count] for name, (total, count) in losses.logs.items()},
                "skipped": dict(run.loader.skipped),
                "precision": run.precision.state_dict(),
                "skipped_updates": run.guard.skipped,
            },
            "tracked": {name: thing.state_dict() for name, thing in self.supervisor._tracked.items()},
            "history": {"text": self.history.update(self.supervisor._history)},
            "images": {"keys": None if keys is None else torch.from_numpy(keys.copy())},
        }
