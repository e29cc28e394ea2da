"""What commands share: defaults of their arguments, and lines of output."""

from __future__ import annotations

import sys

FOLDER = "dataset"
"""Default folder of images."""

NAME = "store/base"
"""Default name of a training."""


def echo(text: str) -> None:
    """Write a line to stdout; what its encoding lacks, such as bytes of a file name that are not UTF-8, is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(f"{text}\n".encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
