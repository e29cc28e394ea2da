"""The data loader that training loops iterate over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

from super_selfish.distributed import world
from super_selfish.engine.core.clock import Clock
from super_selfish.engine.loop.signals import Stop
from super_selfish.loading.loader import TrainLoader

_END = object()


class ReadObserver(Protocol):
    """The interface of a run for the loader."""

    loader: TrainLoader
    clock: Clock
    stop: Stop

    def begin_read(self) -> None:
        """Called before a batch is read."""

    def close_pass(self) -> None:
        """Called after the last batch was read."""


class MonitoredLoader:
    """The data loader that ``_epochs`` receives. It measures the time spent waiting and notifies the run of each read.

    Other attributes and methods are those of the wrapped loader: ``len()``, ``batch_size``, ``dataset``, ``peek()``.

    Args:
        run: The run.
    """

    def __init__(self, run: ReadObserver) -> None:
        self._run = run

    def __len__(self) -> int:
        return len(self._run.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run.loader, name)

    def __iter__(self) -> Iterator[Any]:
        run, loader = self._run, self._run.loader
        batches = iter(loader)
        while True:
            run.begin_read()
            before = time.perf_counter()
            with run.stop.waiting(loader.between_steps and world() == 1, on_leaving=loader.forget):
                data = next(batches, _END)
            run.clock.wait(time.perf_counter() - before)
            if data is _END:
                run.close_pass()
                return
            yield data
