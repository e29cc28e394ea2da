"""What ``supervise`` does around the stages: hooks, and what is stored in which case."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from super_selfish.distributed import rank, same_everywhere
from super_selfish.distributed.norms import global_norms
from super_selfish.engine import checkpointer as checkpoints
from super_selfish.engine import persistence, processes, resumption
from super_selfish.engine.callbacks.diagnosis import advice
from super_selfish.engine.callbacks.progress import Progress, say
from super_selfish.engine.callbacks.quality import HistoryFile
from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.loading import data_and_optimizer
from super_selfish.engine.loop.run import Run
from super_selfish.engine.loop.signals import Stop, requeue, slurm_job
from super_selfish.engine.optim import tuning
from super_selfish.engine.optim.averaging import averaging
from super_selfish.engine.performance import compiled, guard_of, memory_advice, precision_of, watches
from super_selfish.errors import ConfigurationError, DataError, NonFiniteLoss, Preempted, WorkerHung, WorkerKilled
from super_selfish.files import SUFFIX, base_path, check_writable, with_suffix
from super_selfish.loading.loader import TrainLoader
from super_selfish.seeding import global_seed, make_key, seed_everything
from super_selfish.storage.inspection import weights_at
from super_selfish.storage.weights_file import stored_steps

if TYPE_CHECKING:
    from super_selfish.engine.supervisor import Supervisor
    from super_selfish.storage.checkpoint import StoredCheckpoint

logger = logging.getLogger("super_selfish")


def train(supervisor: Supervisor, settings: Settings) -> None:
    """Run the stages of ``supervise``; see :meth:`Supervisor.supervise`."""
    base = base_path(settings.name)
    group, gpu = processes.take_part(supervisor)
    processes.check_alike(supervisor, settings)
    settings = processes.share(settings)
    if group.is_first:
        processes.log_device(gpu, settings.verbose)
        check_writable(base)
    if settings.requeue:
        slurm_job()
    if settings.on_error == "raise" and supervisor._setup.complaint is not None:
        raise supervisor._setup.complaint
    precision = precision_of(supervisor, settings)
    with (
        processes.lock_of(base) as lock,
        own_randomness(settings.seed, supervisor.device),
        precision.applied(supervisor),
    ):
        found = resumption.find(base, settings)
        processes.check_same_step(found)
        settings = begin(supervisor, settings, found)
        loader, optimizer, scheduler = data_and_optimizer(supervisor, settings)
        keeper = checkpoints.Checkpoints(supervisor, base, settings, scheduler, found)
        planned = keeper.begun_at + settings.epochs - supervisor.cursor.epoch
        run = Run(
            supervisor,
            loader,
            optimizer,
            max(0, planned),
            told_of(supervisor, loader, settings, base, lock),
            checkpointer=keeper,
            precision=precision,
            guard=guard_of(supervisor, settings),
            averaging=averaging(supervisor, settings.polyak),
        )
        supervisor._prepare(loader)
        if settings.verbose:
            say(f"{supervisor!r}")
        check_manifest(supervisor)
        if found is not None:
            resumption.restore(supervisor, found, run, scheduler)
            if planned <= 0:
                finished(supervisor, run, base)
                processes.meet()
                return
            logger.info("Continuing after step %d from %s.", supervisor.cursor.step, found.path)
        processes.meet()
        carry_out(supervisor, run, scheduler, base)


def told_of(
    supervisor: Supervisor, loader: TrainLoader, settings: Settings, base: Path, lock: Callback
) -> list[Callback]:
    """Everybody who hears of steps and epochs, in this order."""
    callbacks = [lock, *watches(supervisor, loader, settings), *settings.callbacks]
    callbacks += [HistoryFile(base)] if rank() == 0 else []
    return callbacks + ([Progress()] if settings.verbose else [])


def begin(supervisor: Supervisor, settings: Settings, found: StoredCheckpoint | None) -> Settings:
    """Take up weights and counts where they are to be found, and settle what a recipe says."""
    supervisor._load_pretrained(settings.name, settings.pretrained and found is None)
    supervisor.settings = settings = tuning.resolve(supervisor, settings, resumed=found is not None)
    supervisor._setup.fingerprint = None  # the images may be others than last time
    if found is not None:
        resumption.adopt(supervisor, found, settings)
    elif supervisor.cursor.batch:  # an interrupted epoch is over: its order and views are not used again
        supervisor.cursor.epoch, supervisor.cursor.batch = supervisor.cursor.epoch + 1, 0
    same_everywhere(supervisor.state_dict().values())
    return settings


def carry_out(supervisor: Supervisor, run: Run, scheduler: Any, base: Path) -> None:
    """Train and store, also where a signal asks to stop."""
    with Stop() as run.stop:
        try:
            execute(supervisor, run, scheduler)
            run.loader.skipped = processes.together(run.loader.skipped)
            run.checkpointer.write(run)
            store(supervisor, run, base)
            processes.meet()
            if run.steps and supervisor.settings is not None and supervisor.settings.verbose:
                for said in advice(supervisor.history, supervisor._expectation()):
                    say(said)
        except (KeyboardInterrupt, Preempted):
            leave(supervisor, run, base)
            raise
        except (DataError, WorkerHung, WorkerKilled):  # the images are to blame: between two steps, all else is whole
            if run.steps and run.loader.between_steps:
                run.checkpointer.write(run)
            raise
        run.stop.obey()


def leave(supervisor: Supervisor, run: Run, base: Path) -> None:
    """Store what there is of a run that was asked to stop."""
    if run.stop.at_once:
        logger.warning("Left at once: nothing was stored since the last checkpoint.")
        return
    if run.loader.between_steps:
        run.checkpointer.write(run)
    store(supervisor, run, base, interrupted=True)
    if run.stop.received not in (None, Signals.SIGINT):
        logger.warning(
            'Stopped by %s after step %d. supervise(..., resume="auto") continues from here.',
            Signals(run.stop.received).name,
            run.cursor.step,
        )
        if supervisor.settings is not None and supervisor.settings.requeue and rank() == 0:
            requeue()


def execute(supervisor: Supervisor, run: Run, scheduler: Any) -> None:
    """Run the epochs with everything hooked in, and unhook it whatever happens."""
    with contextlib.ExitStack() as undo:
        undo.callback(run.optimizer.zero_grad, set_to_none=True)
        undo.callback(supervisor.eval)
        undo.callback(run.detach)
        undo.callback(supervisor.__dict__.pop, "_forward", None)
        undo.callback(setattr, supervisor, "run", None)
        undo.callback(run.emit, "on_train_end")
        undo.enter_context(memory_advice(supervisor, run))
        if supervisor.settings is not None and supervisor.settings.sync_bn:
            undo.enter_context(global_norms(supervisor))
        undo.enter_context(compiled(supervisor))
        run.attach()
        supervisor.run = run
        supervisor.__dict__["_forward"] = observed(supervisor._forward, run)
        supervisor.train()
        run.emit("on_train_begin")
        supervisor._epochs(run.epochs, run.watched_loader(), run.optimizer, scheduler)
        run.report()


def finished(supervisor: Supervisor, run: Run, base: Path) -> None:
    """A training that has come to its end: make sure that its weights are stored too."""
    supervisor.eval()
    if rank():
        return  # the first process writes
    step, verbose = supervisor.cursor.step, supervisor.settings is not None and supervisor.settings.verbose
    told = f"The training has had its epochs, at step {step}: nothing is left to do. More `epochs` continue it."
    if verbose:
        say(told)
    weights = weights_at(base)
    if weights is None or not weights.whole or weights.steps < step:  # damaged, or it was killed between the writes
        run.steps = supervisor.cursor.step
        store(supervisor, run, base)


def observed(forward: Callable[[Any], Tensor], run: Run) -> Callable[[Any], Tensor]:
    """``_forward``, with its losses added to the run's mean."""

    def call(data: Any) -> Tensor:
        if run.loader.between_steps:  # a loop of the user's that does not read our loader
            run.close_boundary()
        loss = forward(data)
        run.observe(loss)
        return loss

    return call


def store(supervisor: Supervisor, run: Run, base: Path, *, interrupted: bool = False) -> None:
    """Store what was trained, if anything was and it is finite; what stood there is kept as ``*.prev``.

    An interrupted run never takes the place of a longer training: it is stored as ``<name>.interrupted`` then.
    """
    supervisor.skipped |= run.loader.skipped
    if rank():
        return  # the first process writes
    verbose = supervisor.settings is not None and supervisor.settings.verbose
    if run.loader.skipped:
        logger.warning("%d unreadable images were skipped: see `supervisor.skipped`.", len(run.loader.skipped))
    if run.steps == 0:
        logger.warning("Nothing was trained, so nothing was stored under %s.", base)
        return
    broken = [name for name, value in supervisor.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        message = (
            f"The weights are not finite after {run.steps} steps, so they were not stored: {', '.join(broken[:4])}."
        )
        if interrupted:
            logger.error(message)
            return
        raise NonFiniteLoss(message, fix="Files under this name are unchanged. Lower `lr`, or set `clip_grad=1.0`.")
    if interrupted and stored_steps(with_suffix(base, SUFFIX)) > supervisor.cursor.step:
        base = with_suffix(base, ".interrupted")
    path = persistence.save(supervisor, base, keep=not run.stored)
    run.stored = True
    if interrupted:
        logger.warning("Interrupted: the weights after %d steps were stored in %s.", run.steps, path)
    elif verbose:
        say(f"Stored in {path}.")


def check_manifest(supervisor: Supervisor) -> None:
    """Make sure, before training, that what will be written can be written.

    Raises:
        ConfigurationError: If an argument has no JSON form.
    """
    names = persistence.public_state(supervisor)
    if len(names) < len(supervisor.state_dict()):
        raise ConfigurationError(
            "Two parts of the supervisor would have the same name in the file.",
            expected="no attribute called backbone or predictor beside those of `model`",
            received=", ".join(sorted(set(supervisor._modules) & set(persistence.NETWORKS))),
        )
    try:
        json.dumps(persistence.manifest(supervisor))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The settings cannot be stored: {error}.",
            expected="numbers, words, lists and tuples as plain arguments",
            received=repr(supervisor),
        ) from error


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block all global generators are keyed by the seed; the user's are restored afterwards."""
    key = make_key(seed, "run")
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), global_seed(key):
        seed_everything(key)
        yield
