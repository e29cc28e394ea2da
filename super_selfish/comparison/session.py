"""What surrounds a comparison or a study: a lock on its name, and SIGTERM between trainings."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from super_selfish.errors import CheckpointError


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
