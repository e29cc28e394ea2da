"""The training loader of a supervisor, and batches that fit its device."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from super_selfish.distributed import world
from super_selfish.distributed.tensors import largest
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.loop.memory import TRANSIENT, activation_bytes, available_bytes, pieces_that_fit
from super_selfish.engine.optim.schedules import Schedule, fit_schedules
from super_selfish.errors import ConfigurationError
from super_selfish.images.buffers import Buffers
from super_selfish.loading.collate import Batch, Collate, batched_collate, to_device
from super_selfish.loading.custom_loader import ForeignLoader
from super_selfish.loading.loader import TrainLoader
from super_selfish.models.backbones import channels_last_is_safe

logger = logging.getLogger("super_selfish")


def make_loader(
    supervisor: SupervisorBase, batch_size: int, shuffle: bool, num_workers: int, collate_fn: Collate | None
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
        collate_fn=own_collate(supervisor.dataset, collate_fn),
        seed=0 if settings is None else settings.seed,
        on_error="raise" if settings is None else settings.on_error,
        pin=supervisor.device.type == "cuda",
        timeout=None if settings is None else settings.worker_timeout,
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
    # processes on GPUs have one each; those on CPUs are taken to share one machine's memory
    seen = loader.batch_size // world() if supervisor.device.type == "cuda" else loader.batch_size
    needed = largest(pieces_for_memory(supervisor, seen))
    if wanted < needed and world() > 1 and loader.batch_size % world() == 0:
        own = loader.batch_size // world()
        needed = next(pieces for pieces in range(min(needed, own), own + 1) if own % pieces == 0)
    loader.pieces = min(loader.batch_size, max(wanted, needed))
    check_shares(loader.batch_size, loader.pieces, world())
    return loader


def check_shares(batch_size: int, pieces: int, processes: int) -> None:
    """Make sure that all processes get as many images of each batch, and of each of its pieces.

    Raises:
        ConfigurationError: If a batch cannot be divided so.
    """
    parts = processes * pieces
    if processes > 1 and batch_size % parts:
        raise ConfigurationError(
            f"A batch of {batch_size} cannot be divided among {processes} processes"
            + (f", each taking it in {pieces} parts." if pieces > 1 else "."),
            expected=f"a batch_size that is a multiple of {parts}: it counts the images of all processes together",
            received=f"batch_size={batch_size}",
            fix=f"For instance batch_size={max(1, batch_size // parts) * parts}.",
        )


def own_collate(dataset: Any, collate_fn: Collate | None) -> Collate | None:
    """A custom collation; None where the library's own is used for the data set."""
    return None if collate_fn is batched_collate and getattr(dataset, "batched", False) else collate_fn


def pieces_for_memory(supervisor: SupervisorBase, batch_size: int) -> int:
    """In how many micro-batches a batch fits the device's memory; says so if that is more than one."""
    if supervisor.image_dataset is None:
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


def preparer(supervisor: SupervisorBase) -> Callable[[Batch], Any]:
    """From a CPU batch to what ``_forward`` gets: on the device, scaled, normalised."""
    device, preprocessing = supervisor.device, supervisor.preprocessing
    finish = None if channels_last_is_safe(supervisor) else Tensor.contiguous
    buffers = Buffers()
    return lambda batch: to_device(batch, device, preprocessing, finish, buffers)


def data_and_optimizer(supervisor: SupervisorBase, settings: Settings) -> tuple[TrainLoader, Any, Any]:
    """What the stage gives, a loader of the user's own made to count."""
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
        if world() > 1 and not isinstance(getattr(loader, "sampler", None), DistributedSampler):
            raise ConfigurationError(
                "Each process would train on the same batches of a loader of your own.",
                expected="the library's loader, or one with a torch.utils.data.DistributedSampler",
                received=type(loader).__name__,
            )
        loader = ForeignLoader(loader, supervisor.cursor, preparer(supervisor), settings.seed)
    length = (settings.epochs, loader.batches, settings.scheduler_interval)
    fit_schedules(scheduler, *length)
    if isinstance(settings.lr_scheduler, Schedule):
        settings.lr_scheduler.set_length(*length)
    return loader, optimizer, scheduler


def check_factories(supervisor: SupervisorBase, optimizer: Any, scheduler: Any) -> None:
    """Make sure that the library's own ``_update`` can drive an optimizer and a schedule.

    Raises:
        ConfigurationError: If a step needs more than the library gives it.
    """
    needy = {"optimizer": torch.optim.LBFGS, "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau}
    scaled = supervisor.settings is not None and supervisor.settings.precision == "16"
    if scaled and any(group.get("fused") for group in getattr(optimizer, "param_groups", ())):
        raise ConfigurationError(
            "A fused optimizer does not tell which steps it leaves out.",
            expected='an optimizer that is not fused with precision="16", or precision="bf16"',
            received=f"{type(optimizer).__name__}(fused=True)",
        )
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
