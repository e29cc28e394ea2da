"""The training procedure around the five stages: setup, hooks, and saving at the end or on an interruption."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from signal import Signals
from typing import Any

import torch

from super_selfish.distributed import rank, same_everywhere
from super_selfish.distributed.norms import global_norms
from super_selfish.engine import processes, resumption, tuning
from super_selfish.engine.callbacks.diagnostics import diagnose
from super_selfish.engine.callbacks.displays import print_advice, print_line
from super_selfish.engine.callbacks.progress import HistoryFile, Progress
from super_selfish.engine.checkpointer import Checkpointer, EpochLoader
from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.followers import Followers
from super_selfish.engine.core.non_networks import record_initial_state
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.loop.averaging import averaging
from super_selfish.engine.loop.compilation import compiled
from super_selfish.engine.loop.forward import check_networks, observed
from super_selfish.engine.loop.frozen_norms import keep_norms_frozen
from super_selfish.engine.loop.memory import explained_memory_errors
from super_selfish.engine.loop.plan import EndOfTraining
from super_selfish.engine.loop.precision import Precision
from super_selfish.engine.loop.run import Run
from super_selfish.engine.loop.signals import Stop, requeue, slurm_job
from super_selfish.engine.optim.optimizers import flat
from super_selfish.engine.persistence import Persistence
from super_selfish.engine.resumption import Resumption
from super_selfish.engine.run_builder import RunBuilder
from super_selfish.engine.trained import Trained, store
from super_selfish.errors import DataError, NonFiniteLoss, Preempted, WorkerHung, WorkerKilled
from super_selfish.files import SUFFIX, base_path, check_writable, with_suffix
from super_selfish.models.combined import tensors_of
from super_selfish.seeding import keyed_randomness
from super_selfish.storage.checkpoint import StoredCheckpoint
from super_selfish.storage.inspection import weights_at
from super_selfish.storage.weights_file import trained_steps

logger = logging.getLogger("super_selfish")


class Trainer:
    """One call of ``supervise``: owns its settings, loader, optimizer, schedule, callbacks and checkpoints.

    Args:
        supervisor: The supervisor that is trained.
        settings: The arguments of ``supervise``.
    """

    run: Run
    optimizer: Any
    scheduler: Any
    checkpointer: Checkpointer

    def __init__(self, supervisor: Trained, settings: Settings) -> None:
        self.supervisor = supervisor
        self.settings = settings
        self.base = base_path(settings.name)
        self.persistence = Persistence(supervisor)

    def train(self) -> None:
        """Run the stages; see :meth:`Supervisor.supervise`."""
        supervisor, base = self.supervisor, self.base
        self._join()
        custom_update = not supervisor.uses_default_update
        precision = Precision(self.settings.precision, supervisor.device, custom_update=custom_update)
        with (
            processes.training_lock(base) as lock,
            keyed_randomness(self.settings.seed, supervisor.device),
            precision.applied(supervisor),
            supervisor._deferred.during_run(supervisor),
        ):
            found = resumption.find(base, self.settings)
            processes.check_same_step(found)
            resumed = self._begin(found)
            builder = RunBuilder(supervisor, self.settings)
            loader, self.optimizer, self.scheduler = builder.data_and_optimizer()
            processes.check_same_parameters(supervisor, flat(self.optimizer))
            supervisor._deferred.load_pending(supervisor)
            self.checkpointer = Checkpointer(supervisor, base, self.settings, self.optimizer, self.scheduler, resumed)
            resumed_epochs = supervisor._train_state.epoch - self.checkpointer.start_epoch
            planned = self.settings.epochs - resumed_epochs
            self.run = run = Run(
                supervisor,
                loader,
                flat(self.optimizer),
                max(0, planned),
                self._callbacks([lock, *builder.monitors(loader)]),
                start_epoch=self.checkpointer.start_epoch,
                checkpointer=self.checkpointer,
                precision=precision,
                guard=builder.guard(),
                averaging=averaging(supervisor, self.settings.polyak),
                resumed_epochs=resumed_epochs,
            )
            self.checkpointer.run = run
            supervisor._prepare(loader)
            supervisor._deferred.load_pending(supervisor)
            if self.settings.verbose:
                print_line(f"{supervisor!r}")
            self.persistence.check()
            if resumed is not None:
                resumed.restore(run, self.scheduler)
                if planned <= 0:
                    self._finish()
                    processes.barrier()
                    return
                if self.settings.verbose:
                    print_line(f"Resuming {base}: {run.describe_resumption()}")
            processes.barrier()
            self._carry_out()

    def _join(self) -> None:
        """Join the other processes, if any, and run the checks that need no files."""
        supervisor = self.supervisor
        check_networks(supervisor)
        record_initial_state(supervisor)
        group, gpu = processes.join_processes(supervisor)
        processes.check_same_settings(
            self.settings.as_json()
            | {
                "sync_bn": self.settings.sync_bn,
                "step": supervisor._train_state.step,
                "device": supervisor.device.type,
                "images": len(supervisor.dataset) if hasattr(supervisor.dataset, "__len__") else None,
                **processes.tensors_in_order(supervisor.state_dict(keep_vars=True)),
            }
        )
        self.settings = processes.local_settings(self.settings)
        if group.is_first:
            processes.log_device(gpu, self.settings.verbose)
            check_writable(self.base)
        if self.settings.requeue:
            slurm_job()
        if self.settings.on_error == "raise":
            supervisor.check_readable()

    def _callbacks(self, first: Sequence[Callback]) -> list[Callback]:
        """Return the callbacks of the run, in the order of invocation."""
        callbacks = [*first, *self.settings.callbacks]
        callbacks += [HistoryFile(self.base)] if rank() == 0 else []
        return callbacks + ([Progress()] if self.settings.verbose else [])

    def _begin(self, found: StoredCheckpoint | None) -> Resumption | None:
        """Load initial weights or a checkpoint, and resolve the settings of a training recipe."""
        supervisor, settings = self.supervisor, self.settings
        supervisor._load_pretrained(settings.name, settings.pretrained and found is None)
        self.settings = supervisor._settings = tuning.resolve(supervisor, settings, resumed=found is not None)
        supervisor.fingerprint(renew=True)  # the images may have changed
        resumed = None if found is None else Resumption(supervisor, found, self.settings)
        if resumed is not None:
            resumed.adopt()
        elif supervisor._train_state.batch:  # an interrupted epoch ends, so that its order and views are not repeated
            supervisor._train_state.epoch, supervisor._train_state.batch = supervisor._train_state.epoch + 1, 0
        same_everywhere(tensors_of(supervisor).values())
        return resumed

    def _carry_out(self) -> None:
        """Train and save the weights, also when a signal stops the run."""
        run = self.run
        with Stop() as run.stop:
            try:
                self._execute()
                if run.stop_reason and self.settings.verbose:
                    print_line(run.describe_early_end())
                if run.stop_reason and not run.steps:  # it has ended in an earlier call
                    self._finish()
                    return
                run.loader.skipped = processes.merge_skipped(run.loader.skipped)
                self.checkpointer.write()
                self._store()
                processes.barrier()
                if run.steps and self.settings.verbose:
                    expected, images = self.supervisor._expected_loss(), tuning.length(self.supervisor)
                    for text in diagnose(self.supervisor._history, expected, images):
                        print_advice(text)
            except (KeyboardInterrupt, Preempted):
                self._leave()
                raise
            except (DataError, WorkerHung, WorkerKilled):  # the state between two steps is intact
                if run.steps and run.loader.between_steps:
                    self.checkpointer.write()
                raise
            run.stop.handle()

    def _execute(self) -> None:
        """Run the epochs within all hooks and context managers, which are removed in any case."""
        supervisor, run = self.supervisor, self.run
        with contextlib.ExitStack() as undo:
            undo.callback(run.loader.close)
            undo.callback(supervisor.zero_grad, set_to_none=True)
            undo.callback(Followers(supervisor).record_if_trained)
            undo.callback(supervisor.eval)
            undo.callback(run.detach)
            undo.callback(setattr, supervisor, "_run", None)
            undo.callback(run.emit, "on_train_end")
            size = supervisor.preprocessing.resolution
            undo.enter_context(explained_memory_errors(run, supervisor.device, size, supervisor.splits_batches))
            if self.settings.sync_bn:
                undo.enter_context(global_norms(supervisor))
            if self.settings.compile:
                if supervisor.calls_parts:
                    logger.warning(
                        "compile=True: networks whose submodules this algorithm calls separately are not compiled."
                    )
                undo.enter_context(compiled(supervisor.networks()))
            Followers(supervisor).refresh()
            run.attach()
            supervisor._run = run
            undo.enter_context(observed(supervisor, run))
            keep_norms_frozen(supervisor, self.settings.recipe)
            supervisor.zero_grad(set_to_none=True)  # gradients and embeddings of batches before this run
            supervisor._skip_update()
            supervisor.train()
            run.emit("on_train_begin")
            run.share_stop_request()
            loader = EpochLoader(run, self.checkpointer.catch_up)
            with contextlib.suppress(EndOfTraining):
                supervisor._epochs(run.epochs, loader, self.optimizer, self.scheduler)
            run.finish()

    def _leave(self) -> None:
        """Save checkpoint and weights of an interrupted run."""
        run = self.run
        if run.stop.at_once:
            logger.warning("Forced exit. Progress since the last checkpoint is lost.")
            return
        if run.loader.between_steps:
            self.checkpointer.write()
        self._store(interrupted=True)
        received = run.stop.received
        by_signal = received is not None and received != Signals.SIGINT
        what = f"Stopped by {received.name}" if received is not None and by_signal else "Interrupted"
        if rank() == 0:
            logger.warning(run.describe_interruption(what, self.checkpointer.stored_step, self.checkpointer.wanted))
        if by_signal and self.settings.requeue and rank() == 0:
            requeue()

    def _finish(self) -> None:
        """Save the weights of a training that is already complete, if the weights file is missing or older."""
        self.supervisor.eval()
        if rank():
            return  # the first process writes
        step = self.supervisor._train_state.step
        if self.settings.verbose:
            print_advice(f"Training is already complete, at step {step}. Pass more `epochs` to continue it.")
        weights = weights_at(self.base)
        if weights is None or not weights.is_complete or weights.steps < step:  # damaged, or never written
            self.run.steps = step
            self._store()

    def _store(self, *, interrupted: bool = False) -> None:
        """Save the weights if there were steps and all weights are finite. An existing file is renamed to ``*.prev``.

        An interrupted run does not replace a longer training: it is saved as ``<name>.interrupted`` instead.
        """
        supervisor, run, base = self.supervisor, self.run, self.base
        supervisor._skipped |= run.loader.skipped
        if rank():
            return  # the first process writes
        if run.loader.skipped:
            logger.warning(
                "%d unreadable images were skipped; they are named above, and in `supervisor.skipped`.",
                len(run.loader.skipped),
            )
        if run.steps == 0:
            logger.warning("There were no training steps, so no weights were saved to %s.", base)
            return
        if not self._weights_are_finite(interrupted):
            return
        if interrupted and trained_steps(with_suffix(base, SUFFIX)) > supervisor._train_state.step:
            base = with_suffix(base, ".interrupted")
        path = store(supervisor, base, keep=not run.stored)
        run.stored = True
        if interrupted:
            logger.warning("Interrupted after step %d: weights stored in %s.", supervisor._train_state.step, path)
        elif self.settings.verbose:
            print_line(f"Stored in {path}.")

    def _weights_are_finite(self, interrupted: bool) -> bool:
        state = tensors_of(self.supervisor)
        broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
        if not broken:
            return True
        message = (
            f"The weights are not finite after {self.run.steps} steps, so they were not stored: "
            f"{', '.join(broken[:4])}."
        )
        if not interrupted:
            fix = f"`{with_suffix(self.base, SUFFIX)}` is unchanged. Lower `lr`, or set `clip_grad=1.0`."
            raise NonFiniteLoss(message, fix=fix)
        logger.error(message)
        return False
