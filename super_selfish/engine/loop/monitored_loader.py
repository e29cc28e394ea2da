"""The loader that a loop iterates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

from super_selfish.distributed import world
from super_selfish.engine.core.clock import Clock
from super_selfish.engine.loop.signals import Stop
from super_selfish.loading.loader import TrainLoader

_END = object()


class Watcher(Protocol):
    """What is told of batches: a run."""

    loader: TrainLoader
    clock: Clock
    stop: Stop

    def begin_read(self) -> None:
        """A batch is about to be read."""

    def close_pass(self) -> None:
        """All batches were read."""


class MonitoredLoader:
    """The loader that ``_epochs`` iterates: it times the wait for each batch and marks the boundary between steps.

    Everything else is the loader's own: ``len()``, ``batch_size``, ``dataset``, ``peek()``.

    Args:
        watcher: The run.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def __len__(self) -> int:
        return len(self._watcher.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watcher.loader, name)

    def __iter__(self) -> Iterator[Any]:
        watcher, loader = self._watcher, self._watcher.loader
        batches = iter(loader)
        while True:
            watcher.begin_read()
            before = time.perf_counter()
            with watcher.stop.waiting(loader.between_steps and world() == 1, on_leaving=loader.forget):
                data = next(batches, _END)
            watcher.clock.wait(time.perf_counter() - before)
            if data is _END:
                watcher.close_pass()
                return
            yield data
