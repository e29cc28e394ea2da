"""What commands share: defaults of their arguments, and lines of output."""

from __future__ import annotations

import sys

FOLDER = "dataset"
"""Default folder of images."""

NAME = "store/base"
"""Default name of a training."""


def echo(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
