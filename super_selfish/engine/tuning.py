"""What a recipe makes of the arguments of ``supervise``."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import torch

from super_selfish.engine.callbacks.progress import say
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.core.setup import LISTED
from super_selfish.engine.optim.recipes import PAPER, Recipe, optimizer_words, recipe_of
from super_selfish.engine.optim.schedules import Schedule, constant_lr
from super_selfish.errors import ConfigurationError
from super_selfish.models.combined import CombinedNet

logger = logging.getLogger("super_selfish")

DEFAULT_LR, DEFAULT_OPTIMIZER = 1e-3, torch.optim.Adam
LOSES: dict[str, float] = {
    "byol": 3.8,
    "contrastive_multiview_coding": 3.3,
    "instance_discrimination": 3.4,
}
"""Points of a probe by which ``recipe="auto"`` is ahead of the defaults, where more than 3 (docs/learning.md)."""


def resolve(supervisor: SupervisorBase, settings: Settings, *, resumed: bool = False) -> Settings:
    """The settings with those of a recipe in place of the arguments that were not passed.

    A schedule of the library gets the length of the run.

    Args:
        supervisor: What is trained.
        settings: As given.
        resumed: Whether weights are going to be read from a checkpoint.

    Raises:
        ConfigurationError: If there is no such recipe for the algorithm, or nothing to adapt.
    """
    if settings.recipe is None:
        tell_of_recipes(supervisor, settings)
        return with_schedule_length(supervisor, settings)
    recipe = recipe_of(settings.recipe, supervisor.algorithm(), settings.epochs, supervisor.recipes)
    if recipe is None:
        raise ConfigurationError(
            f"No recipe of a paper is known for {type(supervisor).__name__}.",
            expected=f"one of {', '.join(sorted(PAPER))}",
            received='recipe="paper"',
            fix='recipe="auto" works for every algorithm. One of your own may have `recipes = {"paper": Recipe(...)}`.',
        )
    takes_weights = supervisor.algorithm() in LISTED  # others are given a model, which may be trained
    begun = settings.pretrained or resumed or supervisor.has_starting_weights or supervisor.cursor.step
    if settings.recipe == "adapt" and takes_weights and not begun:
        raise ConfigurationError(
            'recipe="adapt" goes on from trained weights.',
            expected=f"{type(supervisor).__name__}(images, weights=...), or pretrained=True",
            received="a network with fresh weights",
            fix='Pass `weights` to the constructor, or use recipe="auto".',
        )
    found = with_schedule_length(supervisor, dataclasses.replace(settings, **changes(supervisor, settings, recipe)))
    if settings.verbose:
        say(words(found, seen_batch(supervisor, found)))
        tell_of_centred_heads(supervisor, found)
    for hint in momentum_hints(supervisor, found):
        logger.warning(hint)
    return found


def changes(supervisor: SupervisorBase, settings: Settings, recipe: Recipe) -> dict[str, Any]:
    """Arguments that the recipe sets."""
    made: dict[str, Any] = {}
    if "optimizer" not in settings.explicit:  # a rate belongs to its optimizer
        made["optimizer"] = recipe.optimizer
        made["lr"] = recipe.rate(seen_batch(supervisor, settings))
    made |= {"lr_scheduler": recipe.schedule, "clip_grad": recipe.clip_grad, "polyak": recipe.polyak}
    return {name: value for name, value in made.items() if name not in settings.explicit}


def with_schedule_length(supervisor: SupervisorBase, settings: Settings) -> Settings:
    """The settings with a schedule of the library that is as long as the run, unless it has its own length."""
    schedule = settings.lr_scheduler
    if not isinstance(schedule, Schedule):
        return settings
    batches = max(1, length(supervisor) // seen_batch(supervisor, settings))
    fitted = schedule.for_run(settings.epochs, batches, settings.scheduler_interval)
    return dataclasses.replace(settings, lr_scheduler=fitted)


def length(supervisor: SupervisorBase) -> int:
    """Images of an epoch; 0 if that is not known."""
    return len(supervisor.dataset) if hasattr(supervisor.dataset, "__len__") else 0


def seen_batch(supervisor: SupervisorBase, settings: Settings) -> int:
    """Images of an update: no more than there are."""
    return min(settings.batch_size, length(supervisor) or settings.batch_size)


def words(settings: Settings, batch: int) -> str:
    """What a recipe has settled for batches of so many images, in a line."""
    schedule = settings.lr_scheduler
    own = "a schedule of your own" + (", so nothing is held still" if settings.recipe == "adapt" else "")
    parts = [
        f"{optimizer_words(settings.optimizer)} without weight decay on norms and biases",
        f"lr={settings.lr:g} for batches of {batch}",
        schedule.words() if isinstance(schedule, Schedule) else own,
    ]
    parts += [f"clip_grad={settings.clip_grad:g}"] if settings.clip_grad is not None else []
    parts += [f"polyak={settings.polyak:g}"] if settings.polyak is not None else []
    return f'recipe="{settings.recipe}": {"; ".join(parts)}'


def momentum_hints(supervisor: SupervisorBase, settings: Settings) -> list[str]:
    """Where a moving copy of the network is too slow for the length of the run."""
    momentum = getattr(supervisor, "m", None)
    updates = settings.epochs * (length(supervisor) // seen_batch(supervisor, settings))
    if not isinstance(momentum, float) or not 0 < momentum < 1 or not updates or (1 - momentum) * updates >= 10:
        return []
    better = max(0.9, 1 - 20 / updates)
    if momentum <= better:
        return []
    return [
        f"m={momentum:g}: the moving copy lags {1 / (1 - momentum):,.0f} updates behind, and this run has {updates:,}. "
        f"Pass m={better:.2g} to the constructor, or train longer."
    ]


_told: set[tuple[str, str]] = set()


def first_time(hint: str, supervisor: SupervisorBase) -> bool:
    """Whether a hint was not yet given for an algorithm in this process; it counts as given from here on."""
    known = len(_told)
    _told.add((hint, supervisor.algorithm()))
    return len(_told) > known


BANKS = ("instance_discrimination", "contrastive_multiview_coding", "pirl")
"""Algorithms that learned more with centred embeddings (docs/learning.md)."""


def tell_of_centred_heads(supervisor: SupervisorBase, settings: Settings) -> None:
    """Say once a process what helps an algorithm with a bank, where it is not used."""
    norms = (part for part in supervisor.model.predictor.modules() if isinstance(part, torch.nn.BatchNorm1d))
    helps = settings.recipe == "auto" and supervisor.algorithm() in BANKS and all(norm.affine for norm in norms)
    if helps and first_time("centred", supervisor):
        say(
            "With centred embeddings it learned more on small images (docs/learning.md): pass "
            'predictor=Classification([features, 512, embedding_size], norm_type="layer", centred=True).'
        )


def tell_of_recipes(supervisor: SupervisorBase, settings: Settings) -> None:
    """Say once a process what the defaults lose, where all of them are used."""
    lost = LOSES.get(supervisor.algorithm())
    plain = settings.optimizer is DEFAULT_OPTIMIZER and settings.lr_scheduler is constant_lr
    if lost is None or not plain or settings.lr != DEFAULT_LR or not settings.verbose:
        return
    if not first_time("lost", supervisor):
        return
    say(
        f'Adam with a constant rate of {DEFAULT_LR:g}: on small images, recipe="auto" was {lost:.1f} points of a '
        "linear probe better after as many epochs (docs/learning.md)."
    )


def split_groups(supervisor: SupervisorBase, groups: list[Any], settings: Settings) -> list[dict[str, Any]]:
    """An optimizer's groups, with norms, biases and all else that is no matrix in groups without weight decay.

    With ``recipe="adapt"`` the backbone's are apart as well, to be held still at first.

    Args:
        supervisor: Whose parameters they are.
        groups: What :meth:`Supervisor.parameter_groups` gives.
        settings: With a recipe.
    """
    grouped = any(isinstance(group, dict) for group in groups)
    plain: list[dict[str, Any]] = list(groups) if grouped else [{"params": list(groups)}]
    recipe = recipe_of(str(settings.recipe), supervisor.algorithm(), settings.epochs, supervisor.recipes)
    held = backbone_parameters(supervisor) if settings.recipe == "adapt" else set()
    found = []
    for index, group in enumerate(plain):
        rest: dict[str, Any] = {key: value for key, value in group.items() if key != "params"}
        if index and recipe is not None and "lr" in rest and getattr(supervisor, "d_lr", None) is None:
            rest["lr"] *= recipe.judged
        for frozen in (False, True):
            own = [weight for weight in group["params"] if (id(weight) in held) is frozen]
            marked = {"frozen": True} if frozen else {}
            matrices = [weight for weight in own if weight.ndim > 1]
            others = [weight for weight in own if weight.ndim <= 1]
            if matrices:
                found.append({"params": matrices, **rest, **marked})
            if others:
                found.append({"params": others, "weight_decay": 0.0, "adapt": False, **rest, **marked})
    return found


def backbone_parameters(supervisor: SupervisorBase) -> set[int]:
    """What belongs to the backbones, by identity."""
    other = getattr(supervisor.model, "ab", None)
    nets = [supervisor.model, *([other] if isinstance(other, CombinedNet) else [])]
    parts = [net.backbone for net in nets]
    return {id(weight) for part in parts for weight in part.parameters()}
