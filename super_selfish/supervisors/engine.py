"""What ``supervise`` does around the stages: loader, memory, hooks, and what is stored in which case."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from super_selfish.data.buffers import Buffers
from super_selfish.data.collate import Batch, Collate, batched_collate, to_device
from super_selfish.data.foreign import ForeignLoader
from super_selfish.data.loader import TrainLoader
from super_selfish.errors import ConfigurationError, NonFiniteLoss
from super_selfish.files import SUFFIX, base_path, check_writable, with_suffix
from super_selfish.models.backbones import channels_last_is_safe
from super_selfish.seeding import global_seed, make_key, seed_everything
from super_selfish.supervisors import checkpoints, persistence
from super_selfish.training.artefact import stored_steps
from super_selfish.training.memory import TRANSIENT, activation_bytes, available_bytes, pieces_that_fit
from super_selfish.training.progress import Progress, say
from super_selfish.training.run import Run
from super_selfish.training.settings import Settings

if TYPE_CHECKING:
    from super_selfish.supervisors.base import Supervisor

logger = logging.getLogger("super_selfish")


def train(supervisor: Supervisor, settings: Settings) -> None:
    """Run the stages of ``supervise``; see :meth:`Supervisor.supervise`."""
    base = base_path(settings.name)
    check_writable(base)
    if settings.on_error == "raise" and supervisor._setup.complaint is not None:
        raise supervisor._setup.complaint
    found = checkpoints.find(base, settings)
    supervisor._load_pretrained(settings.name, settings.pretrained and found is None)
    supervisor.settings = settings
    supervisor._setup.fingerprint = None  # the images may be others than last time
    if found is not None:
        checkpoints.adopt(supervisor, found, settings)
    elif supervisor.cursor.batch:  # an interrupted epoch is over: its order and views are not used again
        supervisor.cursor.epoch, supervisor.cursor.batch = supervisor.cursor.epoch + 1, 0
    with own_randomness(settings.seed, supervisor.device):
        loader, optimizer, scheduler = supervisor._init_data_optimizer(
            settings.optimizer,
            settings.batch_size,
            settings.shuffle,
            settings.num_workers,
            supervisor.collate_fn,
            settings.lr,
            settings.lr_scheduler,
        )
        check_factories(supervisor, optimizer, scheduler)
        if not isinstance(loader, TrainLoader):
            loader = ForeignLoader(loader, supervisor.cursor, preparer(supervisor), settings.seed)
        keeper = checkpoints.Checkpoints(supervisor, base, settings, scheduler, found)
        callbacks = [*settings.callbacks, *([Progress()] if settings.verbose else [])]
        planned = keeper.begun_at + settings.epochs - supervisor.cursor.epoch
        run = Run(supervisor, loader, optimizer, max(0, planned), callbacks, settings.on_nonfinite, keeper)
        supervisor._prepare(loader)
        if settings.verbose:
            say(f"{supervisor!r}")
        check_manifest(supervisor)
        if found is not None:
            checkpoints.restore(supervisor, found, run, scheduler)
            if planned <= 0:
                finished(supervisor, run, base)
                return
            logger.info("Continuing after step %d from %s.", supervisor.cursor.step, found.path)
        try:
            execute(supervisor, run, scheduler)
            keeper.write(run)
            store(supervisor, run, base)
        except KeyboardInterrupt:
            store(supervisor, run, base, interrupted=True)
            raise


def execute(supervisor: Supervisor, run: Run, scheduler: Any) -> None:
    """Run the epochs with everything hooked in, and unhook it whatever happens."""
    with contextlib.ExitStack() as undo:
        undo.callback(run.optimizer.zero_grad, set_to_none=True)
        undo.callback(supervisor.eval)
        undo.callback(run.detach)
        undo.callback(supervisor.__dict__.pop, "_forward", None)
        undo.callback(setattr, supervisor, "run", None)
        undo.callback(run.emit, "on_train_end")
        run.attach()
        supervisor.run = run
        supervisor.__dict__["_forward"] = observed(supervisor._forward, run)
        supervisor.train()
        run.emit("on_train_begin")
        supervisor._epochs(run.epochs, run.watched_loader(), run.optimizer, scheduler)
        run.close_boundary()


def finished(supervisor: Supervisor, run: Run, base: Path) -> None:
    """A training that has come to its end: make sure that its weights are stored too."""
    supervisor.eval()
    logger.info("The training has come to its end at step %d: nothing is left to do.", supervisor.cursor.step)
    if stored_steps(with_suffix(base, SUFFIX)) < supervisor.cursor.step:  # it was killed between the two writes
        run.steps = supervisor.cursor.step
        store(supervisor, run, base)


def observed(forward: Callable[[Any], Tensor], run: Run) -> Callable[[Any], Tensor]:
    """``_forward``, with its losses added to the run's mean."""

    def call(data: Any) -> Tensor:
        loss = forward(data)
        run.observe(loss)
        return loss

    return call


def store(supervisor: Supervisor, run: Run, base: Path, *, interrupted: bool = False) -> None:
    """Store what was trained, if anything was and it is finite; what stood there is kept as ``*.prev``.

    An interrupted run never takes the place of a longer training: it is stored as ``<name>.interrupted`` then.
    """
    verbose = supervisor.settings is not None and supervisor.settings.verbose
    supervisor.skipped |= run.loader.skipped
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


def check_factories(supervisor: Supervisor, optimizer: Any, scheduler: Any) -> None:
    """Make sure that the library's own ``_update`` can drive an optimizer and a schedule.

    Raises:
        ConfigurationError: If a step needs more than the library gives it.
    """
    needy = {"optimizer": torch.optim.LBFGS, "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau}
    for name, made in (("optimizer", optimizer), ("lr_scheduler", scheduler)):
        if supervisor.accumulates and isinstance(made, needy[name]):
            raise ConfigurationError(
                f"`{name}` makes a {type(made).__name__}, whose step() needs an argument.",
                expected="one whose step() needs none, such as Adam, SGD or CosineAnnealingLR",
                received=type(made).__name__,
                fix="Or override `_update`, which calls it.",
            )
    if not hasattr(scheduler, "state_dict"):
        logger.warning("The schedule has no state_dict(): a resumed training begins it anew.")


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


def make_loader(
    supervisor: Supervisor, batch_size: int, shuffle: bool, num_workers: int, collate_fn: Collate | None
) -> TrainLoader:
    """The training loader over the supervisor's data set.

    Raises:
        ConfigurationError: If there is no data set.
    """
    settings = supervisor.settings
    if supervisor.dataset is None:
        raise ConfigurationError(
            "There are no images to train on.",
            expected="a folder, a data set, an array or a tensor",
            received="dataset=None",
            fix=f'For instance {type(supervisor).__name__}("photos/").',
        )
    loader = TrainLoader(
        supervisor.dataset,
        batch_size,
        supervisor.cursor,
        preparer(supervisor),
        shuffle=shuffle,
        num_workers=num_workers,
        collate_fn=own_collate(supervisor, collate_fn),
        seed=0 if settings is None else settings.seed,
        on_error="raise" if settings is None else settings.on_error,
        pin=supervisor.device.type == "cuda",
    )
    wanted = 1 if settings is None else settings.accumulate
    if wanted > 1 and not supervisor.accumulates:
        raise ConfigurationError(
            "`accumulate` needs the library's own `_epochs` and `_update`.",
            received=f"accumulate={wanted}, and an override of one of them",
            fix="Add up the gradients of several batches in the override itself.",
        )
    if wanted > 1 and not supervisor.decomposable:
        raise ConfigurationError(
            "`accumulate` would change the loss: here the images of a batch are each other's negatives.",
            received=f"accumulate={wanted}",
            fix="Lower `batch_size`, or train with a queue.",
        )
    loader.pieces = min(loader.batch_size, max(wanted, pieces_for_memory(supervisor, loader.batch_size)))
    return loader


def own_collate(supervisor: Supervisor, collate_fn: Collate | None) -> Collate | None:
    """A user's own collation; None where the data set's is ours."""
    return None if collate_fn is batched_collate and getattr(supervisor.dataset, "batched", False) else collate_fn


def pieces_for_memory(supervisor: Supervisor, batch_size: int) -> int:
    """In how many micro-batches a batch fits the device's memory; says so if that is more than one."""
    if supervisor._setup.images is None:
        return 1  # what the network sees is only known to the user's own data set
    available = available_bytes(supervisor.device)
    shape = supervisor.preprocessing
    trained = {id(parameter) for parameter in supervisor.trainable_parameters()}
    if available is None or not any(id(p) in trained for p in supervisor.model.backbone.parameters()):
        return 1
    try:
        height, width = supervisor.seen_size or shape.resolution
        one = activation_bytes(supervisor.model, shape.channels, (height, width))
    except Exception:  # a network that takes only what the pretext makes of the images
        logger.debug("The memory of a step cannot be estimated.", exc_info=True)
        return 1
    each = supervisor.images_per_sample * one
    pieces = pieces_that_fit(batch_size, each, available)
    if pieces == 1:
        return 1
    wanted = TRANSIENT * each * batch_size
    needed = f"A batch of {batch_size} needs about {wanted / 1e9:.1f} GB of {available / 1e9:.1f} GB free"
    if not supervisor.accumulates or not supervisor.decomposable:
        logger.warning("%s, and may not fit: lower batch_size.", needed)
        return 1
    logger.warning(
        "%s: it is drawn in %d micro-batches of at most %d, whose gradients add up. Batch norm sees each alone.",
        needed,
        pieces,
        -(-batch_size // pieces),
    )
    return pieces


def preparer(supervisor: Supervisor) -> Callable[[Batch], Any]:
    """From a CPU batch to what ``_forward`` gets: on the device, scaled, normalised."""
    device, preprocessing = supervisor.device, supervisor.preprocessing
    finish = None if channels_last_is_safe(supervisor) else Tensor.contiguous
    buffers = Buffers()
    return lambda batch: to_device(batch, device, preprocessing, finish, buffers)


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block all global generators are keyed by the seed; the user's are restored afterwards."""
    key = make_key(seed, "run")
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), global_seed(key):
        seed_everything(key)
        yield
