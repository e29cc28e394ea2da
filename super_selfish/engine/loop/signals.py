"""Signals that ask a run to stop, obeyed between two steps, when everything is consistent.

A wait for images is between two steps too, and may last for ever where a network share is gone: a signal ends it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from typing_extensions import Self

from super_selfish.errors import ConfigurationError, Preempted

logger = logging.getLogger("super_selfish")

_JOB = re.compile(r"[0-9_]+")
_SCONTROL_TIMEOUT = 60  # that scontrol may take
_GRACE_SECONDS = 15.0  # seconds that a wait which should not be left may go on; schedulers kill after 30


class Stop:
    """Within the block, SIGTERM, SIGUSR1 and the first Ctrl-C are noted instead of ending the process at once.

    A second Ctrl-C raises KeyboardInterrupt where it finds the process. Handlers that were there before come back at
    the end. Signals that are ignored stay ignored; outside the main thread none are caught.

    Attributes:
        received: The signal that came; None: none did.
        at_once: Whether Ctrl-C came twice.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.at_once = False
        self._before: dict[signal.Signals, Any] = {}
        self._waits = self._may_leave = False
        self._reminder: threading.Timer | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGUSR1", "SIGINT"):  # Windows has no SIGUSR1
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._reminder is not None:
            self._reminder.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextlib.contextmanager
    def waiting(self, may_leave: bool, on_leaving: Callable[[], None]) -> Iterator[None]:
        """A wait for images, which a signal ends.

        Args:
            may_leave: Whether nothing is lost by that. Else the wait may go on for 15 s, in the hope that it ends.
            on_leaving: Called where nothing is lost.
        """
        self._waits, self._may_leave = True, may_leave
        try:
            yield
        except Exception:
            self.handle()  # the signal that ends this process may have ended those that read
            raise
        except BaseException:
            if may_leave:
                on_leaving()
            raise
        finally:
            self._waits = False

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the protocol's
        interrupts = number == signal.SIGINT
        if interrupts and self.received == signal.SIGINT:
            self.at_once = True
            raise KeyboardInterrupt
        reminded = self.received is not None
        if self.received is None or interrupts:
            self.received = signal.Signals(number)
        if interrupts:
            os.write(2, b"\nStopping after this step; Ctrl-C again leaves at once, without saving.\n")
        if self._waits and (self._may_leave or reminded):
            self.handle()
        self._remind()

    def _remind(self) -> None:
        """Have this process sent SIGTERM later, in case it waits then."""
        if hasattr(signal, "pthread_kill") and signal.SIGTERM in self._before:
            main = threading.main_thread().ident
            self._reminder = threading.Timer(_GRACE_SECONDS, signal.pthread_kill, (main, signal.SIGTERM))
            self._reminder.daemon = True
            self._reminder.start()

    def handle(self) -> None:
        """Leave if a signal came.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
            Preempted: After SIGTERM or SIGUSR1; it ends the process with exit status 143.
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            raise Preempted(f"Stopped by {self.received.name}.")


def was_restarted() -> bool:
    """Whether SLURM or torchrun started this job again."""
    counts = (os.environ.get(name, "") for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))
    return any(count.isdecimal() and int(count) > 0 for count in counts)


def slurm_job() -> str:
    """The number of the SLURM job that this process is of.

    Raises:
        ConfigurationError: If it is of none.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if not _JOB.fullmatch(job):
        raise ConfigurationError(
            "`requeue=True` puts a SLURM job back into the queue, and this process is of none.",
            expected="the number of the job in SLURM_JOB_ID",
            received=f"SLURM_JOB_ID={job!r}",
        )
    return job


def requeue() -> None:
    """Ask SLURM to start this job again; what goes wrong is an error in the log."""
    job = slurm_job()
    try:
        asked = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=_SCONTROL_TIMEOUT, check=False
        )
        reason, failed = asked.stderr.strip(), asked.returncode != 0
    except (OSError, subprocess.SubprocessError) as error:
        reason, failed = str(error), True
    if failed:
        logger.error("The job %s could not be put back into the queue: %s", job, reason)
    else:
        logger.warning("The job %s is back in the queue.", job)
