"""What a run is going to cost, told early enough to change one's mind."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import torch

from super_selfish.engine.callbacks.progress import in_words, say
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.engine.loop.memory import available_bytes

STEPS = 20
"""Of a run, after which its cost is told."""

WARM_UP = 5
"""Of them, which are not measured: memory is found, kernels are chosen, workers start."""

_MUCH_WAITING = 0.2
_MUCH_MEMORY = 0.85
_LONG = 6 * 3600.0  # seconds


@dataclass(frozen=True)
class Forecast:
    """What a run is going to cost.

    Attributes:
        seconds: Of the whole call of ``supervise``.
        images_per_second: Of the data set, views not counted.
        data_wait: Share of the time spent waiting for batches, in [0, 1].
        memory: Most bytes in use so far: of the GPU, or of the process.
        free: Bytes that are left; None where nobody tells.
        advice: The one setting that is worth changing, and why; empty if none is.
    """

    seconds: float
    images_per_second: float
    data_wait: float
    memory: int
    free: int | None
    advice: str

    def __str__(self) -> str:
        of_all = "" if self.free is None else f" of {(self.memory + self.free) / 1e9:.1f}"
        said = f"Forecast: {in_words(self.seconds)} in all, {self.images_per_second:.3g} images/s, "
        said += f"{self.memory / 1e9:.1f}{of_all} GB of memory, {self.data_wait:.0%} waiting for data."
        return f"{said} {self.advice}".rstrip()


@dataclass(frozen=True)
class Circumstances:
    """What decides which setting is worth changing.

    Attributes:
        device: ``"cpu"``, ``"cuda"``, ...
        files: Whether images are read from files.
        cached: Whether they are kept in a cache.
        foreign: Whether a user's own code reads or changes them.
        num_workers: Processes that read.
        cores: That may be used.
        threads: Of torch.
        precision: Of the networks.
        side: Of what the network sees, in px.
        shares: Whether batches can be taken in more parts.
        pieces: In how many they are taken.
    """

    device: str
    files: bool
    cached: bool
    foreign: bool
    num_workers: int
    cores: int
    threads: int
    precision: str
    side: int
    shares: bool
    pieces: int = 1


def advice(seconds: float, data_wait: float, memory: int, free: int | None, here: Circumstances) -> str:
    """The one setting worth changing; the one that saves most comes first.

    Args:
        seconds: That the run takes.
        data_wait: Share of them spent waiting for batches.
        memory: Bytes in use.
        free: Bytes that are left, or None.
        here: What there is.
    """
    if free is not None and memory > _MUCH_MEMORY * (memory + free):
        less = f"accumulate={2 * here.pieces} takes half of the memory" if here.shares else "lower batch_size"
        return f"Memory is nearly full: {less}."
    if data_wait > _MUCH_WAITING:
        if here.files and not here.cached:
            return 'Reading holds the network up: cache="resized" keeps images decoded and resized on the local disk.'
        if here.num_workers == 0 and here.cores > 1:
            why = "your data set's code" if here.foreign else "making views"
            return f"Waiting is for {why}: num_workers={min(here.cores, 16)} does it in processes of its own."
        if here.num_workers and here.num_workers < here.cores:
            return f"Waiting is for {here.num_workers} workers: num_workers={min(here.cores, 16)} uses all cores."
    if here.device == "cuda" and here.precision == "32":
        return 'precision="bf16" (or "16" on older GPUs) is about twice as fast, and takes half of the memory.'
    if here.device == "cpu" and here.threads < here.cores:
        return f"torch uses {here.threads} of {here.cores} cores: set OMP_NUM_THREADS or torch.set_num_threads()."
    if here.device == "cpu" and seconds > _LONG and here.side > 96:
        return f"Time grows with the area: resolution={here.side // 2} takes about a quarter. Or move to a GPU."
    return ""


class Forecaster(Callback):
    """Tells the cost of a run after :data:`STEPS` steps, if it is longer than that.

    Args:
        here: What there is.
        device: Where the networks are.
        verbose: Say it on stderr; it is kept as ``supervisor.forecast`` in any case.
    """

    def __init__(self, here: Circumstances, device: torch.device, verbose: bool) -> None:
        self.here = here
        self.device = device
        self.verbose = verbose
        self._begin = time.perf_counter()
        self._mark = (self._begin, 0)
        self._waited = 0.0

    def on_train_begin(self, run: RunView) -> None:  # noqa: ARG002 - the protocol's
        """Start the watch."""
        self._begin = time.perf_counter()

    def on_step_end(self, run: RunView) -> None:
        """Measure from step :data:`WARM_UP` to step :data:`STEPS`."""
        if run.steps == WARM_UP:
            self._mark = (time.perf_counter(), run.cursor.samples)
            self._waited = run.clock.total_wait
        elif run.steps == STEPS and run.steps < run.planned_steps:
            told = self._measured(run)
            run.supervisor.forecast = told
            if self.verbose:
                say(str(told))

    def _measured(self, run: RunView) -> Forecast:
        now = time.perf_counter()
        begin, samples = self._mark
        lasted = max(now - begin, 1e-9)
        left = (run.planned_steps - STEPS) * lasted / (STEPS - WARM_UP)
        seconds, wait = now - self._begin + left, min(1.0, (run.clock.total_wait - self._waited) / lasted)
        memory, free = memory_in_use(self.device), available_bytes(self.device)
        said = advice(seconds, wait, memory, free, self.here)
        return Forecast(seconds, (run.cursor.samples - samples) / lasted, wait, memory, free, said)


def memory_in_use(device: torch.device) -> int:
    """Most bytes that were in use: on a GPU those of torch, else those of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def cores_to_use() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
