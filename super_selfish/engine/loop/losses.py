"""The losses of an epoch: those that were trained on, whoever wrote the loop."""

from __future__ import annotations

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
_OWN_COLUMNS = ("epoch", "images_per_second", "data_wait")
_FORWARD, _BACKWARD_IN_EVAL, _BACKWARD = 1, 2, 3


@dataclass(eq=False)
class _Observed:
    """One loss that ``_forward`` returned since the last update.

    Attributes:
        value: Times its part of a global batch.
        share: That part.
        logs: Numbers to be logged beside it.
        rank: How surely it was trained on; losses of the highest rank of an update count.
        appended: What the forward pass has appended to lists.
    """

    value: Tensor
    share: float
    logs: dict[str, Any]
    rank: int
    appended: Appended


def remove_appended(appended: Appended) -> None:
    """Take things out of the lists that they were appended to."""
    for things, thing in appended:
        things[:] = [each for each in things if each is not thing]


class EpochLosses:
    """The mean of the losses of an epoch whose gradients were computed, and of the numbers logged beside them.

    A loss under ``no_grad``, or whose gradient nobody asks for (validation), is none of them.

    Attributes:
        total: Sum of the losses of the epoch's updates; None before the first.
        count: How many batches that sum is of.
        logs: Sum and number of batches of each logged number, by name.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0.0
        self.logs: dict[str, tuple[Any, float]] = {}
        self._open: list[_Observed] = []

    def record_loss(self, result: Any, share: float, training: bool, appended: Appended = ()) -> None:
        """Look at what ``_forward`` returned, without reading the loss.

        Args:
            result: What it returned.
            share: The part of a global batch that it is of.
            training: Whether the networks are in training mode.
            appended: What the forward pass has appended to lists; it is taken out if the loss is not trained on.

        Raises:
            ConfigurationError: If it is no loss, or a logged number has the name of a column of the library.
        """
        if not torch.is_grad_enabled():
            remove_appended(appended)
            return
        loss, logs = split_loss(result)
        check_loss(loss)
        rank = _FORWARD if training else 0
        observed = _Observed(loss.detach().float() * share, share, _numbers(logs), rank, appended)
        self._open.append(observed)

        def trained_on(_gradient: Tensor) -> None:
            observed.rank = _BACKWARD if training else _BACKWARD_IN_EVAL

        loss.register_hook(trained_on)

    @property
    def seen(self) -> bool:
        """Whether ``_forward`` returned a loss since the last update."""
        return bool(self._open)

    @property
    def trained(self) -> bool:
        """Whether the gradient of such a loss was computed."""
        return any(each.rank >= _BACKWARD_IN_EVAL for each in self._open)

    @property
    def pending(self) -> Tensor | None:
        """Sum of the losses of the update under way; None without one."""
        return _total(self._of_update())

    def replace_pending(self, loss: Tensor) -> None:
        """Let another value, such as the mean of all processes, stand for that of the update under way."""
        chosen = self._of_update()
        if chosen:
            chosen[0].value = loss
            for each in chosen[1:]:
                each.value = torch.zeros_like(loss)

    def commit(self) -> None:
        """Add the losses of an update that was made."""
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
        """Leave out the losses of an update that is not made."""
        self._open.clear()

    def close_epoch(self) -> dict[str, float]:
        """The history columns of the epoch that is over: its mean loss and logged numbers; starts the next."""
        columns = {"loss": self.mean()}
        columns |= {name: float(total) / count for name, (total, count) in self.logs.items() if count}
        self.total, self.count, self.logs = None, 0.0, {}
        for each in self._open:
            remove_appended(() if each.rank >= _BACKWARD_IN_EVAL else each.appended)
        self.discard()
        return columns

    def mean(self) -> float:
        """Mean loss of the epoch so far; makes a GPU wait."""
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
    """What can be averaged: numbers and tensors of one element."""
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
