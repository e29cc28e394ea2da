"""Data loading with threads of this process: no copies of the data set, no worker start-up, no pickling.

Decoding and resampling release the global interpreter lock (GIL) and run in parallel; Python code does not.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

import torch
from torch.utils.data import DataLoader

from super_selfish.datasets.image_dataset import ImageDataset
from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.errors import DataError
from super_selfish.loading.gather import Gatherer
from super_selfish.loading.workers import WorkerLoader

logger = logging.getLogger("super_selfish")

THREAD_NAME = "super_selfish_reader"
_MOST_THREADS = 8
_HEADER_TRIES = 8
_JOIN_TIMEOUT = 2.0  # seconds to wait for images that are being read when a pass ends
_SMALL = 128 * 128  # pixels; smaller images are processed mostly in Python code, where threads block each other


def reading_threads(source: ImageSource) -> int:
    """Return the number of threads for a source: the number of usable cores, up to 8; 1 if threads are not faster."""
    if _pixels(source) < _SMALL:
        return 1
    return min(_MOST_THREADS, usable_cores())


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pixels(source: ImageSource) -> int:
    """Return the number of pixels of a representative image; for files without a cache, their stored size."""
    if isinstance(source, ImageDataset) and source.kind == "files" and not source.cached:
        source = source.source
    for index in evenly_spaced(len(source), _HEADER_TRIES):
        with contextlib.suppress(DataError):  # raised again when the image is read
            header = source.header(index)
            return header.height * header.width
    return 0


def open_loader(
    dataset: Any,
    batch_sampler: Iterable[Sequence[Any]],
    collate_fn: Callable[[list[Any]], Any],
    *,
    num_workers: int,
    threads: int,
    ahead: int,
    pin: bool = False,
    timeout: float | None = None,
) -> DataLoader[Any] | ThreadedLoader | WorkerLoader:
    """Return a loader that uses worker processes if ``num_workers > 0``, else threads if ``threads > 1``, else neither.

    Args:
        dataset: Data set that is indexed by requests.
        batch_sampler: Iterable of batches of requests; iterated over again in every pass.
        collate_fn: Function from the items of a batch to the batch.
        num_workers: Number of worker processes.
        threads: Number of threads, if there are no worker processes or these fail to run.
        ahead: Number of batches that threads prefetch.
        pin: Whether to copy the batches of worker processes to pinned memory.
        timeout: Maximum time in seconds to wait for a worker. None: no limit.
    """

    def by_this_process(requests: Iterable[Sequence[Any]]) -> DataLoader[Any] | ThreadedLoader:
        if threads > 1:
            return ThreadedLoader(dataset, requests, collate_fn, threads=threads, ahead=ahead)
        return DataLoader(
            dataset,
            batch_sampler=requests,  # type: ignore[arg-type]  # the length is not needed
            collate_fn=collate_fn,
            generator=torch.Generator(),  # otherwise, every pass would draw from the global generator
        )

    if num_workers == 0:
        return by_this_process(batch_sampler)
    warn_of_too_many_workers(num_workers, usable_cores())
    by_processes: dict[str, Any] = {"num_workers": num_workers, "pin": pin, "timeout": timeout}
    return WorkerLoader(dataset, batch_sampler, collate_fn, fallback=by_this_process, **by_processes)


class ThreadedLoader:
    """Data loader with threads instead of worker processes; yields the same batches in the same order.

    Each batch is split between all threads, and collated in the consumer's thread. An exception is raised at the batch
    in which it occurred. Threads end with the pass, also if the pass is abandoned; a thread that is blocked in a
    read is abandoned after 2 s.

    Args:
        dataset: Data set that is indexed by requests, by several threads at the same time.
        batch_sampler: Iterable of batches of requests; iterated over again in every pass.
        collate_fn: Function from the items of a batch to the batch.
        threads: Number of threads, at least 1.
        ahead: Number of batches to prefetch in addition to the current one. 0: no batch is read while one is used.
    """

    def __init__(
        self,
        dataset: Any,
        batch_sampler: Iterable[Sequence[Any]],
        collate_fn: Callable[[list[Any]], Any],
        *,
        threads: int,
        ahead: int,
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = batch_sampler
        self.collate_fn = collate_fn
        self.threads = threads
        self.ahead = ahead
        self._gatherers: collections.deque[Gatherer] = (
            collections.deque()
        )  # with their memory pools, shared by the threads

    def __iter__(self) -> Iterator[Any]:
        asked: collections.deque[list[_Part]] = collections.deque()
        parts: queue.SimpleQueue[_Part | None] = queue.SimpleQueue()
        closed: list[bool] = []
        # daemon threads, because a blocked read would prevent the interpreter from exiting
        threads = [
            threading.Thread(target=self._work, args=(parts, closed), name=THREAD_NAME, daemon=True)
            for _ in range(self.threads)
        ]
        close = weakref.finalize(self, _close, threads, parts, closed)  # also called when the interpreter exits
        try:
            for thread in threads:
                thread.start()
            for requests in self.batch_sampler:
                asked.append(self._ask(parts, requests))
                if len(asked) > self.ahead:
                    yield self._collated(asked.popleft())
            while asked:
                yield self._collated(asked.popleft())
        finally:
            close()

    def _ask(self, parts: queue.SimpleQueue[_Part | None], requests: Sequence[Any]) -> list[_Part]:
        """Queue a batch to be read, in parts of nearly equal length."""
        bounds = [len(requests) * place // self.threads for place in range(self.threads + 1)]
        asked = [_Part(requests[start:end]) for start, end in itertools.pairwise(bounds) if start < end]
        for part in asked:
            parts.put(part)
        return asked

    def _collated(self, parts: list[_Part]) -> Any:
        return self.collate_fn([item for part in parts for item in part.result()])

    def _work(self, parts: queue.SimpleQueue[_Part | None], closed: list[bool]) -> None:
        while (part := parts.get()) is not None:
            self._read(part, closed)
            del part  # may hold an exception, which references this frame

    def _read(self, part: _Part, closed: list[bool]) -> None:
        try:
            wanted = itertools.takewhile(lambda _: not closed, part.requests)
            gatherer = self._gatherer()
            several = getattr(self.dataset, "items", None)
            made = (self.dataset[request] for request in wanted) if several is None else several(wanted)
            items = gatherer(made, len(part.requests))
            self._gatherers.append(gatherer)
            part.set_result(items)
        except BaseException as error:
            part.set_exception(error)
            del part

    def _gatherer(self) -> Gatherer:
        try:
            return self._gatherers.pop()
        except IndexError:
            return Gatherer()


class _Part(Future[list[Any]]):
    """Some requests of a batch, to be read by one thread."""

    def __init__(self, requests: Sequence[Any]) -> None:
        super().__init__()
        self.requests = requests


def _close(threads: list[threading.Thread], parts: queue.SimpleQueue[_Part | None], closed: list[bool]) -> None:
    """Stop the threads after their current images; acquires no lock, as the garbage collector may call it."""
    closed.append(True)
    for _ in threads:
        parts.put(None)
    deadline = time.monotonic() + _JOIN_TIMEOUT
    for thread in threads:
        if thread.ident is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))


@lru_cache(maxsize=64)
def warn_of_too_many_workers(num_workers: int, cores: int) -> None:
    """Warn once if there are more worker processes than cores."""
    if num_workers > cores:
        logger.warning(
            "num_workers=%d exceeds the number of CPU cores that this process may use (%d). Pass num_workers=%d.",
            num_workers,
            cores,
            cores,
        )
