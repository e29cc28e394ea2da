"""Training recipes: optimizer, learning rate and schedule for an algorithm.

Each algorithm class defines its recipes: ``"auto"``, from a search on small images, and ``"paper"``, the optimizer and
schedule of the paper. ``"adapt"`` is ``"auto"`` at a fifth of the learning rate, with the backbone frozen at first, and
the statistics of its batch norm frozen throughout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from super_selfish.engine.optim.lars import LARS
from super_selfish.engine.optim.schedules import Schedule


@dataclass(frozen=True)
class Recipe:
    """Optimizer, learning rate and schedule of one algorithm.

    Attributes:
        optimizer: Optimizer factory, without learning rate.
        lr: Learning rate for a batch size of ``images``.
        images: Batch size that ``lr`` was chosen for; None: ``lr`` applies to any batch size.
        power: Exponent of the batch size scaling: the learning rate is ``lr · (batch / images)^power``. 1 is linear
            scaling, as for SGD; 0.5 is square-root scaling, as for Adam.
        schedule: Learning rate schedule.
        clip_grad: Largest norm of the gradient; None: no clipping.
        polyak: Decay of the EMA of the weights; None: no EMA.
        decay_all: Apply weight decay to norms and biases too.
        judged: Learning rate of the discriminator as a fraction of ``lr``, unless the discriminator has its own.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    lr: float
    images: int | None = None
    power: float = 1.0
    schedule: Schedule = field(default_factory=Schedule)
    clip_grad: float | None = None
    polyak: float | None = None
    judged: float = 1.0
    decay_all: bool = False

    def rate(self, batch_size: int) -> float:
        """The learning rate for a batch size."""
        return self.lr if self.images is None else float(f"{self.lr * (batch_size / self.images) ** self.power:.6g}")

    def describe(self) -> str:
        """Human-readable description, valid for any batch size and length of the run."""
        parts = [describe_optimizer(self.optimizer), f"lr {self.lr:g}", self.schedule.shape()]
        if self.images is not None:
            parts[1] += f" · {'' if self.power == 1 else '√'}(batch / {self.images})"
        parts += ["weight decay on norms and biases too"] if self.decay_all else []
        parts += [f"gradients clipped to {self.clip_grad:g}"] if self.clip_grad is not None else []
        parts += [f"polyak {self.polyak:g}"] if self.polyak is not None else []
        parts += [f"the discriminator at {self.judged:g} of the rate"] if self.judged != 1 else []
        return "; ".join(parts)

    def adapted(self) -> Recipe:
        """A copy with a fifth of the learning rate, and frozen groups fixed in the first tenth of the run."""
        return replace(self, lr=self.lr / 5, schedule=replace(self.schedule, warm_up=0.1, freeze=0.1))


def adamw_recipe(
    lr: float,
    images: int = 64,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    clip_grad: float | None = None,
    judged: float = 1.0,
) -> Recipe:
    """AdamW with warm-up and cosine decay, as in most ``"auto"`` recipes; ``lr`` is for batches of ``images``."""
    optimizer = functools.partial(torch.optim.AdamW, betas=betas, weight_decay=1e-4)
    schedule = Schedule("cosine", warm_up=0.2, most_epochs=10)
    return Recipe(optimizer, lr, images, power=0.5, schedule=schedule, clip_grad=clip_grad, judged=judged)


def lars_recipe(lr: float, weight_decay: float) -> Recipe:
    """LARS with warm-up over ten epochs (in runs of at least 40) and cosine decay; ``lr`` is for batches of 256."""
    schedule = Schedule("cosine", warm_up=0.25, most_epochs=10)
    return Recipe(functools.partial(LARS, weight_decay=weight_decay), lr, 256, schedule=schedule)


def sgd(weight_decay: float = 0.0, *, nesterov: bool = False) -> Callable[..., torch.optim.Optimizer]:
    """Factory of SGD with momentum 0.9."""
    return functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=weight_decay, nesterov=nesterov)


def adam(betas: tuple[float, float], weight_decay: float = 0.0) -> Callable[..., torch.optim.Optimizer]:
    """Factory of Adam."""
    return functools.partial(torch.optim.Adam, betas=betas, weight_decay=weight_decay)


DEFAULT = adamw_recipe(2e-3)
"""The ``"auto"`` recipe of classes that do not define one."""


def describe_optimizer(factory: Callable[..., Any]) -> str:
    """Name and arguments of an optimizer factory."""
    if not isinstance(factory, functools.partial):
        return str(getattr(factory, "__name__", factory))
    arguments = ", ".join(f"{key}={value!r}" for key, value in factory.keywords.items())
    return f"{factory.func.__name__}({arguments})"
