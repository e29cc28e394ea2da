"""How each algorithm is trained well: by our own search on small images, as its paper says, or from trained weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch

from super_selfish.engine.optim.lars import LARS
from super_selfish.engine.optim.schedules import Schedule


@dataclass(frozen=True)
class Recipe:
    """Optimizer, learning rate and schedule of one algorithm.

    Attributes:
        optimizer: Factory, without learning rate.
        lr: Learning rate for batches of ``images``.
        images: The batch that ``lr`` is for; None: of any size.
        power: The rate grows with (batch / images) to this power: 1 as for SGD, 0.5 as for Adam.
        schedule: Of the rate.
        clip_grad: Largest norm of the gradient.
        polyak: Decay of an average of the weights.
        judged: Share of the rate that a discriminator gets, unless it was given one of its own.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    lr: float
    images: int | None = None
    power: float = 1.0
    schedule: Schedule = field(default_factory=Schedule)
    clip_grad: float | None = None
    polyak: float | None = None
    judged: float = 1.0

    def rate(self, batch_size: int) -> float:
        """The learning rate for a batch."""
        return self.lr if self.images is None else float(f"{self.lr * (batch_size / self.images) ** self.power:.6g}")

    def words(self) -> str:
        """The recipe in words, for batches and runs of any length."""
        parts = [optimizer_words(self.optimizer), f"lr {self.lr:g}", self.schedule.shape()]
        if self.images is not None:
            parts[1] += f" · {'' if self.power == 1 else '√'}(batch / {self.images})"
        parts += [f"gradients clipped to {self.clip_grad:g}"] if self.clip_grad is not None else []
        parts += [f"polyak {self.polyak:g}"] if self.polyak is not None else []
        parts += [f"the discriminator at {self.judged:g} of the rate"] if self.judged != 1 else []
        return "; ".join(parts)


def _adamw(
    lr: float, images: int = 64, *, betas: tuple[float, float] = (0.9, 0.999), clip_grad: float | None = None
) -> Recipe:
    made = functools.partial(torch.optim.AdamW, betas=betas, weight_decay=1e-4)
    schedule = Schedule("cosine", warm_up=0.2, most_epochs=10)
    return Recipe(made, lr, images, power=0.5, schedule=schedule, clip_grad=clip_grad)


def _sgd(weight_decay: float = 0.0, *, nesterov: bool = False) -> Callable[..., torch.optim.Optimizer]:
    return functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=weight_decay, nesterov=nesterov)


def _lars(lr: float, weight_decay: float) -> Recipe:
    schedule = Schedule("cosine", warm_up=0.25, most_epochs=10)  # ten epochs, of 40 and more
    return Recipe(functools.partial(LARS, weight_decay=weight_decay), lr, 256, schedule=schedule)


def _adam(betas: tuple[float, float], weight_decay: float = 0.0) -> Callable[..., torch.optim.Optimizer]:
    return functools.partial(torch.optim.Adam, betas=betas, weight_decay=weight_decay)


OTHERS = _adamw(2e-3)
"""``"auto"`` for classes that are in no table."""

AUTO: Mapping[str, Recipe] = {
    "exemplar_net": _adamw(2e-3),
    "rotate_net": _adamw(2e-3),
    "jigsaw_net": _adamw(2e-3),
    "denoise_net": _adamw(2e-3),
    "context_net": _adamw(2e-3),
    "split_brain_net": _adamw(2e-3),
    "bi_gan": _adamw(1e-3, betas=(0.5, 0.999)),
    "instance_discrimination": _adamw(1.5e-3),
    "contrastive_predictive_coding": _adamw(2e-3, 32, clip_grad=0.01),
    "momentum_contrast": _adamw(3e-3),
    "contrastive_multiview_coding": _adamw(1e-3),
    "byol": _adamw(8e-4, 32),
    "pirl": _adamw(3e-3),
}

PAPER: Mapping[str, Recipe] = {
    # Dosovitskiy et al., section 3: SGD with momentum, rate cut when the error stands still
    "exemplar_net": Recipe(_sgd(), 0.01, 128, schedule=Schedule("steps", at=(0.4, 0.7, 0.9))),
    # Gidaris et al., code for ImageNet: batches of 192, rate cut after 15, 30 and 45 of 50 epochs
    "rotate_net": Recipe(_sgd(5e-4, nesterov=True), 0.01, 192, schedule=Schedule("steps", at=(0.3, 0.6, 0.9))),
    # Noroozi and Favaro, code: batches of 256, rate cut every 100,000 of 350,000 updates
    "jigsaw_net": Recipe(_sgd(5e-4), 0.01, 256, schedule=Schedule("steps", at=(2 / 7, 4 / 7, 6 / 7))),
    # Vincent et al.: plain SGD, constant
    "denoise_net": Recipe(torch.optim.SGD, 0.01),
    # Pathak et al., section 4 and code: the discriminator at a tenth of the rate
    "context_net": Recipe(_adam((0.5, 0.999)), 2e-3, judged=0.1),
    # Zhang et al., "Colorful Image Colorization", the optimizer that split-brain takes over
    "split_brain_net": Recipe(_adam((0.9, 0.99), 1e-3), 3e-5, schedule=Schedule("steps", at=(0.45, 0.84), factor=0.32)),
    # Donahue et al., appendix C: rate falling exponentially over the second half
    "bi_gan": Recipe(_adam((0.5, 0.999), 2.5e-5), 2e-4, schedule=Schedule("exponential", begin=0.5, end=0.01)),
    # Wu et al., section 4: batches of 256, rate .03, ten times less after 120 and 160 of 200 epochs
    "instance_discrimination": Recipe(_sgd(1e-4), 0.03, 256, schedule=Schedule("steps", at=(0.6, 0.8))),
    # Hénaff et al., appendix A
    "contrastive_predictive_coding": Recipe(_adam((0.8, 0.999)), 4e-4, clip_grad=0.01, polyak=0.9999),
    # Chen et al., "Improved Baselines with Momentum Contrastive Learning"
    "momentum_contrast": Recipe(_sgd(1e-4), 0.03, 256, schedule=Schedule("cosine")),
    # Tian et al., appendix: rate .03, ten times less after 120, 160 and 200 of 240 epochs
    "contrastive_multiview_coding": Recipe(_sgd(1e-4), 0.03, schedule=Schedule("steps", at=(0.5, 2 / 3, 5 / 6))),
    # Grill et al., section 3.3, of 1,000 epochs; BYOL below has those of shorter runs
    "byol": _lars(0.2, 1.5e-6),
    # Misra and van der Maaten, section 4: cosine from .12 at 1,024 images to a thousandth of it
    "pirl": Recipe(_sgd(1e-4), 0.12, 1024, schedule=Schedule("cosine", end=1e-3)),
}


BYOL: Mapping[int, Recipe] = {
    # Grill et al., appendix and code: by epochs
    40: _lars(0.45, 1e-6),
    100: _lars(0.45, 1e-6),
    300: _lars(0.3, 1e-6),
    1000: PAPER["byol"],
}


def recipe_of(
    recipe: str, algorithm: str, epochs: int = 1000, own: Mapping[str, Recipe] = MappingProxyType({})
) -> Recipe | None:
    """A recipe by name; None: there is none of a paper.

    Args:
        recipe: ``"auto"``, ``"paper"`` or ``"adapt"``, which is ``"auto"`` with a fifth of the rate.
        algorithm: As :meth:`Supervisor.algorithm` names it.
        epochs: Length of the run.
        own: Recipes of an algorithm of one's own, which go before those here.
    """
    if recipe in own:
        return own[recipe]
    if recipe == "paper" and algorithm == "byol":
        return BYOL[min(BYOL, key=lambda length: abs(math.log(length / max(1, epochs))))]
    if recipe == "paper":
        return PAPER.get(algorithm)
    found = own.get("auto") or AUTO.get(algorithm, OTHERS)
    if recipe == "adapt":
        slow = replace(found.schedule, warm_up=0.1, freeze=0.1)
        return replace(found, lr=found.lr / 5, schedule=slow)
    return found


def optimizer_words(factory: Callable[..., Any]) -> str:
    """An optimizer with its settings, in words."""
    if not isinstance(factory, functools.partial):
        return str(getattr(factory, "__name__", factory))
    given = ", ".join(f"{key}={value!r}" for key, value in factory.keywords.items())
    return f"{factory.func.__name__}({given})"
