"""What makes a run fast, and what is said where it cannot be: precision, compilation, memory, cost."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import torch

from super_selfish.engine.callbacks.forecast import Conditions, Forecaster, usable_cores
from super_selfish.engine.callbacks.monitors import CollapseMonitor, FeatureMonitor, as_probe, monitored_count
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.loop.guard import Guard
from super_selfish.engine.loop.precision import Precision
from super_selfish.engine.loop.run import Run
from super_selfish.errors import ConfigurationError, OutOfMemory
from super_selfish.loading.loader import TrainLoader
from super_selfish.pretext.base import PretextDataset

logger = logging.getLogger("super_selfish")

_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")


def precision_of(supervisor: SupervisorBase, settings: Settings) -> Precision:
    """The precision of a run.

    Raises:
        ConfigurationError: If the device, or a user's own update, cannot work with it.
    """
    precision = Precision(settings.precision, supervisor.device)
    if precision.scaler is not None and not supervisor.updates_as_planned:
        raise ConfigurationError(
            'precision="16" needs the library\'s own `_update`, which scales the loss.',
            expected='precision="bf16", which needs no scaling, or "32"',
            received=f'precision="16", and {type(supervisor).__name__}._update',
        )
    return precision


def guard_of(supervisor: SupervisorBase, settings: Settings) -> Guard:
    """What looks at losses and gradients; it keeps batch statistics where updates may be left out."""
    leaves_out = settings.on_nonfinite == "skip" or settings.precision == "16"
    return Guard(settings.on_nonfinite, settings.nonfinite_limit, supervisor.networks() if leaves_out else ())


@contextlib.contextmanager
def compiled(supervisor: SupervisorBase, settings: Settings) -> Iterator[None]:
    """Within the block networks are compiled, if the run is to be.

    Raises:
        ConfigurationError: If they cannot be.
    """
    if not settings.compile:
        yield
        return
    networks = supervisor.networks()
    if supervisor.calls_parts:
        logger.warning("compile=True: networks that this algorithm calls in parts are not compiled.")
    try:
        for network in networks:
            network.compile()
        yield
    except Exception as error:
        if not type(error).__module__.startswith("torch._dynamo"):  # torch has no public class of these errors
            raise
        reason = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
        raise ConfigurationError(
            f"The networks cannot be compiled: {reason[:300].rstrip('.')}.",
            received="compile=True",
            fix="torch.compile needs a C++ compiler (g++) on a CPU. Or leave `compile` out.",
        ) from error
    finally:
        for network in networks:
            network.compile(disable=True)


@contextlib.contextmanager
def memory_advice(supervisor: SupervisorBase, run: Run) -> Iterator[None]:
    """Within the block, running out of memory is told with what takes less of it.

    Raises:
        OutOfMemory: In place of what torch or numpy raise.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        size, pieces = run.loader.batch_size, run.loader.pieces
        parts = f"in {pieces} micro-batches" if pieces > 1 else "at once"
        fixes = [f"`batch_size` (now {size})", f"`resolution` (now {supervisor.preprocessing.resolution})"]
        fix = f"Lower {' or '.join(fixes)}"
        if supervisor.accumulates and supervisor.decomposable and pieces < size:
            fix = (
                f"Set accumulate={2 * pieces}: gradients of parts add up (batch norm sees each alone). Or lower "
                + " or ".join(fixes)
            )
        if supervisor.device.type == "cuda" and run.precision.dtype is None:
            fix += ', or set precision="bf16"'
        raise OutOfMemory(
            f"The memory of `{supervisor.device}` does not suffice for step {run.cursor.step + 1}.",
            received=f"{size} images {parts}: {str(error).strip().splitlines()[0] if str(error) else 'MemoryError'}",
            fix=f"{fix}.",
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(error) for words in _MEMORY_WORDS
    )


def monitors(supervisor: SupervisorBase, loader: TrainLoader, settings: Settings) -> list[Callback]:
    """What tells the cost of a run, whether its embeddings collapse, and what its features are like."""
    found: list[Callback] = [forecaster(supervisor, loader, settings)]
    found.append(CollapseMonitor(settings.compile))
    images = 0 if supervisor.image_dataset is None else len(supervisor.image_dataset)
    if count := monitored_count(images, settings.watch):
        found.append(FeatureMonitor(count))
    return [*found, *as_probe(settings.evaluate)]


def forecaster(supervisor: SupervisorBase, loader: TrainLoader, settings: Settings) -> Forecaster:
    """What tells the cost of a run."""
    supervisor.forecast = None
    images, dataset = supervisor.image_dataset, supervisor.dataset
    given = Conditions(
        device=supervisor.device.type,
        files=images is not None and images.kind == "files",
        cached=images is not None and images.cached,
        custom=not isinstance(dataset, PretextDataset) or dataset.foreign,
        num_workers=settings.num_workers,
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        precision=settings.precision,
        side=min(supervisor.seen_size or supervisor.preprocessing.resolution),
        splittable=supervisor.accumulates and supervisor.decomposable and loader.pieces < loader.batch_size,
        pieces=loader.pieces,
    )
    return Forecaster(given, supervisor.device, settings.verbose)
