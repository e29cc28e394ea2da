"""A callback that ends a run in the middle."""

from __future__ import annotations

from typing import Any

from super_selfish.training import Callback


class RaiseAfter(Callback):
    """Raise after a step of the training, counted over all runs.

    Args:
        step: The step, from 1; None: never.
        error: What is raised.
    """

    def __init__(self, step: int | None, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.step = step
        self.error = error

    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == self.step:
            raise self.error
