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


def check_loss(loss: Any, result: Any = None) -> None:
    """Check that a loss is differentiable.

    Args:
        loss: The loss, as :func:`split_loss` returns it.
        result: What ``_forward`` returned.

    Raises:
        ConfigurationError: If it is not a scalar tensor that requires a gradient.
    """
    if isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad:
        return
    received, fix = type(loss).__name__, None
    if isinstance(loss, Tensor):
        received = f"a tensor of shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
        fix = "Remove `.detach()`, `.item()` and `torch.no_grad()` between the networks and the loss."
        if loss.ndim:
            fix = "Take the mean over the batch: loss.mean()."
    elif isinstance(result, Mapping):
        received = f'a dictionary without "loss", with {", ".join(map(repr, result)) or "nothing"}'
    elif isinstance(result, tuple | list):
        received = f"({', '.join(type(part).__name__ for part in result)})"
        fix = "Return the loss first, then a dictionary of numbers."
    elif loss is None:
        fix = "End `_forward` with `return loss`."
    raise ConfigurationError(
        "`_forward` must return the loss.",
        expected='a scalar tensor with a gradient, (loss, logs), or a dictionary with "loss"',
        received=received,
        fix=fix,
    )
