"""The validated settings of a run."""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Concatenate, ParamSpec, TypeVar

from super_selfish.engine.core.callback import Callback
from super_selfish.engine.optim.names import OPTIMIZERS, PRECISIONS, SCHEDULES, factory_of
from super_selfish.errors import ConfigurationError, check_choice
from super_selfish.loading.loader import check_loading

RECIPES = ("auto", "paper", "adapt")
P = ParamSpec("P")
Result = TypeVar("Result")
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Settings:
    """The arguments of ``supervise``, which documents them. Names of factories are replaced by what they name.

    Raises:
        ConfigurationError: If one is out of range.
    """

    lr: float
    optimizer: Any  # a name or a factory; a factory after construction
    epochs: int
    batch_size: int
    shuffle: bool
    num_workers: int
    name: str | os.PathLike[str]
    pretrained: bool
    lr_scheduler: Any  # likewise
    seed: int
    precision: str
    accumulate: int
    clip_grad: float | None
    recipe: str | None
    polyak: float | None
    scheduler_interval: str
    callbacks: Sequence[Callback]
    evaluate: Any
    watch: int | None
    on_error: str
    on_nonfinite: str
    nonfinite_limit: int
    worker_timeout: float | None
    resume: bool | str
    checkpoint_every: int | str | None
    keep: int
    allow_dataset_change: bool
    requeue: bool
    compile: bool
    sync_bn: str | bool
    verbose: bool
    explicit: frozenset[str] = frozenset()
    """Names of the arguments that the caller passed."""

    def __post_init__(self) -> None:
        _number("lr", self.lr, "a learning rate above 0", self.lr_is_sound)
        _integer("epochs", self.epochs, 0, "Pass the number of passes over the images, such as epochs=10.")
        check_loading(self.batch_size, self.num_workers, self.on_error)
        _integer("accumulate", self.accumulate, 1, "It is the number of gradient accumulation steps.")
        _integer("seed", self.seed, None, "The default is 0.")
        if self.clip_grad is not None:
            _number("clip_grad", self.clip_grad, "None, or the maximum gradient norm, above 0", self.clip_is_sound)
        if self.recipe is not None:
            check_choice("recipe", self.recipe, RECIPES)
        if self.polyak is not None:
            _number("polyak", self.polyak, "None, or a decay between 0 and 1 such as 0.999", self.polyak_is_sound)
        for name, known in (("optimizer", OPTIMIZERS), ("lr_scheduler", SCHEDULES)):
            object.__setattr__(self, name, factory_of(name, getattr(self, name), known))
        check_choice("precision", self.precision, tuple(PRECISIONS))
        object.__setattr__(self, "precision", PRECISIONS[self.precision])
        check_choice("compile", self.compile, (False, True))
        check_choice("sync_bn", self.sync_bn, ("auto", False, True))
        check_choice("scheduler_interval", self.scheduler_interval, ("step", "epoch"))
        check_choice("on_nonfinite", self.on_nonfinite, ("raise", "skip", "ignore"))
        _integer("nonfinite_limit", self.nonfinite_limit, 0, "It is the maximum number of skipped steps.")
        if self.worker_timeout is not None:
            _number("worker_timeout", self.worker_timeout, "None, or seconds above 0", self.timeout_is_sound)
        check_choice("allow_dataset_change", self.allow_dataset_change, (False, True))
        check_choice("requeue", self.requeue, (False, True))
        check_choice("resume", self.resume, (False, "auto", True))
        interval(self.checkpoint_every)
        if self.watch is not None:
            _integer("watch", self.watch, 0, "It is the number of images to monitor every epoch.")
        _integer("keep", self.keep, 1, "It is the number of checkpoints to keep.")
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise ConfigurationError(
                    "`callbacks` must be `Callback` instances.",
                    expected="instances of super_selfish.training.Callback",
                    received=repr(callback),
                )

    def lr_is_sound(self) -> bool:
        """Positive and finite."""
        return math.isfinite(self.lr) and self.lr > 0

    def clip_is_sound(self) -> bool:
        """Positive."""
        return self.clip_grad is not None and self.clip_grad > 0

    def polyak_is_sound(self) -> bool:
        """Between 0 and 1."""
        return self.polyak is not None and 0 < self.polyak < 1

    def timeout_is_sound(self) -> bool:
        """Positive and finite."""
        return self.worker_timeout is not None and 0 < self.worker_timeout < math.inf

    def for_loader(self) -> dict[str, Any]:
        """Additional arguments of the training loader."""
        return {"seed": self.seed, "on_error": self.on_error, "timeout": self.worker_timeout}

    def as_json(self) -> dict[str, Any]:
        """The settings that affect the result, as JSON values."""
        return {
            "lr": self.lr,
            "optimizer": _name(self.optimizer),
            "lr_scheduler": _name(self.lr_scheduler),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "precision": self.precision,
            "accumulate": self.accumulate,
            "clip_grad": self.clip_grad,
            "recipe": self.recipe,
            "polyak": self.polyak,
            "scheduler_interval": self.scheduler_interval,
            "compile": self.compile,
        }


def interval(value: int | str | None) -> tuple[int, float]:
    """Parse a checkpoint interval into steps and seconds, one of which is 0.

    Args:
        value: The argument ``checkpoint_every`` of ``supervise``.

    Raises:
        ConfigurationError: If it is not an interval.

    Examples:
        >>> interval("10min"), interval(500), interval(None)
        ((0, 600.0), (500, 0.0), (0, 0.0))
    """
    if value is None:
        return 0, 0.0
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value, 0.0
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h)\s*", value) if isinstance(value, str) else None
    seconds = float(found[1]) * {"s": 1, "min": 60, "h": 3600}[found[2]] if found else 0.0
    if not seconds:
        raise ConfigurationError(
            "`checkpoint_every` is out of range.",
            expected='None (each epoch), a number of steps, 0 (never), or a time such as "30s", "10min" or "2h"',
            received=f"checkpoint_every={value!r}",
        )
    return 0, seconds


SETTINGS = frozenset(field.name for field in fields(Settings)) - {"explicit"}


def records_explicit_arguments(
    supervise: Callable[Concatenate[Subject, P], Result],
) -> Callable[Concatenate[Subject, P], Result]:
    """Decorator that records the names of the passed arguments in ``self.explicit_arguments``; ``lr=None`` is none."""
    signature = inspect.signature(supervise)

    @functools.wraps(supervise)
    def call(self: Subject, /, *positional: P.args, **named: P.kwargs) -> Result:
        bound = signature.bind(self, *positional, **named)
        passed = [name for name, value in bound.arguments.items() if (name, value) != ("lr", None)]
        self.explicit_arguments = frozenset(passed[1:])  # type: ignore[attr-defined]
        return supervise(self, *positional, **named)

    return call


def _name(value: Any) -> str:
    if isinstance(value, functools.partial):
        given = [*map(repr, value.args), *(f"{key}={_name(part)}" for key, part in sorted(value.keywords.items()))]
        return f"{_name(value.func)}({', '.join(given)})"
    return str(getattr(value, "__qualname__", None) or re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))


def _number(name: str, value: Any, expected: str, is_valid: Callable[[], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_valid():
        raise ConfigurationError(f"`{name}` is out of range.", expected=expected, received=f"{name}={value!r}")


def _integer(name: str, value: Any, least: int | None, fix: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        expected = "an integer" if least is None else f"an integer of at least {least}"
        raise ConfigurationError(f"`{name}` is out of range.", expected=expected, received=f"{name}={value!r}", fix=fix)
