"""Reading batches by processes, and by other means where processes cannot work."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import logging
import os
import signal
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.utils.data import DataLoader

from super_selfish.errors import WorkerHung, WorkerKilled

logger = logging.getLogger("super_selfish")

_SHOWN = 16  # indices
_SLICE = 2.0  # seconds
_BUS_ERROR = getattr(signal, "SIGBUS", 7)
_MEMORY = ("bus error", "shared memory", "unable to mmap", "too many open files")


class WorkerLoader:
    """A ``DataLoader`` with worker processes; if they cannot start, or lack shared memory, others read what is left.

    Args:
        dataset: Read by ticket.
        batch_sampler: Asked anew for batches of tickets at every pass.
        collate_fn: From the items of a batch to the batch.
        num_workers: How many processes read.
        pin: Copy batches to page-locked memory, by a thread of this process.
        instead: Makes the loader that takes over, of what is left to be read.
        timeout: Seconds to wait for a batch; None: for ever.
    """

    def __init__(
        self,
        dataset: Any,
        batch_sampler: Iterable[Sequence[Any]],
        collate_fn: Callable[[list[Any]], Any],
        *,
        num_workers: int,
        pin: bool,
        instead: Callable[[Iterable[Sequence[Any]]], Iterable[Any]],
        timeout: float | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = batch_sampler
        self.collate_fn = collate_fn
        self.num_workers = num_workers
        self.instead = instead
        self.timeout = timeout
        self._tickets = _Remembered(batch_sampler)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This DataLoader will create")  # told in our own words
            self._workers: DataLoader[Any] | None = DataLoader(
                dataset,
                batch_sampler=self._tickets,  # type: ignore[arg-type]  # it needs no length
                collate_fn=collate_fn,
                num_workers=num_workers,
                persistent_workers=True,
                pin_memory=pin,
                timeout=timeout or 0,
                worker_init_fn=_leave_signals_alone,
                generator=torch.Generator(),  # or every pass would draw from the user's global generator
            )

    def __iter__(self) -> Iterator[Any]:
        if self._workers is None:
            yield from self.instead(self.batch_sampler)
            return
        self._tickets.begin()
        batches, begun = None, False
        while True:
            try:
                batches = _started(self._workers) if batches is None else batches
                batch = next(batches)
            except StopIteration:
                return
            except Exception as error:
                if not _is_of_processes(error, batches, begun):
                    self._tell_killed(error, batches)
                    self._tell_hung(error)
                    raise
                logger.warning("%s", self._advice(error))
                break
            begun = True
            self._tickets.answer()
            yield batch
        self._workers = batches = None
        yield from self.instead(self._tickets.rest())

    def _tell_killed(self, error: Exception, batches: Iterator[Any] | None) -> None:
        """Say what a process read that a signal has ended, if one did."""
        codes = [process.exitcode or 0 for process in getattr(batches, "_workers", ())]
        if killed := [-code for code in codes if code < 0]:
            theirs = itertools.islice(itertools.cycle(codes), self._tickets.answered % len(codes), None)
            waiting = zip(theirs, self._tickets.waiting, strict=False)  # they take batches in turn
            images = [ticket.image for code, tickets in waiting if code < 0 for ticket in tickets]
            raise WorkerKilled(
                f"A process that reads images was ended by {signal.Signals(killed[0]).name}.",
                received=f"num_workers={self.num_workers}, reading images {_some(images)}",
                fix="SIGKILL is most often the system's, for want of memory: use fewer workers, or num_workers=0. "
                "After SIGSEGV look at what reads these images.",
            ) from error

    def _tell_hung(self, error: Exception) -> None:
        """Say what is being read by a process that does not answer, if that is what went wrong."""
        if not isinstance(error, RuntimeError) or "timed out after" not in str(error):
            return
        images = [ticket.image for ticket in self._tickets.waiting[0]]  # batches are answered in turn
        raise WorkerHung(
            f"A process that reads images has not answered for {self.timeout:g} s.",
            received=f"num_workers={self.num_workers}, reading images {_some(images)}",
            fix="Look at what reads these images: a network share that is gone, or a lock. If they take that long, "
            "raise worker_timeout.",
        ) from error

    def _advice(self, error: Exception) -> str:
        said = str(error).partition("\n")[0]
        if type(error).__name__ in ("PicklingError", "TypeError", "AttributeError"):
            fix = "Define what the data set holds at the top level of a module, or pass num_workers=0."
        elif isinstance(error, RuntimeError | ConnectionError | EOFError | FileNotFoundError):
            fix = (
                "Give more shared memory (docker run --shm-size=8g or --ipc=host), start the training below "
                "`if __name__ == '__main__':`, or pass num_workers=0."
            )
        else:
            fix = "Ask for fewer, or pass num_workers=0."
        return (
            f"num_workers={self.num_workers}: reading processes do not work here ({type(error).__name__}: {said}). "
            f"This process reads the images itself, which changes no result. {fix}"
        )


def _some(images: list[int]) -> str:
    more = f" and {len(images) - _SHOWN} more" if len(images) > _SHOWN else ""
    return f"{images[:_SHOWN]}{more}"


def _leave_signals_alone(_number: int) -> None:
    """Signals that a whole group of processes gets are for the training's own process to answer."""
    with contextlib.suppress(AttributeError, OSError):  # Windows has no groups
        os.setpgid(0, 0)
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _started(workers: DataLoader[Any]) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Got pickle error")  # likewise
        batches = iter(workers)
    if (look := getattr(type(batches), "_try_get_data", None)) is not None:
        seen = weakref.ref(batches)  # or processes would live until the garbage is collected
        batches._try_get_data = functools.partial(_looked_for, look, seen)  # type: ignore[attr-defined]
    if getattr(batches, "_worker_pids_set", False):  # else torch reports their deaths in the middle of anything
        torch._C._remove_worker_pids(id(batches))
        batches._worker_pids_set = False  # type: ignore[attr-defined]
    return batches


def _looked_for(look: Callable[..., tuple[bool, Any]], seen: Any, timeout: float = 5.0) -> tuple[bool, Any]:
    """Wait for a batch in slices: torch looks whether its processes live only when a wait is over."""
    begun = time.monotonic()
    while True:
        left = timeout - (time.monotonic() - begun)
        came, batch = look(seen(), max(0.0, min(_SLICE, left)))
        if came or left <= _SLICE:
            return came, batch


def _is_of_processes(error: Exception, batches: Iterator[Any] | None, begun: bool) -> bool:
    """Whether it is the processes that fail, rather than what they do."""
    if batches is None:
        return True  # they did not start; if it was something else after all, it is raised again without them
    if not isinstance(error, RuntimeError | OSError | EOFError):
        return False
    processes = getattr(batches, "_workers", ())
    for process in processes:  # the end of a connection may be noticed before that of the process behind it
        process.join(0.2 if isinstance(error, ConnectionError | EOFError | FileNotFoundError) else 0.0)
    codes = [process.exitcode for process in processes]
    if -_BUS_ERROR in codes or any(word in str(error).lower() for word in _MEMORY):
        return True
    ended = "exited unexpectedly" in str(error) and all(code is None or code >= 0 for code in codes)
    return ended and not begun


class _Remembered:
    """Batches of tickets, of which those are remembered that are not answered yet."""

    def __init__(self, batch_sampler: Iterable[Sequence[Any]]) -> None:
        self.batch_sampler = batch_sampler
        self.waiting: collections.deque[Sequence[Any]] = collections.deque()
        self.answered = 0
        self._rest: Iterator[Sequence[Any]] = iter(())

    def begin(self) -> None:
        """Forget the pass before."""
        self.waiting.clear()
        self.answered = 0
        self._rest = iter(self.batch_sampler)

    def answer(self) -> None:
        """The first of what is waited for has come."""
        self.waiting.popleft()
        self.answered += 1

    def __iter__(self) -> Iterator[Sequence[Any]]:
        for tickets in self._rest:
            self.waiting.append(tickets)
            yield tickets

    def rest(self) -> Iterator[Sequence[Any]]:
        """What is not answered."""
        return itertools.chain(list(self.waiting), self._rest)


@lru_cache(maxsize=64)
def tell_too_many(num_workers: int, cores: int) -> None:
    """Say once that there are more processes than cores."""
    if num_workers > cores:
        logger.warning(
            "num_workers=%d are more processes than the %d cores that this one may use; %d are enough.",
            num_workers,
            cores,
            cores,
        )
