"""Where the time of a step of MoCo v2 goes: the seconds of each part, without those of parts inside it, on one core.

On one core nothing is read ahead, so the parts add up to the whole. Functions of the library and of torch are replaced
by ones that look at the clock; the process is of no other use afterwards.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from timing import Spread, introduce, table, write

from super_selfish.engine.core import base
from super_selfish.engine.loop.run import Run
from super_selfish.loading.collate import Collator
from super_selfish.loading.keyed import KeyedDataset
from super_selfish.memory import BatchedQueue
from super_selfish.supervisors import MomentumContrastSupervisor, momentum_contrast
from super_selfish.training import Callback

LOOP = "loop, hooks, progress, cursor"
WATCHED: tuple[tuple[Any, str, str], ...] = (
    (KeyedDataset, "__getitems__", "views"),
    (Collator, "__call__", "batch: collated"),
    (base, "to_device", "batch: to float, normalised"),
    (MomentumContrastSupervisor, "_embed", "network, forward"),
    (MomentumContrastSupervisor, "_one_way", "loss, forward"),
    (torch.Tensor, "backward", "network and loss, backward"),
    (Run, "_before_step", "check of gradients"),
    (torch.optim.SGD, "step", "optimizer"),
    (torch.optim.SGD, "zero_grad", "optimizer"),
    (momentum_contrast, "update_ema", "moving average"),
    (BatchedQueue, "enqueue", "queue"),
)
EXEMPT = {"views", "network, forward", "loss, forward", "network and loss, backward"}


class Parts:
    """Seconds of the step under way, by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running = [LOOP]
        self._since = time.perf_counter()

    def book(self) -> None:
        """Give the time that has passed to the part that is running."""
        now = time.perf_counter()
        self.seconds[self._running[-1]] = self.seconds.get(self._running[-1], 0.0) + now - self._since
        self._since = now

    def watch(self, owner: Any, name: str, part: str) -> None:
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*args: Any, **named: Any) -> Any:
            self.book()
            self._running.append(part)
            try:
                return inner(*args, **named)
            finally:
                self.book()
                self._running.pop()

        setattr(owner, name, timed)


class Watch(Callback):
    """Collects the parts of each step."""

    def __init__(self) -> None:
        self.parts = Parts()
        self.steps: list[dict[str, float]] = []

    def on_step_end(self, run: Run) -> None:  # noqa: ARG002 - the protocol's
        self.parts.book()
        self.steps.append(self.parts.seconds)
        self.parts.seconds = {}


def profile(train: Callable[[Callback], None], untimed: int, name: str) -> None:
    """Print the table of a training, and write it.

    Args:
        train: Trains MoCo v2 with SGD and a callback.
        untimed: Steps at the beginning that do not count.
        name: Of the file of results.
    """
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    watch = Watch()
    for owner, function, part in WATCHED:
        watch.parts.watch(owner, function, part)
    train(watch)
    steps = watch.steps[untimed:]
    order = [*dict.fromkeys(part for _, _, part in WATCHED), LOOP]
    shares = {part: [100 * step.get(part, 0.0) / sum(step.values()) for step in steps] for part in order}
    times = {part: [1e3 * step.get(part, 0.0) for step in steps] for part in order}
    introduce()
    rows = [(part, Spread.of(times[part]).show(), Spread.of(shares[part]).show()) for part in order]
    print(f"{len(steps)} steps.\n\n{table(('part', 'ms a step', '% of the step'), rows)}")
    own = {part: Spread.of(values).median for part, values in shares.items() if part not in EXEMPT}
    largest = max(own, key=lambda part: own[part])
    print(f"\nThe largest besides views, network and loss: {largest}, {own[largest]:.2f} %.")
    write(name, {"largest part of ours": shares[largest]}, {"milliseconds": times})
