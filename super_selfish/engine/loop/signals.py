"""Signals that stop a run between two steps, when its state is consistent.

A signal also ends a wait for images, which may last indefinitely if a network share is unavailable.
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
_SCONTROL_TIMEOUT = 60  # seconds
_GRACE_SECONDS = 15.0  # maximum wait for images after a signal; schedulers kill after 30 s


class Stop:
    """Context manager that records SIGTERM, SIGUSR1 and the first Ctrl-C instead of ending the process immediately.

    A second Ctrl-C raises KeyboardInterrupt immediately. Previous handlers are restored at the end. Ignored signals
    stay ignored. Outside the main thread, no signals are handled.

    Attributes:
        received: The received signal, or None.
        at_once: Whether Ctrl-C was pressed twice.
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
        """Context manager of a wait for images, which a signal interrupts.

        Args:
            may_leave: Whether interrupting the wait loses no progress. If not, it is interrupted after 15 s.
            on_leaving: Called on an interruption that loses no progress.
        """
        self._waits, self._may_leave = True, may_leave
        try:
            yield
        except Exception:
            self.handle()  # the signal may also have killed the data-loading workers
            raise
        except BaseException:
            if may_leave:
                on_leaving()
            raise
        finally:
            self._waits = False

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signature of signal handlers
        interrupts = number == signal.SIGINT
        if interrupts and self.received == signal.SIGINT:
            self.at_once = True
            raise KeyboardInterrupt
        reminded = self.received is not None
        if self.received is None or interrupts:
            self.received = signal.Signals(number)
        if interrupts:
            os.write(2, b"\nStopping after this step. Press Ctrl-C again to exit immediately, without saving.\n")
        if self._waits and (self._may_leave or reminded):
            self.handle()
        self._remind()

    def _remind(self) -> None:
        """Send SIGTERM to this process after the grace period, in case it is still waiting."""
        if hasattr(signal, "pthread_kill") and signal.SIGTERM in self._before:
            main = threading.main_thread().ident
            self._reminder = threading.Timer(_GRACE_SECONDS, signal.pthread_kill, (main, signal.SIGTERM))
            self._reminder.daemon = True
            self._reminder.start()

    def handle(self) -> None:
        """Raise if a signal was received.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
            Preempted: After SIGTERM or SIGUSR1; exits the process with status 143 if not caught.
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            raise Preempted(f"Stopped by {self.received.name}.")


def was_restarted() -> bool:
    """Whether SLURM or torchrun restarted this job."""
    counts = (os.environ.get(name, "") for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))
    return any(count.isdecimal() and int(count) > 0 for count in counts)


def slurm_job() -> str:
    """Return the ID of the SLURM job of this process.

    Raises:
        ConfigurationError: If the process does not belong to a SLURM job.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if not _JOB.fullmatch(job):
        raise ConfigurationError(
            "`requeue=True` requeues a SLURM job, but this process does not belong to one.",
            expected="the job ID in SLURM_JOB_ID",
            received=f"SLURM_JOB_ID={job!r}",
        )
    return job


def requeue() -> None:
    """Requeue the SLURM job of this process; a failure is logged as an error."""
    job = slurm_job()
    try:
        asked = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=_SCONTROL_TIMEOUT, check=False
        )
        reason, failed = asked.stderr.strip(), asked.returncode != 0
    except (OSError, subprocess.SubprocessError) as error:
        reason, failed = str(error), True
    if failed:
        logger.error("SLURM job %s could not be requeued: %s", job, reason)
    else:
        logger.warning("SLURM job %s was requeued.", job)
