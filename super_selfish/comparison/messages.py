"""Log messages of the trainings of a comparison."""

from __future__ import annotations

import logging

FOLDER = "super-selfish-compare-"
"""Prefix of the folders of single trainings, which are removed."""


class Once(logging.Filter):
    """Lets each message of the library pass once in a comparison, and none while speed is measured.

    Attributes:
        is_quiet: Whether no message passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.is_quiet = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message passes."""
        text = str(record.msg)
        is_new = text not in self.seen
        if any(part in record.getMessage() for part in (FOLDER, "checkpoint_every=0")):
            return False  # about files of a single training, which are removed
        if not self.is_quiet:
            self.seen.add(text)
        return is_new and not self.is_quiet
