"""The losses of an epoch, also with custom training loops."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from super_selfish.engine.core.returned import check_loss, split_loss
from super_selfish.errors import ConfigurationError

Appended = Sequence[tuple[list[Any], Any]]
"""Lists, each with an item that the forward pass appended to it."""

logger = logging.getLogger("super_selfish")

_OWN_COLUMNS = ("epoch", "images_per_second", "data_wait")
_FORWARD, _BACKWARD_IN_EVAL, _BACKWARD = 1, 2, 3


@dataclass(eq=False)
class _Observed:
    """One loss that ``_forward`` returned since the last update.

    Attributes:
        value: The loss, multiplied by ``share``.
        share: Fraction of the global batch that the loss belongs to.
        logs: Numbers to log with the loss.
        rank: How certain it is that the loss was trained on. Only the highest rank of a step counts.
        appended: Items that the forward pass appended to lists.
    """

    value: Tensor
    share: float
    logs: dict[str, Any]
    rank: int
    appended: Appended


def remove_appended(appended: Appended) -> None:
    """Remove items from the lists to which they were appended."""
    for items, item in appended:
        items[:] = [each for each in items if each is not item]


class EpochLosses:
    """Mean of the training losses of an epoch and of the numbers logged with them.

    A loss counts only if its gradient is computed. Losses of validation batches do not.

    Attributes:
        total: Sum of the losses of the steps of the epoch; None before the first step.
        count: Number of batches in this sum.
        logs: Sum and number of batches of each logged number, by name.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0.0
        self.logs: dict[str, tuple[Any, float]] = {}
        self._open: list[_Observed] = []
        self._has_recorded = False

    def record_loss(self, result: Any, share: float, training: bool, appended: Appended = ()) -> None:
        """Record the return value of ``_forward``, without synchronising the device.

        Args:
            result: The return value.
            share: Fraction of the global batch that the loss belongs to.
            training: Whether the networks are in training mode.
            appended: Items that the forward pass appended to lists; they are removed if the loss is not trained on.

        Raises:
            ConfigurationError: If it is not a valid loss, or a logged number has a reserved column name.
        """
        if not torch.is_grad_enabled():
            remove_appended(appended)
            return
        loss, logs = split_loss(result)
        check_loss(loss, result)
        self._has_recorded = True
        rank = _FORWARD if training else 0
        observed = _Observed(loss.detach().float() * share, share, _numbers(logs), rank, appended)
        self._open.append(observed)

        def trained_on(_gradient: Tensor) -> None:
            observed.rank = _BACKWARD if training else _BACKWARD_IN_EVAL

        loss.register_hook(trained_on)

    @property
    def seen(self) -> bool:
        """Whether ``_forward`` returned a loss since the last step."""
        return bool(self._open)

    @property
    def trained(self) -> bool:
        """Whether the gradient of a loss was computed since the last step."""
        return any(each.rank >= _BACKWARD_IN_EVAL for each in self._open)

    @property
    def pending(self) -> Tensor | None:
        """Sum of the losses of the current step; None without a loss."""
        return _total(self._of_update())

    def replace_pending(self, loss: Tensor) -> None:
        """Replace the loss of the current step, for example by the mean over processes."""
        chosen = self._of_update()
        if chosen:
            chosen[0].value = loss
            for each in chosen[1:]:
                each.value = torch.zeros_like(loss)

    def commit(self) -> None:
        """Add the losses of a completed step to the epoch."""
        chosen = self._of_update()
        if (pending := _total(chosen)) is not None:
            self.total = pending if self.total is None else self.total + pending
            self.count += sum(each.share for each in chosen)
        for each in self._open:
            remove_appended(() if each in chosen else each.appended)
        for each in chosen:
            for name, value in each.logs.items():
                before, count = self.logs.get(name, (0.0, 0.0))
                self.logs[name] = (before + value * each.share, count + each.share)
        self.discard()

    def discard(self) -> None:
        """Discard the losses of a skipped step."""
        self._open.clear()

    def close_epoch(self) -> dict[str, float]:
        """Return the mean loss and logged numbers of the epoch as history columns, and start the next epoch."""
        if not self._has_recorded:
            self._has_recorded = True  # reported once
            logger.warning(
                "The loss of this epoch is unknown, because the loop computes it without `self._forward`: it is NaN in "
                "the history, and is not checked for infinite values."
            )
        columns = {"loss": self.mean()}
        columns |= {name: float(total) / count for name, (total, count) in self.logs.items() if count}
        self.total, self.count, self.logs = None, 0.0, {}
        for each in self._open:
            remove_appended(() if each.rank >= _BACKWARD_IN_EVAL else each.appended)
        self.discard()
        return columns

    def mean(self) -> float:
        """Mean loss of the epoch so far; synchronises a GPU."""
        pending = [each for each in self._of_update() if each.rank >= _BACKWARD_IN_EVAL]
        count = self.count + sum(each.share for each in pending)
        parts = [part for part in (self.total, _total(pending)) if part is not None]
        return sum(float(part) for part in parts) / count if count else math.nan

    def _of_update(self) -> list[_Observed]:
        best = max((each.rank for each in self._open), default=0)
        return [each for each in self._open if each.rank == best] if best else []


def _total(observed: list[_Observed]) -> Tensor | None:
    return torch.stack([each.value for each in observed]).sum() if observed else None


def _numbers(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Select the values that can be averaged: numbers and tensors with one element."""
    if taken := [name for name in logs if name in _OWN_COLUMNS]:
        raise ConfigurationError(
            "A number that `_forward` returns beside the loss has the name of a column of the history.",
            expected=f"other names than {', '.join(_OWN_COLUMNS)}",
            received=", ".join(taken),
        )
    return {str(name): number for name, value in logs.items() if (number := _number(value)) is not None}


def _number(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().float().reshape(()) if value.numel() == 1 else None
    return float(value) if isinstance(value, bool | int | float | np.number) else None
