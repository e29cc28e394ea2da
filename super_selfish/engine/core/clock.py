"""Duration of steps and of an epoch, and time spent waiting for data."""

from __future__ import annotations

import time


class Clock:
    """Measures the duration of steps and of the current epoch, and the time spent waiting for data.

    Attributes:
        total_wait: Time spent waiting since the run began, in seconds.
    """

    def __init__(self) -> None:
        self.total_wait = 0.0
        self._steps = 0
        self._first = time.perf_counter()
        self.restart()

    def step(self) -> None:
        """Count a step."""
        self._steps += 1
        if self._steps == 1:
            self._duration, self._first = time.perf_counter() - self._first, time.perf_counter()

    @property
    def seconds_per_step(self) -> float:
        """Mean duration of a step in seconds, without the first, which includes start-up; 0 before it."""
        if self._steps < 2:
            return self._duration if self._steps else 0.0
        return (time.perf_counter() - self._first) / (self._steps - 1)

    def restart(self) -> None:
        """Start timing an epoch."""
        self.begin = time.perf_counter()
        self.waited = 0.0
        self.images = 0

    def wait(self, seconds: float) -> None:
        """Add time spent waiting, in seconds."""
        self.waited += seconds
        self.total_wait += seconds

    @property
    def seconds(self) -> float:
        """Time since the epoch began, in seconds."""
        return max(time.perf_counter() - self.begin, 1e-9)

    @property
    def images_per_second(self) -> float:
        """Images of the data set per second, not counting views."""
        return self.images / self.seconds

    @property
    def data_wait(self) -> float:
        """Fraction of the time spent waiting for batches, in [0, 1]."""
        return min(1.0, self.waited / self.seconds)
