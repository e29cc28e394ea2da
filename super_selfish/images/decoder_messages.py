"""Messages of decoders about damaged files that they can still read.

The C libraries behind OpenCV write to the standard error stream, Pillow warns, tifffile logs; none names the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

_STDERR = 2  # the file descriptor that C libraries write to


class _Collector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def decoder_messages() -> Iterator[list[str]]:
    """Collect the messages of decoders within the block; the list is complete when the block ends.

    This context manager is not thread-safe.

    Examples:
        >>> with decoder_messages() as messages:
        ...     warnings.warn("Corrupt EXIF data")
        >>> messages
        ['Corrupt EXIF data']
    """
    messages: list[str] = []
    log, collector = logging.getLogger("tifffile"), _Collector(messages)
    log.addHandler(collector)
    propagates, log.propagate = log.propagate, False
    try:
        with warnings.catch_warnings(record=True) as caught, _written_to_stderr(messages):
            warnings.simplefilter("always")
            yield messages
    finally:
        log.propagate = propagates
        log.removeHandler(collector)
        messages.extend(str(warning.message) for warning in caught)


@contextlib.contextmanager
def _written_to_stderr(messages: list[str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as written:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = os.dup(_STDERR)
        os.dup2(written.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            written.seek(0)
            messages.extend(line for line in written.read().decode("utf-8", "replace").splitlines() if line.strip())
