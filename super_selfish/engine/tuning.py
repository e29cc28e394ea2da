"""Application of training recipes to the arguments of ``supervise``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from super_selfish.datasets.image_source import expectation_of_few
from super_selfish.datasets.preprocessing import enlargement
from super_selfish.distributed.norms import BATCH_NORMS
from super_selfish.engine.callbacks.displays import print_advice
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.optim.optimizers import listed_groups
from super_selfish.engine.optim.recipes import Recipe, describe_optimizer
from super_selfish.engine.optim.schedules import Schedule, constant_lr
from super_selfish.errors import ConfigurationError
from super_selfish.suggestions import ADVICE

logger = logging.getLogger("super_selfish")

DEFAULT_LR, DEFAULT_OPTIMIZER = 1e-3, torch.optim.Adam
LAYER_NORM_LR = 1e-4
"""Default learning rate of backbones with layer norm. At 1e-3, Adam makes the features of all images nearly equal
within twenty steps: mean cosine similarity .64 → .997 (default network of Jigsaw and Instance Discrimination)."""


def chosen_lr(supervisor: SupervisorBase, lr: float | None) -> float:
    """Return a learning rate, or the default for the backbone if it is None."""
    if lr is not None:
        return lr
    layers = list(supervisor.model.backbone.modules())
    has_layer_norm = any(isinstance(layer, nn.LayerNorm | nn.GroupNorm) for layer in layers)
    has_batch_norm = any(isinstance(layer, BATCH_NORMS) for layer in layers)
    return LAYER_NORM_LR if has_layer_norm and not has_batch_norm else DEFAULT_LR


def resolve(supervisor: SupervisorBase, settings: Settings, *, resumed: bool = False) -> Settings:
    """Return settings in which a recipe replaces the arguments that were not passed.

    Schedules of the library are set to the length of the run.

    Args:
        supervisor: The supervisor that is trained.
        settings: The arguments of ``supervise``.
        resumed: Whether the run resumes from a checkpoint.

    Raises:
        ConfigurationError: If the algorithm has no such recipe, or there are no trained weights to adapt.
    """
    warn_of_few_images(supervisor)
    if not resumed:
        warn_of_enlarged_images(supervisor)
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
            'recipe="adapt" continues from trained weights.',
            expected="`weights`, or pretrained=True",
            received="randomly initialised weights",
            fix='Pass `weights` to the constructor, or use recipe="auto".',
        )
    found = with_schedule_length(supervisor, dataclasses.replace(settings, **changes(supervisor, settings, recipe)))
    if settings.verbose:
        print_advice(describe_settings(found, effective_batch_size(supervisor, found), decay_all=recipe.decay_all))
    updates = found.epochs * (length(supervisor) // effective_batch_size(supervisor, found))
    for hint in supervisor._hints(found.recipe, updates):
        if first_time(hint, supervisor):
            logger.warning(hint, extra=ADVICE)
    return found


def changes(supervisor: SupervisorBase, settings: Settings, recipe: Recipe) -> dict[str, Any]:
    """Return the arguments that the recipe sets."""
    made: dict[str, Any] = {}
    if "optimizer" not in settings.explicit:  # a learning rate depends on its optimizer
        made["optimizer"] = recipe.optimizer
        made["lr"] = recipe.rate(effective_batch_size(supervisor, settings))
    made |= {"lr_scheduler": recipe.schedule, "clip_grad": recipe.clip_grad, "polyak": recipe.polyak}
    return {name: value for name, value in made.items() if name not in settings.explicit}


def with_schedule_length(supervisor: SupervisorBase, settings: Settings) -> Settings:
    """Return settings in which a schedule of the library without ``total`` has the length of the run."""
    schedule = settings.lr_scheduler
    if not isinstance(schedule, Schedule):
        return settings
    batches = max(1, length(supervisor) // effective_batch_size(supervisor, settings))
    fitted = schedule.for_run(settings.epochs, batches, settings.scheduler_interval)
    return dataclasses.replace(settings, lr_scheduler=fitted)


def length(supervisor: SupervisorBase) -> int:
    """Return the number of images per epoch; 0: unknown."""
    return len(supervisor.dataset) if hasattr(supervisor.dataset, "__len__") else 0


def effective_batch_size(supervisor: SupervisorBase, settings: Settings) -> int:
    """Return the number of images per step, at most that of the data set."""
    return min(settings.batch_size, length(supervisor) or settings.batch_size)


def describe_settings(settings: Settings, batch: int, *, decay_all: bool) -> str:
    """Describe the settings of a recipe for a batch size, in one line."""
    schedule = settings.lr_scheduler
    custom = "a custom schedule" + (", so no layers are frozen at first" if settings.recipe == "adapt" else "")
    parts = [
        describe_optimizer(settings.optimizer) + ("" if decay_all else " without weight decay on norms and biases"),
        f"lr={settings.lr:g} for batches of {batch}",
        schedule.describe() if isinstance(schedule, Schedule) else custom,
    ]
    parts += [f"clip_grad={settings.clip_grad:g}"] if settings.clip_grad is not None else []
    parts += [f"polyak={settings.polyak:g}"] if settings.polyak is not None else []
    return f'recipe="{settings.recipe}": {"; ".join(parts)}'


_logged_hints: set[tuple[str, str]] = set()


def first_time(hint: str, supervisor: SupervisorBase) -> bool:
    """Whether a hint is new for an algorithm in this process; marks it as logged."""
    known = len(_logged_hints)
    _logged_hints.add((hint, supervisor.algorithm()))
    return len(_logged_hints) > known


def warn_of_few_images(supervisor: SupervisorBase) -> None:
    """Log once per process what to expect of a training from random weights on very few images."""
    images = length(supervisor)
    text = expectation_of_few(images) if images else None
    starts_random = not (supervisor.takes_model() or supervisor.has_starting_weights)
    if text and starts_random and first_time(text, supervisor):
        logger.warning(text, extra=ADVICE)


def warn_of_enlarged_images(supervisor: SupervisorBase) -> None:
    """Log once per process that images are clearly smaller than the resolution, unless trained weights determine it."""
    images = supervisor.image_dataset
    if images is None or supervisor.takes_model() or supervisor.has_starting_weights:
        return
    text = enlargement(images)
    if text and first_time(text, supervisor):
        logger.warning(text, extra=ADVICE)


def log_recipe_hint(supervisor: SupervisorBase, settings: Settings) -> None:
    """Log once per process how much a recipe gains, if all settings are defaults."""
    lost = supervisor.auto_gain
    plain = settings.optimizer is DEFAULT_OPTIMIZER and settings.lr_scheduler is constant_lr
    if lost is None or not plain or "lr" in settings.explicit or not settings.verbose:
        return
    if not first_time("lost", supervisor):
        return
    print_advice(
        f'Training with Adam at a constant rate of {settings.lr:g}. On small images, recipe="auto" improved the '
        f"accuracy of a linear probe by {lost:.1f} percentage points at the same number of epochs (docs/learning.md)."
    )


def split_groups(supervisor: SupervisorBase, groups: Iterable[Any], settings: Settings | None) -> list[Any]:
    """Return parameter groups in lists; with a recipe, split so that norms and biases have no weight decay.

    With a recipe that decays all parameters, they keep it. With ``recipe="adapt"``, parameters of the backbone have
    separate groups, which are frozen at first.

    Args:
        supervisor: The supervisor that is trained.
        groups: Result of :meth:`Supervisor.parameter_groups`.
        settings: Settings of the run.

    Raises:
        ConfigurationError: If there are no parameters.
    """
    groups = listed_groups(groups)
    if settings is None or settings.recipe is None:
        return groups
    grouped = any(isinstance(group, dict) for group in groups)
    plain: list[dict[str, Any]] = list(groups) if grouped else [{"params": list(groups)}]
    held = backbone_parameters(supervisor) if settings.recipe == "adapt" else set()
    recipe = supervisor.training_recipe(str(settings.recipe), settings.epochs)
    undecayed: dict[str, Any] = {} if recipe is not None and recipe.decay_all else {"weight_decay": 0.0}
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
                found.append({"params": others, **undecayed, "adapt": False, **rest, **marked})
    return found


def backbone_parameters(supervisor: SupervisorBase) -> set[int]:
    """Return the ``id()`` of each parameter of the backbones."""
    return {id(weight) for backbone in supervisor.backbones() for weight in backbone.parameters()}
