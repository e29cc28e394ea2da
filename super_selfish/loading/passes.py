"""State of a pass over a loader."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pass:
    """State of a pass over a loader.

    Attributes:
        read: Number of micro-batches read since the last optimizer step.
        committed: Whether an optimizer step was done on any of its batches.
        open: Whether the pass has not ended.
    """

    read: int = 0
    committed: bool = False
    open: bool = True
