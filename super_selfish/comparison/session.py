"""What surrounds a comparison or a study: a lock on its name, SIGTERM between trainings, and their log messages."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from super_selfish.errors import CheckpointError

FOLDER = "super-selfish-compare-"
"""Prefix of the folders of single trainings, which are removed."""


class locked:  # noqa: N801 - a context manager
    """Context manager: refuse a second comparison, or whatever ``what`` is, under the same name."""

    def __init__(self, base: Path, what: str = "comparison") -> None:
        self.lock, self.base, self.what = FileLock(base.with_name(f".{base.name}.{what}.lock"), timeout=0), base, what

    def __enter__(self) -> None:
        try:
            self.lock.acquire()
        except Timeout:
            raise CheckpointError(
                f"Another process runs the {self.what} `{self.base}`.", fix="Wait for it, or pass another `name`."
            ) from None

    def __exit__(self, *error: object) -> None:
        self.lock.release()


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Context manager: SIGTERM exits with status 143 between trainings too, which handle it themselves."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: object) -> None:  # noqa: ARG001 - signature of signal handlers
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Once(logging.Filter):
    """Lets each message of the library pass once in a comparison, and none while speed is measured.

    Messages about arguments and files of a single training, which the user does not choose, never pass.

    Attributes:
        is_quiet: Whether no message passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.is_quiet = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message passes."""
        if hasattr(record, "advice") or any(part in record.getMessage() for part in (FOLDER, "checkpoint_every=0")):
            return False
        text = str(record.msg)
        is_new = text not in self.seen
        if not self.is_quiet:
            self.seen.add(text)
        return is_new and not self.is_quiet
