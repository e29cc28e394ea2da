"""How long an epoch takes, and how much of that is waiting."""

from __future__ import annotations

import time


class Clock:
    """Seconds of the epoch under way, and how many of them were spent waiting for data.

    Attributes:
        total_wait: Seconds spent waiting since the run began.
    """

    def __init__(self) -> None:
        self.total_wait = 0.0
        self.restart()

    def restart(self) -> None:
        """Begin an epoch."""
        self.begin = time.perf_counter()
        self.waited = 0.0
        self.images = 0

    def wait(self, seconds: float) -> None:
        """Count seconds spent waiting."""
        self.waited += seconds
        self.total_wait += seconds

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return max(time.perf_counter() - self.begin, 1e-9)

    @property
    def images_per_second(self) -> float:
        """Images of the data set, views not counted."""
        return self.images / self.seconds

    @property
    def data_wait(self) -> float:
        """Share of the time spent waiting for batches, in [0, 1]."""
        return min(1.0, self.waited / self.seconds)
