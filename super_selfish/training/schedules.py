"""Learning rates over the length of a run: warm-up, then one of four curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class Schedule:
    """A factor of the learning rate, from the share of the run that is done; called with an optimizer.

    Groups of the optimizer that are marked ``{"frozen": True}`` have rate 0 in the first part of the run, and their
    warm-up after it.

    Attributes:
        curve: ``"constant"``, ``"cosine"``, ``"steps"`` or ``"exponential"``: what follows the warm-up.
        warm_up: Share of the run in which the rate rises from near 0, along a straight line.
        most_epochs: How long the warm-up is at most, and ``freeze`` as well, in epochs.
        at: Shares of the run after which the rate is multiplied by ``factor``, for ``"steps"``.
        factor: See ``at``.
        begin: Share of the run where the curve leaves 1, for ``"exponential"``.
        end: The last factor, for ``"cosine"`` and ``"exponential"``.
        freeze: Share of the run in which marked groups stay as they are.
        total: Updates of the run.
        batches: Updates of an epoch.

    Examples:
        >>> halves = Schedule("steps", at=(0.5,), factor=0.5, total=4, batches=2)
        >>> [halves.at_step(step) for step in range(4)]
        [1.0, 1.0, 0.5, 0.5]
    """

    curve: str = "constant"
    warm_up: float = 0.0
    most_epochs: float = math.inf
    at: tuple[float, ...] = ()
    factor: float = 0.1
    begin: float = 0.0
    end: float = 0.0
    freeze: float = 0.0
    total: int = field(default=1, repr=False, compare=False)  # a run that continues may be longer
    batches: int = field(default=1, repr=False, compare=False)

    @property
    def warm_up_steps(self) -> int:
        """Updates until the rate is reached."""
        return round(min(self.warm_up * self.total, self.most_epochs * self.batches))

    @property
    def frozen_steps(self) -> int:
        """Updates that leave marked groups as they are."""
        return round(min(self.freeze * self.total, self.most_epochs * self.batches))

    def at_step(self, step: int) -> float:
        """The factor for the update after ``step`` others."""
        warm = self.warm_up_steps
        if step < warm:
            return (step + 1) / (warm + 1)
        done = min(1.0, (step - warm) / max(1, self.total - warm))
        if self.curve == "cosine":
            return self.end + (1 - self.end) * (1 + math.cos(math.pi * done)) / 2
        if self.curve == "steps":
            return self.factor ** sum(done >= place for place in self.at)
        if self.curve == "exponential":
            return float(self.end ** max(0.0, (done - self.begin) / (1 - self.begin)))
        return 1.0

    def __call__(self, optimizer: torch.optim.Optimizer) -> LambdaLR:
        """The schedule of an optimizer; one that continues takes the length of the run from here."""

        def factor(step: int) -> float:  # a function: LambdaLR would store an object with its length
            return self.at_step(step)

        def later(step: int) -> float:
            thawed = step - self.frozen_steps
            return 0.0 if thawed < 0 else min(self.at_step(step), (thawed + 1) / (self.warm_up_steps + 1))

        chosen: list[Callable[[int], float]] = [
            later if group.get("frozen") else factor for group in optimizer.param_groups
        ]
        return LambdaLR(optimizer, chosen)

    def go_to(self, share: float, scheduler: LambdaLR) -> None:
        """Let what :meth:`__call__` gave, and its optimizer, be as far as a share of the run, in [0, 1]."""
        step = scheduler.last_epoch = round(share * self.total)
        parts = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        for group, base, factor in parts:
            group["lr"] = base * factor(step)

    def shape(self) -> str:
        """The schedule in words, for runs of any length."""
        most = f", at most {self.most_epochs:g} epochs" if self.most_epochs < math.inf else ""
        warm = f"warm-up over {100 * self.warm_up:.0f} % of the run{most}, then " if self.warm_up else ""
        end, begin = (f"{100 * share:.0f} %" for share in (self.end, self.begin))
        curves = {
            "constant": "constant",
            "cosine": f"cosine to {self.end:g}",
            "steps": f"× {self.factor:g} at {', '.join(f'{100 * place:.0f} %' for place in self.at)} of the run",
            "exponential": f"falling exponentially to {end} from {begin} of the run on",
        }
        return warm + curves[self.curve]

    def words(self) -> str:
        """The schedule in words, with the updates of this run."""
        warm = f"{self.warm_up_steps} updates of warm-up, " if self.warm_up_steps else ""
        curves = {
            "constant": "then constant" if warm else "constant",
            "cosine": f"cosine to {self.end:g} over {self.total} updates",
            "steps": f"× {self.factor:g} at {', '.join(f'{place:.0%}' for place in self.at)} of {self.total} updates",
            "exponential": f"constant, then falling to {self.end:.0%} from {self.begin:.0%} of {self.total} updates",
        }
        held = f", weights of the backbone held still for {self.frozen_steps} updates" if self.frozen_steps else ""
        return f"{warm}{curves[self.curve]}{held}"
