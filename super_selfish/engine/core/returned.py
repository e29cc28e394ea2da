"""Return values of ``_forward``: a loss and, optionally, numbers to log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from super_selfish.errors import ConfigurationError


def split_loss(result: Any) -> tuple[Any, Mapping[str, Any]]:
    """Split the return value of ``_forward`` into the loss and the numbers to log.

    Args:
        result: A loss, ``(loss, logs)``, or a dictionary with the loss under ``"loss"``.

    Examples:
        >>> split_loss((1.5, {"accuracy": 0.5}))
        (1.5, {'accuracy': 0.5})
    """
    if isinstance(result, Mapping):
        return result.get("loss"), {key: value for key, value in result.items() if key != "loss"}
    if isinstance(result, tuple | list) and len(result) == 2 and isinstance(result[1], Mapping):
        return result[0], {key: value for key, value in result[1].items() if key != "loss"}
    return result, {}


def check_loss(loss: Any) -> None:
    """Check that a loss is differentiable.

    Raises:
        ConfigurationError: If it is not a scalar tensor that requires a gradient.
    """
    if isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad:
        return
    received = f"{len(loss)} values" if isinstance(loss, tuple | list) else type(loss).__name__
    if isinstance(loss, Tensor):
        received = f"a tensor of shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
    raise ConfigurationError(
        "`_forward` must return the loss.",
        expected='a scalar tensor with a gradient, (loss, logs), or a dictionary with "loss"',
        received=received,
    )
