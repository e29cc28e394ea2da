"""What a recipe makes of the arguments of ``supervise``."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import torch

from super_selfish.engine.callbacks.progress import print_line
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.optim.recipes import Recipe, describe_optimizer
from super_selfish.engine.optim.schedules import Schedule, constant_lr
from super_selfish.errors import ConfigurationError

logger = logging.getLogger("super_selfish")

DEFAULT_LR, DEFAULT_OPTIMIZER = 1e-3, torch.optim.Adam


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
        log_recipe_hint(supervisor, settings)
        return with_schedule_length(supervisor, settings)
    recipe = supervisor.training_recipe(settings.recipe, settings.epochs)
    if recipe is None:
        raise ConfigurationError(
            f"No recipe of a paper is known for {type(supervisor).__name__}.",
            expected='recipe="auto", or a class with `recipes = {"paper": Recipe(...)}`',
            received='recipe="paper"',
            fix='recipe="auto" works for every algorithm.',
        )
    has_trained_weights = (
        settings.pretrained or resumed or supervisor.has_starting_weights or supervisor._train_state.step
    )
    if settings.recipe == "adapt" and not supervisor.takes_model() and not has_trained_weights:
        raise ConfigurationError(
            'recipe="adapt" goes on from trained weights.',
            expected=f"{type(supervisor).__name__}(images, weights=...), or pretrained=True",
            received="a network with fresh weights",
            fix='Pass `weights` to the constructor, or use recipe="auto".',
        )
    found = with_schedule_length(supervisor, dataclasses.replace(settings, **changes(supervisor, settings, recipe)))
    if settings.verbose:
        print_line(describe_settings(found, effective_batch_size(supervisor, found)))
    updates = found.epochs * (length(supervisor) // effective_batch_size(supervisor, found))
    for hint in supervisor._hints(found.recipe, updates):
        if first_time(hint, supervisor):
            logger.warning(hint)
    return found


def changes(supervisor: SupervisorBase, settings: Settings, recipe: Recipe) -> dict[str, Any]:
    """Arguments that the recipe sets."""
    made: dict[str, Any] = {}
    if "optimizer" not in settings.explicit:  # a rate belongs to its optimizer
        made["optimizer"] = recipe.optimizer
        made["lr"] = recipe.rate(effective_batch_size(supervisor, settings))
    made |= {"lr_scheduler": recipe.schedule, "clip_grad": recipe.clip_grad, "polyak": recipe.polyak}
    return {name: value for name, value in made.items() if name not in settings.explicit}


def with_schedule_length(supervisor: SupervisorBase, settings: Settings) -> Settings:
    """The settings with a schedule of the library that is as long as the run, unless it has its own length."""
    schedule = settings.lr_scheduler
    if not isinstance(schedule, Schedule):
        return settings
    batches = max(1, length(supervisor) // effective_batch_size(supervisor, settings))
    fitted = schedule.for_run(settings.epochs, batches, settings.scheduler_interval)
    return dataclasses.replace(settings, lr_scheduler=fitted)


def length(supervisor: SupervisorBase) -> int:
    """Images of an epoch; 0 if that is not known."""
    return len(supervisor.dataset) if hasattr(supervisor.dataset, "__len__") else 0


def effective_batch_size(supervisor: SupervisorBase, settings: Settings) -> int:
    """Images of an update: no more than there are."""
    return min(settings.batch_size, length(supervisor) or settings.batch_size)


def describe_settings(settings: Settings, batch: int) -> str:
    """What a recipe has settled for batches of so many images, in a line."""
    schedule = settings.lr_scheduler
    own = "a schedule of your own" + (", so nothing is held still" if settings.recipe == "adapt" else "")
    parts = [
        f"{describe_optimizer(settings.optimizer)} without weight decay on norms and biases",
        f"lr={settings.lr:g} for batches of {batch}",
        schedule.describe() if isinstance(schedule, Schedule) else own,
    ]
    parts += [f"clip_grad={settings.clip_grad:g}"] if settings.clip_grad is not None else []
    parts += [f"polyak={settings.polyak:g}"] if settings.polyak is not None else []
    return f'recipe="{settings.recipe}": {"; ".join(parts)}'


_logged_hints: set[tuple[str, str]] = set()


def first_time(hint: str, supervisor: SupervisorBase) -> bool:
    """Whether a hint was not yet given for an algorithm in this process; it counts as given from here on."""
    known = len(_logged_hints)
    _logged_hints.add((hint, supervisor.algorithm()))
    return len(_logged_hints) > known


def log_recipe_hint(supervisor: SupervisorBase, settings: Settings) -> None:
    """Say once a process what the defaults lose, where all of them are used."""
    lost = supervisor.auto_gain
    plain = settings.optimizer is DEFAULT_OPTIMIZER and settings.lr_scheduler is constant_lr
    if lost is None or not plain or settings.lr != DEFAULT_LR or not settings.verbose:
        return
    if not first_time("lost", supervisor):
        return
    print_line(
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
    held = backbone_parameters(supervisor) if settings.recipe == "adapt" else set()
    found = []
    for group in plain:
        rest: dict[str, Any] = {key: value for key, value in group.items() if key != "params"}
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
    """The parameters of the backbones, by identity."""
    return {id(weight) for backbone in supervisor.backbones() for weight in backbone.parameters()}
