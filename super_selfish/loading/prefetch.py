"""Reading batches by a few threads of this process: no copies of the data set, nothing to start or to pickle.

Decoding and resampling release the interpreter lock, so threads share that work. What is Python stays one at a time.
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
_LOOKS = 8
_PATIENCE = 2.0  # seconds that the images being read may take when a pass ends
_SMALL = 128 * 128  # pixels; what is done to a smaller image is mostly Python's work, and threads wait for each other


def reading_threads(source: ImageSource) -> int:
    """How many threads are to read a source: as many as there are cores to use, up to eight; 1 if they do not pay."""
    if _pixels(source) < _SMALL:
        return 1
    return min(_MOST_THREADS, usable_cores())


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pixels(source: ImageSource) -> int:
    """Of one image, which stands for all; of files that are decoded each time, as they are stored."""
    if isinstance(source, ImageDataset) and source.kind == "files" and not source.cached:
        source = source.source
    for index in evenly_spaced(len(source), _LOOKS):
        with contextlib.suppress(DataError):  # told when it is read
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
    """What reads the batches: processes if they are asked for, else threads if there are several, else whoever asks.

    Args:
        dataset: Read by ticket.
        batch_sampler: Asked anew for batches of tickets at every pass.
        collate_fn: From the items of a batch to the batch.
        num_workers: How many processes.
        threads: How many threads where there are no processes, or where they cannot work.
        ahead: Batches that threads read ahead.
        pin: Whether batches of processes are to be in page-locked memory.
        timeout: Seconds to wait for a process; None: for ever.
    """

    def by_this_process(requests: Iterable[Sequence[Any]]) -> DataLoader[Any] | ThreadedLoader:
        if threads > 1:
            return ThreadedLoader(dataset, requests, collate_fn, threads=threads, ahead=ahead)
        return DataLoader(
            dataset,
            batch_sampler=requests,  # type: ignore[arg-type]  # it needs no length
            collate_fn=collate_fn,
            generator=torch.Generator(),  # or every pass would draw from the user's global generator
        )

    if num_workers == 0:
        return by_this_process(batch_sampler)
    warn_of_too_many_workers(num_workers, usable_cores())
    by_processes: dict[str, Any] = {"num_workers": num_workers, "pin": pin, "timeout": timeout}
    return WorkerLoader(dataset, batch_sampler, collate_fn, fallback=by_this_process, **by_processes)


class ThreadedLoader:
    """Like a ``DataLoader`` with workers, but with threads: the same batches, in the same order.

    Each batch is read in as many parts as there are threads, so that one batch alone keeps all of them busy. It is
    collated by whoever asks for it. An exception comes out at the batch that it belongs to. Threads end with the pass,
    also if it is abandoned; one that is stuck in a read is left behind after two seconds.

    Args:
        dataset: Read by ticket, by several threads at once.
        batch_sampler: Iterated in every pass; its items are batches of tickets.
        collate_fn: From the items of a batch to the batch.
        threads: Number of threads, at least 1.
        ahead: How many batches are read beside the one that was asked for last; 0: nothing is read while that one is
            used.
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
        self._gatherers: collections.deque[Gatherer] = collections.deque()  # with their memory, for any thread

    def __iter__(self) -> Iterator[Any]:
        asked: collections.deque[list[_Part]] = collections.deque()
        parts: queue.SimpleQueue[_Part | None] = queue.SimpleQueue()
        closed: list[bool] = []
        # daemons, or a read that is stuck would keep the interpreter from ending
        threads = [
            threading.Thread(target=self._work, args=(parts, closed), name=THREAD_NAME, daemon=True)
            for _ in range(self.threads)
        ]
        close = weakref.finalize(self, _close, threads, parts, closed)  # also at the interpreter's end
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
        """Have a batch read, in parts of nearly equal length."""
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
            del part  # it may hold an exception, which holds this frame

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
    """Some tickets of a batch, to be read by one thread."""

    def __init__(self, requests: Sequence[Any]) -> None:
        super().__init__()
        self.requests = requests


def _close(threads: list[threading.Thread], parts: queue.SimpleQueue[_Part | None], closed: list[bool]) -> None:
    """End the threads after the images that they are reading; takes no lock, for the garbage collector may call it."""
    closed.append(True)
    for _ in threads:
        parts.put(None)
    deadline = time.monotonic() + _PATIENCE
    for thread in threads:
        if thread.ident is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))


@lru_cache(maxsize=64)
def warn_of_too_many_workers(num_workers: int, cores: int) -> None:
    """Warn once if there are more worker processes than cores."""
    if num_workers > cores:
        logger.warning(
            "num_workers=%d are more processes than the %d cores that this one may use; %d are enough.",
            num_workers,
            cores,
            cores,
        )
