"""Data loading with worker processes, or in this process if workers cannot run."""

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

from super_selfish.errors import WorkerHung, WorkerKilled
from super_selfish.loading.main_guard import MAIN_GUARD, WORKER_NAME, check_main_guard
from super_selfish.loading.worker_log import WorkerLog, log_again
from super_selfish.seeding import seed_everything

logger = logging.getLogger("super_selfish")

_AHEAD = 2  # batches per worker
_SLICE = 0.5  # seconds between checks of the timeout; signals interrupt a wait immediately
_GRACE = 1.0  # seconds in which a worker can exit by itself
_SHOWN = 16  # indices
_BUS_ERROR = -getattr(signal, "SIGBUS", 7)  # on Linux, sent to processes that write to full shared memory
_MEMORY = "Increase the shared memory (docker run --shm-size=8g or --ipc=host), or pass num_workers=0."
_TOP_LEVEL = "Define the classes and functions of the data set at module level, or pass num_workers=0."


class WorkersUnusable(Exception):
    """Worker processes cannot run; the arguments are the reason and the fix."""


class WorkerLoader:
    """Data loader with worker processes, and a fallback if these cannot start or lack shared memory.

    Batches are yielded in order. Workers run until the loader is closed or garbage-collected. They exit when this
    process ends, for any reason.

    Args:
        dataset: Data set that is indexed by requests.
        batch_sampler: Iterable of batches of requests; iterated over again in every pass.
        collate_fn: Function from the items of a batch to the batch.
        num_workers: Number of worker processes.
        pin: Copy batches to pinned memory.
        fallback: Function that returns a loader for the remaining batches of requests.
        timeout: Maximum time in seconds to wait for a batch. None: no limit.
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
        if not self._usable or self._in_pass:  # nested passes must not mix their batches
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
                "num_workers=%d: worker processes cannot be used (%s). Images are read in the main process instead, "
                "which does not change results. %s",
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
        """Stop the workers."""
        _end(self._workers, os.getpid())

    def _start(self) -> None:
        if self._workers:
            return
        check_main_guard()
        try:
            for number in range(self.num_workers):
                self._workers.append(_Worker(self.dataset, self.collate_fn, number))
        except Exception as error:
            raise WorkersUnusable(*_reason(error)) from error

    def _receive(self, turns: collections.deque[_Worker]) -> Any:
        """Return the next batch; if this fails, its worker remains first in ``turns``."""
        worker = turns[0]
        ready = self._wait(worker)
        try:
            if worker.results not in ready:
                raise EOFError("the worker has exited")
            answer, error, sendable, records = worker.receive()
        except Exception as failure:  # unpickling can raise arbitrary exceptions
            worker.process.join(_GRACE)  # the pipe may be closed before the process has exited
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
        """Wait until a worker has sent an answer, has exited, or both."""
        began = time.monotonic()
        while not (ready := wait([worker.results, worker.process.sentinel], _SLICE)):
            if self.timeout is not None and time.monotonic() - began > self.timeout:
                raise WorkerHung(
                    f"A data-loading worker has not answered for {self.timeout:g} s.",
                    received=f"num_workers={self.num_workers}, reading images {worker.reading()}",
                    fix="Check for an unavailable network share or a deadlock. If reading takes this long, raise "
                    "worker_timeout.",
                )
        return ready

    def _failure(self, worker: _Worker, failure: Exception) -> Exception:
        """Return the exception for a worker that nothing can be received from."""
        code = worker.process.exitcode
        if code is None:
            return WorkersUnusable(*_reason(failure))
        if code == _BUS_ERROR:
            return WorkersUnusable("a worker was killed (SIGBUS)", _MEMORY)
        if code >= 0 and not self._received:
            return WorkersUnusable(f"a worker exited with status {code}", MAIN_GUARD)
        end = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"exited with status {code}"
        return WorkerKilled(
            f"A data-loading worker {end}.",
            received=f"num_workers={self.num_workers}, reading images {worker.reading()}",
            fix="SIGKILL usually means that the system ran out of memory: use fewer workers, or num_workers=0. "
            "For SIGSEGV, check these images and the code that reads them.",
        )


class _Worker:
    """A worker process with its requests and answers."""

    def __init__(self, dataset: Any, collate_fn: Callable[[list[Any]], Any], number: int) -> None:
        self.tasks: Any = (
            multiprocessing.Queue()
        )  # put() never blocks, even if the worker waits for its answer to be received
        self.tasks.cancel_join_thread()
        self.asked: collections.deque[Sequence[Any]] = collections.deque()  # and not yet received
        self.received = 0
        self.begun = multiprocessing.RawValue("Q", 0)  # number of batches that the process has started to read
        self.results: Connection[Any, Any]
        self.results, results = multiprocessing.Pipe(duplex=False)
        reader: Any = (dataset, collate_fn)
        if multiprocessing.get_start_method() != "fork":  # not by start(), which hangs if the process dies
            self.tasks.put(bytes(ForkingPickler.dumps(reader)))
            reader = None
        self.process = multiprocessing.Process(
            target=_work, args=(reader, self.tasks, results, self.begun, number), name=WORKER_NAME, daemon=True
        )
        self.process.start()
        results.close()  # only the worker holds it now, so that its exit is detected

    def ask(self, requests: Sequence[Any]) -> None:
        self.tasks.put(requests)
        self.asked.append(requests)

    def receive(self) -> Any:
        answer = self.results.recv()
        self.received += 1
        return answer

    def reading(self) -> str:
        """Format the indices of the images in the batch that the worker started last."""
        requests = [request.image for request in self.asked[max(0, self.begun.value - self.received - 1)]]
        more = f" and {len(requests) - _SHOWN} more" if len(requests) > _SHOWN else ""
        return f"{requests[:_SHOWN]}{more}"


def _work(reader: Any, tasks: Any, results: Connection[Any, Any], begun: Any, number: int) -> None:
    """Main loop of a worker: send (batch, None, True), (traceback, error, True), or why these cannot be sent."""
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
            results.send((*answer, True, log.take()))  # pickled, and moved to shared memory, before it is sent
        except ConnectionError:  # the loader is closed
            return
        except Exception as error:
            results.send((_reason(error), None, False, []))
        del answer


def _set_up_worker(number: int) -> None:
    """Use one thread, ignore signals that are sent to the whole process group, and exit when the parent exits."""
    torch.set_num_threads(1)
    seed_everything(number)  # for custom collate functions
    with contextlib.suppress(AttributeError, OSError):  # Windows has no process groups
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
    """Stop the workers, and kill those that do not exit; does nothing in other processes than ``owner``."""
    if os.getpid() != owner:
        return
    for worker in workers:
        worker.results.close()
        with contextlib.suppress(Exception):  # the queue may already be closed when the interpreter exits
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
    """Return why workers cannot be used, and the fix."""
    text = f"{type(error).__name__}: {error}".partition("\n")[0]
    if type(error).__name__ in ("PicklingError", "TypeError", "AttributeError"):
        return text, _TOP_LEVEL
    return text, _MEMORY if isinstance(error, RuntimeError) else f"Use fewer workers, or pass num_workers=0. {_MEMORY}"
