"""One pass over a loader."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pass:
    """One pass over a loader.

    Attributes:
        read: Micro-batches read since the last update.
        committed: Whether an update followed on one of its batches.
        open: Whether it can go on.
    """

    read: int = 0
    committed: bool = False
    open: bool = True
