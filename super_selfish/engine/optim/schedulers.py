"""Checks of the schedulers that a factory creates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from super_selfish.errors import ConfigurationError


def check_length(scheduler: Any, steps: int) -> None:
    """Check before training that a scheduler lasts for the whole run.

    Args:
        scheduler: A scheduler of torch.
        steps: Number of times that the run steps it.

    Raises:
        ConfigurationError: If it raises an error in one of the steps.
    """
    try:
        most = math.inf
        if isinstance(scheduler, LambdaLR):
            for factor in scheduler.lr_lambdas:
                factor(steps)
        elif hasattr(scheduler, "state_dict"):
            most = _most_steps(scheduler.state_dict())
    except (IndexError, KeyError, ValueError) as error:
        most, reason = steps - 1, f"{type(error).__name__}: {error}"
    else:
        reason = f"at most {most:g} steps"
    if steps > most:
        raise ConfigurationError(
            "The schedule is too short for this training.",
            expected=f"a schedule of at least {steps} steps",
            received=f"{type(scheduler).__name__}: {reason}",
            fix="Use total_steps=epochs * batches, or Schedule(...), which takes the length of the run.",
        )


def _most_steps(state: Mapping[str, Any]) -> float:
    """The number of steps that a scheduler supports, from its ``state_dict``."""
    most = [math.inf if (total := state.get("total_steps")) is None else float(total)]
    parts, milestones = state.get("_schedulers"), state.get("_milestones")
    if isinstance(parts, list) and isinstance(milestones, list):  # SequentialLR: one after the other
        begins, ends = [0, *milestones], [*milestones, math.inf]
        for part, begin, end in zip(parts, begins, ends, strict=True):
            allowed = begin + _most_steps(part)
            most += [allowed] if allowed < end else []
    elif isinstance(parts, list):  # ChainedScheduler: all at once
        most += [_most_steps(part) for part in parts]
    return min(most)
