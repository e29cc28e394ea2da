"""Forecast of the duration and memory of a run, printed after a few steps."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import torch

from super_selfish.engine.callbacks.displays import print_advice
from super_selfish.engine.callbacks.progress import duration
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.engine.loop.memory import available_bytes

STEPS = 20
"""Number of steps after which the forecast is computed. Runs that are not longer are measured over their first half."""

WARM_UP = 5
"""Number of steps excluded from the measurement: memory is allocated, kernels are selected, workers start."""

_MUCH_WAITING = 0.2
_MUCH_MEMORY = 0.85
_LONG = 6 * 3600.0  # seconds


@dataclass(frozen=True)
class Conditions:
    """Hardware and settings of a run, from which :func:`suggestion` selects a setting to change.

    Attributes:
        device: Device type: ``"cpu"``, ``"cuda"``, ...
        files: Whether images are read from files.
        cached: Whether decoded images are cached.
        custom: Whether user-supplied code reads or transforms images.
        num_workers: Number of data-loading workers.
        cores: Number of available CPU cores.
        threads: Number of intra-op threads of torch.
        precision: Numeric precision of the training, such as ``"32"`` or ``"bf16"``.
        side: Smaller side of the network's input in px.
        splittable: Whether batches can be split into more micro-batches.
        micro_batches: Number of micro-batches per batch.
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
    """Expected duration and memory of a run.

    Attributes:
        seconds: Duration of the call of ``supervise`` in seconds.
        images_per_second: Throughput in images of the data set; the views of an image count once.
        data_wait: Fraction of the time spent waiting for batches, in [0, 1].
        memory: Peak memory in bytes so far: of the GPU if one is used, otherwise of the process.
        free: Free memory in bytes; None if unknown.
        recommendation: The setting with the largest expected effect, and the reason; empty if there is none.
    """

    seconds: float
    images_per_second: float
    data_wait: float
    memory: int
    free: int | None
    recommendation: str

    def __str__(self) -> str:
        of_all = "" if self.free is None else f" of {(self.memory + self.free) / 1e9:.1f}"
        text = f"Forecast: {duration(self.seconds)} in total, {self.images_per_second:.3g} images/s, "
        text += f"{self.memory / 1e9:.1f}{of_all} GB of memory, {self.data_wait:.0%} waiting for data."
        return f"{text} {self.recommendation}".rstrip()


def suggestion(seconds: float, data_wait: float, memory: int, free: int | None, conditions: Conditions) -> str:
    """The setting whose change saves the most time or memory; empty if there is none.

    Args:
        seconds: Duration of the run in seconds.
        data_wait: Fraction of the time spent waiting for batches, in [0, 1].
        memory: Peak memory in bytes.
        free: Free memory in bytes; None if unknown.
        conditions: Hardware and settings of the run.
    """
    if free is not None and memory > _MUCH_MEMORY * (memory + free):
        less = f"accumulate={2 * conditions.micro_batches} halves it" if conditions.splittable else "lower `batch_size`"
        return f"Memory is nearly full: {less}."
    if data_wait > _MUCH_WAITING:
        workers = f"num_workers={min(conditions.cores, 16)}"
        if conditions.files and not conditions.cached:
            return 'Reading files is the bottleneck: cache="resized" keeps decoded, resized images on the local disk.'
        if conditions.num_workers == 0 and conditions.cores > 1:
            what = "The code of your data set" if conditions.custom else "Data augmentation"
            return f"{what} is the bottleneck: {workers} runs it in parallel."
        if conditions.num_workers and conditions.num_workers < conditions.cores:
            return f"{conditions.num_workers} workers are the bottleneck: {workers} uses all cores."
    if conditions.device == "cuda" and conditions.precision == "32":
        return 'precision="bf16" (or "16" on older GPUs) is about twice as fast and halves the memory.'
    if conditions.device == "cpu" and conditions.threads < conditions.cores:
        used = f"torch uses {conditions.threads} of {conditions.cores} cores"
        return f"{used}: set OMP_NUM_THREADS={conditions.cores}."
    if conditions.device == "cpu" and seconds > _LONG and conditions.side > 96:
        return (
            f"Use a GPU, or lower the resolution: resolution={conditions.side // 2} takes about a quarter of the time."
        )
    return ""


class Forecaster(Callback):
    """Sets ``supervisor.forecast`` after :data:`STEPS` steps, or after half of the steps of a shorter run.

    A run of a single step gets no forecast.

    Args:
        conditions: Hardware and settings of the run.
        device: Device of the networks.
        verbose: Print the forecast to stderr.
    """

    def __init__(self, conditions: Conditions, device: torch.device, verbose: bool) -> None:
        self.conditions = conditions
        self.device = device
        self.verbose = verbose

    def on_train_begin(self, run: RunView) -> None:
        """Start the clock."""
        run.supervisor._forecast = None
        self._begin = time.perf_counter()
        self._mark = (self._begin, run.train_state.samples, 0.0)
        planned = run.planned_steps
        self._steps = STEPS if planned > STEPS else planned // 2
        self._warm_up = min(WARM_UP, self._steps // 4)

    def on_step_end(self, run: RunView) -> None:
        """Measure from the end of the warm-up to the step of the forecast."""
        if run.steps == self._warm_up:
            self._mark = (time.perf_counter(), run.train_state.samples, run.clock.total_wait)
        elif run.steps == self._steps:
            run.supervisor._forecast = forecast = self._forecast(run)
            if self.verbose:
                print_advice(str(forecast))

    def _forecast(self, run: RunView) -> Forecast:
        now = time.perf_counter()
        begin, samples, waited = self._mark
        measured = max(now - begin, 1e-9)
        left = (run.planned_steps - self._steps) * measured / (self._steps - self._warm_up)
        seconds, wait = now - self._begin + left, min(1.0, (run.clock.total_wait - waited) / measured)
        memory, free = peak_memory(self.device), available_bytes(self.device)
        text = suggestion(seconds, wait, memory, free, self.conditions)
        return Forecast(seconds, (run.train_state.samples - samples) / measured, wait, memory, free, text)


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: reserved by torch on a GPU, otherwise resident in the process."""
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
