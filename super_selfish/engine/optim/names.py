"""Names of optimizers, schedules and precisions, as the command line and ``supervise`` accept them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from super_selfish.engine.optim.lars import LARS
from super_selfish.engine.optim.optimizers import OptimizerFactory
from super_selfish.engine.optim.schedules import Schedule, SchedulerFactory, constant_lr
from super_selfish.errors import ConfigurationError
from super_selfish.suggestions import did_you_mean

OptimizerName = Literal["adam", "adamw", "sgd", "lars"]
ScheduleName = Literal["constant", "cosine"]
PrecisionName = Literal["32", "bf16", "16", "fp32", "fp16"]

OPTIMIZERS: dict[str, OptimizerFactory] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "lars": LARS,
}
SCHEDULES: dict[str, SchedulerFactory] = {
    "constant": constant_lr,
    "cosine": Schedule("cosine", warm_up=0.1, most_epochs=10),
}
PRECISIONS = {"32": "32", "fp32": "32", "bf16": "bf16", "16": "16", "fp16": "16"}
"""The precision of a run by each of its names."""


def factory_of(name: str, value: Any, known: Mapping[str, Any]) -> Any:
    """The factory that an argument names, or is.

    Args:
        name: The argument.
        value: A name among ``known``, or a factory.
        known: Factories by name.

    Raises:
        ConfigurationError: If it is neither.

    Examples:
        >>> factory_of("optimizer", "adamw", OPTIMIZERS).__name__
        'AdamW'
    """
    found = known.get(value) if isinstance(value, str) else value
    if not callable(found):
        other = "a class such as torch.optim.Adam" if name == "optimizer" else "a function of the optimizer"
        raise ConfigurationError(
            f"`{name}` must be a name or a factory.",
            expected=f"{', '.join(map(repr, known))}, or {other}",
            received=f"{name}={value!r}",
            fix=did_you_mean(value, tuple(known)),
        )
    return found
