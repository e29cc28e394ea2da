"""Batches read by worker processes, or by this process where workers cannot run."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
import torch.multiprocessing as multiprocessing  # tensors travel in shared memory

from super_selfish.errors import ConfigurationError, WorkerHung, WorkerKilled
from super_selfish.loading.worker_log import WorkerLog, log_again
from super_selfish.seeding import seed_everything

logger = logging.getLogger("super_selfish")

WORKER_NAME = "super_selfish_worker"
_AHEAD = 2  # batches per worker
_SLICE = 0.5  # seconds between looks at the clock; signals interrupt a wait at once
_GRACE = 1.0  # seconds in which a worker may end by itself
_SHOWN = 16  # indices
_BUS_ERROR = -getattr(signal, "SIGBUS", 7)  # Linux ends a process so that writes to full shared memory
_MEMORY = "Give more shared memory (docker run --shm-size=8g or --ipc=host), or pass num_workers=0."
_GUARD = "Start the training below `if __name__ == '__main__':`, or pass num_workers=0."
_TOP_LEVEL = "Define what the data set holds at the top level of a module, or pass num_workers=0."


class WorkersUnusable(Exception):
    """Worker processes cannot run here: the reason, and how to fix it."""


class WorkerLoader:
    """Batches in order, read by worker processes; if these cannot start or lack shared memory, by the fallback.

    Workers live until the loader is closed or collected. They end when this process does, however it ends.

    Args:
        dataset: Read by ticket.
        batch_sampler: Iterated in every pass; its items are batches of tickets.
        collate_fn: From the items of a batch to the batch.
        num_workers: Number of worker processes.
        pin: Copy batches to page-locked memory.
        fallback: Makes the loader that reads the remaining batches of tickets.
        timeout: Seconds to wait for a batch; None: no limit.
    """

    def __init__(
        self,
        dataset: Any,
        batch_sampler: Iterable[Sequence[Any]],
        collate_fn: Callable[[list[Any]], Any],
        *,
        num_workers: int,
        pin: bool,
        fallback: Callable[[Iterable[Sequence[Any]]], Iterable[Any]],
        timeout: float | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = batch_sampler
        self.collate_fn = collate_fn
        self.num_workers = num_workers
        self.pin = pin
        self.fallback = fallback
        self.timeout = timeout
        self._usable = True
        self._in_pass = False
        self._received = False
        self._logged: set[str] = set()
        self._workers: list[_Worker] = []
        weakref.finalize(self, _end, self._workers, os.getpid())

    def __iter__(self) -> Iterator[Any]:
        if not self._usable or self._in_pass:  # a pass within a pass must not take the batches of the other
            yield from self.fallback(self.batch_sampler)
            return
        self._in_pass = True
        try:
            yield from self._read()
        finally:
            self._in_pass = False

    def _read(self) -> Iterator[Any]:
        requests = iter(self.batch_sampler)
        turns: collections.deque[_Worker] = collections.deque()
        try:
            self._start()
            for worker, batch in zip(itertools.cycle(self._workers), requests):
                worker.ask(batch)
                turns.append(worker)
                if len(turns) > _AHEAD * self.num_workers:
                    yield self._receive(turns)
            while turns:
                yield self._receive(turns)
        except WorkersUnusable as error:
            self._usable = False
            unread = [worker.asked.popleft() for worker in turns]
            self.close()
            logger.warning(
                "num_workers=%d: worker processes do not work here (%s). This process reads the images itself, which "
                "does not change results. %s",
                self.num_workers,
                *error.args,
            )
        except BaseException:  # also if the pass is abandoned
            self.close()
            raise
        else:
            return
        yield from self.fallback(itertools.chain(unread, requests))

    def close(self) -> None:
        """End the workers."""
        _end(self._workers, os.getpid())

    def _start(self) -> None:
        if self._workers:
            return
        if multiprocessing.current_process().name == WORKER_NAME:
            raise ConfigurationError("A data-loading worker imports the script and starts to train.", fix=_GUARD)
        try:
            for number in range(self.num_workers):
                self._workers.append(_Worker(self.dataset, self.collate_fn, number))
        except Exception as error:
            raise WorkersUnusable(*_reason(error)) from error

    def _receive(self, turns: collections.deque[_Worker]) -> Any:
        """The next batch; its worker keeps its turn if the batch cannot be had."""
        worker = turns[0]
        ready = self._wait(worker)
        try:
            if worker.results not in ready:
                raise EOFError("the worker has ended")
            answer, error, sendable, records = worker.receive()
        except Exception as failure:  # whatever unpickling raises
            worker.process.join(_GRACE)  # the end of its pipe may be noticed before its own
            raise self._failure(worker, failure) from failure
        log_again(records, self._logged)
        if not sendable:
            raise WorkersUnusable(*answer)
        if error is not None:
            raise error from RuntimeError(f"In a data-loading worker:\n{answer}")
        turns.popleft().asked.popleft()
        self._received = True
        return answer.pin_memory() if self.pin else answer

    def _wait(self, worker: _Worker) -> list[Any]:
        """What there is of a worker: an answer, its end, or both."""
        began = time.monotonic()
        while not (ready := wait([worker.results, worker.process.sentinel], _SLICE)):
            if self.timeout is not None and time.monotonic() - began > self.timeout:
                raise WorkerHung(
                    f"A data-loading worker has not answered for {self.timeout:g} s.",
                    received=f"num_workers={self.num_workers}, reading images {worker.reading()}",
                    fix="Look at what reads these images: a network share that is gone, or a lock. If they take that "
                    "long, raise worker_timeout.",
                )
        return ready

    def _failure(self, worker: _Worker, failure: Exception) -> Exception:
        """What it means that nothing can be received from a worker."""
        code = worker.process.exitcode
        if code is None:
            return WorkersUnusable(*_reason(failure))
        if code == _BUS_ERROR:
            return WorkersUnusable("a worker was ended by SIGBUS", _MEMORY)
        if code >= 0 and not self._received:
            return WorkersUnusable(f"a worker exited with status {code}", _GUARD)
        end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
        return WorkerKilled(
            f"A data-loading worker {end}.",
            received=f"num_workers={self.num_workers}, reading images {worker.reading()}",
            fix="SIGKILL is most often the system's, for want of memory: use fewer workers, or num_workers=0. "
            "After SIGSEGV look at what reads these images.",
        )


class _Worker:
    """A worker process with what it is asked for and what it answers."""

    def __init__(self, dataset: Any, collate_fn: Callable[[list[Any]], Any], number: int) -> None:
        self.tasks: Any = multiprocessing.Queue()  # put() never blocks, also if the worker waits to be received from
        self.tasks.cancel_join_thread()
        self.asked: collections.deque[Sequence[Any]] = collections.deque()  # and not yet received
        self.received = 0
        self.begun = multiprocessing.RawValue("Q", 0)  # batches that the process has begun to read
        self.results: Connection[Any, Any]
        self.results, results = multiprocessing.Pipe(duplex=False)
        reader: Any = (dataset, collate_fn)
        if multiprocessing.get_start_method() != "fork":  # not by start(), which waits for ever if the process dies
            self.tasks.put(bytes(ForkingPickler.dumps(reader)))
            reader = None
        self.process = multiprocessing.Process(
            target=_work, args=(reader, self.tasks, results, self.begun, number), name=WORKER_NAME, daemon=True
        )
        self.process.start()
        results.close()  # now the worker alone holds it: if it ends, this is noticed

    def ask(self, requests: Sequence[Any]) -> None:
        self.tasks.put(requests)
        self.asked.append(requests)

    def receive(self) -> Any:
        answer = self.results.recv()
        self.received += 1
        return answer

    def reading(self) -> str:
        """Indices of the images of the batch that the worker began last."""
        requests = [request.image for request in self.asked[max(0, self.begun.value - self.received - 1)]]
        more = f" and {len(requests) - _SHOWN} more" if len(requests) > _SHOWN else ""
        return f"{requests[:_SHOWN]}{more}"


def _work(reader: Any, tasks: Any, results: Connection[Any, Any], begun: Any, number: int) -> None:
    """What a worker does: send (batch, None, True), (traceback, error, True), or why these cannot be sent."""
    _set_up_worker(number)
    log = WorkerLog()
    dataset, collate_fn = reader or ForkingPickler.loads(tasks.get())
    while (requests := tasks.get()) is not None:
        begun.value += 1
        answer: tuple[Any, Exception | None]
        try:
            answer = collate_fn(dataset.__getitems__(requests)), None
        except Exception as error:
            answer = traceback.format_exc(), error
        try:
            results.send((*answer, True, log.take()))  # pickled, and moved to shared memory, before anything is written
        except ConnectionError:  # the loader is closed
            return
        except Exception as error:
            results.send((_reason(error), None, False, []))
        del answer


def _set_up_worker(number: int) -> None:
    """One thread, no answer to signals that the whole group of processes gets, an end when the parent ends."""
    torch.set_num_threads(1)
    seed_everything(number)  # what a user's own collation may draw from
    with contextlib.suppress(AttributeError, OSError):  # Windows has no groups
        os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def end_with_parent() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _end(workers: list[_Worker], owner: int) -> None:
    """Ask workers to end, and end those that do not; in the process that has started them."""
    if os.getpid() != owner:
        return
    for worker in workers:
        worker.results.close()
        with contextlib.suppress(Exception):  # at the interpreter's exit the queue may be closed already
            worker.tasks.put(None)
    deadline = time.monotonic() + _GRACE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.tasks.close()
    workers.clear()


def _reason(error: Exception) -> tuple[str, str]:
    """Why workers cannot be used, and the fix."""
    text = f"{type(error).__name__}: {error}".partition("\n")[0]
    if type(error).__name__ in ("PicklingError", "TypeError", "AttributeError"):
        return text, _TOP_LEVEL
    return text, _MEMORY if isinstance(error, RuntimeError) else f"Use fewer workers, or pass num_workers=0. {_MEMORY}"
