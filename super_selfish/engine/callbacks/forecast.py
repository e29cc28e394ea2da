"""Forecast: what a run will cost, printed early enough to stop it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import torch

from super_selfish.engine.callbacks.progress import duration, print_line
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.engine.loop.memory import available_bytes

STEPS = 20
"""Number of steps after which the forecast is made."""

WARM_UP = 5
"""Of them, those that are not measured: memory is allocated, kernels are chosen, workers start."""

_MUCH_WAITING = 0.2
_MUCH_MEMORY = 0.85
_LONG = 6 * 3600.0  # seconds


@dataclass(frozen=True)
class Conditions:
    """Hardware and settings of a run, which decide what is worth changing.

    Attributes:
        device: ``"cpu"``, ``"cuda"``, ...
        files: Whether images are read from files.
        cached: Whether they are cached.
        custom: Whether user-supplied code reads or transforms them.
        num_workers: Number of data-loading workers.
        cores: Number of CPU cores that may be used.
        threads: Number of threads of torch.
        precision: Of the networks.
        side: Smaller side of the network's input in px.
        splittable: Whether batches can be split into more micro-batches.
        micro_batches: Number of micro-batches.
    """

    device: str
    files: bool
    cached: bool
    custom: bool
    num_workers: int
    cores: int
    threads: int
    precision: str
    side: int
    splittable: bool
    micro_batches: int = 1


@dataclass(frozen=True)
class Forecast:
    """What a run will cost.

    Attributes:
        seconds: Of the whole call of ``supervise``.
        images_per_second: Images of the data set, however many views each has.
        data_wait: Fraction of the time spent waiting for batches, in [0, 1].
        memory: Peak memory in bytes so far: of the GPU, or of the process.
        free: Free memory in bytes; None if unknown.
        recommendation: The one setting that is worth changing, and why; empty if there is none.
    """

    seconds: float
    images_per_second: float
    data_wait: float
    memory: int
    free: int | None
    recommendation: str

    def __str__(self) -> str:
        of_all = "" if self.free is None else f" of {(self.memory + self.free) / 1e9:.1f}"
        text = f"Forecast: {duration(self.seconds)} in all, {self.images_per_second:.3g} images/s, "
        text += f"{self.memory / 1e9:.1f}{of_all} GB of memory, {self.data_wait:.0%} waiting for data."
        return f"{text} {self.recommendation}".rstrip()


def suggestion(seconds: float, data_wait: float, memory: int, free: int | None, given: Conditions) -> str:
    """The one setting that is worth changing: that which saves most; empty if there is none.

    Args:
        seconds: Duration of the run.
        data_wait: Fraction of it spent waiting for batches.
        memory: Peak memory in bytes.
        free: Free memory in bytes, or None.
        given: Hardware and settings.
    """
    if free is not None and memory > _MUCH_MEMORY * (memory + free):
        less = f"accumulate={2 * given.micro_batches} halves it" if given.splittable else "lower batch_size"
        return f"Memory is nearly full: {less}."
    if data_wait > _MUCH_WAITING:
        workers = f"num_workers={min(given.cores, 16)}"
        if given.files and not given.cached:
            return 'Reading files is the bottleneck: cache="resized" keeps decoded, resized images on the local disk.'
        if given.num_workers == 0 and given.cores > 1:
            what = "The code of your data set" if given.custom else "Augmentation"
            return f"{what} is the bottleneck: {workers} runs it in parallel."
        if given.num_workers and given.num_workers < given.cores:
            return f"{given.num_workers} workers are the bottleneck: {workers} uses all cores."
    if given.device == "cuda" and given.precision == "32":
        return 'precision="bf16" (or "16" on older GPUs) is about twice as fast, and halves the memory.'
    if given.device == "cpu" and given.threads < given.cores:
        return f"torch uses {given.threads} of {given.cores} cores: set OMP_NUM_THREADS or torch.set_num_threads()."
    if given.device == "cpu" and seconds > _LONG and given.side > 96:
        return f"Time grows with the area: resolution={given.side // 2} takes about a quarter. Or use a GPU."
    return ""


class Forecaster(Callback):
    """Makes the forecast after :data:`STEPS` steps of a longer run, as ``supervisor.forecast``.

    Args:
        given: Hardware and settings.
        device: Where the networks are.
        verbose: Print it on stderr.
    """

    def __init__(self, given: Conditions, device: torch.device, verbose: bool) -> None:
        self.given = given
        self.device = device
        self.verbose = verbose

    def on_train_begin(self, run: RunView) -> None:
        """Start the clock."""
        run.supervisor._forecast = None
        self._begin = time.perf_counter()
        self._mark = (self._begin, run.train_state.samples, 0.0)

    def on_step_end(self, run: RunView) -> None:
        """Measure from step :data:`WARM_UP` to step :data:`STEPS`."""
        if run.steps == WARM_UP:
            self._mark = (time.perf_counter(), run.train_state.samples, run.clock.total_wait)
        elif run.steps == STEPS and run.steps < run.planned_steps:
            run.supervisor._forecast = forecast = self._forecast(run)
            if self.verbose:
                print_line(str(forecast))

    def _forecast(self, run: RunView) -> Forecast:
        now = time.perf_counter()
        begin, samples, waited = self._mark
        measured = max(now - begin, 1e-9)
        left = (run.planned_steps - STEPS) * measured / (STEPS - WARM_UP)
        seconds, wait = now - self._begin + left, min(1.0, (run.clock.total_wait - waited) / measured)
        memory, free = peak_memory(self.device), available_bytes(self.device)
        text = suggestion(seconds, wait, memory, free, self.given)
        return Forecast(seconds, (run.train_state.samples - samples) / measured, wait, memory, free, text)


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: on a GPU that of torch, otherwise that of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def usable_cores() -> int:
    """Number of CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
