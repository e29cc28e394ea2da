"""Forwarding of log records from data-loading workers to the main process."""

from __future__ import annotations

import logging
from typing import NamedTuple


class Record(NamedTuple):
    """A log record.

    Attributes:
        level: Log level of the ``logging`` module.
        message: Formatted message.
        once: Key of messages that are logged only once; None: the message is always logged.
    """

    level: int
    message: str
    once: str | None


class WorkerLog(logging.Handler):
    """Handler that collects the log records of this process, and replaces the handlers inherited by a fork."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[Record] = []
        log = logging.getLogger("super_selfish")
        log.handlers = [self]
        log.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Store a record."""
        self._records.append(Record(record.levelno, record.getMessage(), getattr(record, "once", None)))

    def take(self) -> list[Record]:
        """Return the records since the last call."""
        taken, self._records = self._records, []
        return taken


def log_again(records: list[Record], logged: set[str]) -> None:
    """Log the records of a worker in this process.

    Args:
        records: Records of the worker.
        logged: Keys of messages to log only once that were logged before; updated in place.
    """
    for level, message, once in records:
        if once is None or once not in logged:
            logging.getLogger("super_selfish").log(level, "%s", message, extra={"once": once})
        if once is not None:
            logged.add(once)
