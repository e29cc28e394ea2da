"""What data-loading workers log, on its way to the process that started them."""

from __future__ import annotations

import logging
from typing import NamedTuple


class Record(NamedTuple):
    """A line of the log.

    Attributes:
        level: Of the logging module.
        message: With its arguments.
        once: What the message is about, where one line about it is enough; None: nothing.
    """

    level: int
    message: str
    once: str | None


class WorkerLog(logging.Handler):
    """Collects what the library logs in this process, in place of the handlers that a fork brings along."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[Record] = []
        log = logging.getLogger("super_selfish")
        log.handlers = [self]
        log.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._records.append(Record(record.levelno, record.getMessage(), getattr(record, "once", None)))

    def take(self) -> list[Record]:
        """The records since the last call."""
        taken, self._records = self._records, []
        return taken


def log_again(records: list[Record], logged: set[str]) -> None:
    """Log in this process what a worker has logged.

    Args:
        records: Of the worker.
        logged: What one line is enough about and was logged already; gets what is logged now.
    """
    for level, message, once in records:
        if once is None or once not in logged:
            logging.getLogger("super_selfish").log(level, "%s", message, extra={"once": once})
        if once is not None:
            logged.add(once)
