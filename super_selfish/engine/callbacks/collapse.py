"""Noticing that a network gives all images nearly the same embedding, or cannot learn to tell them apart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.engine.core.expectations import Signs

logger = logging.getLogger("super_selfish")

ALIKE = 0.01
"""Spread below which embeddings are held to be all alike."""

SUSPECT = 0.2
"""The same where a setting is known to lead there."""

_STEPS = 50  # before which little spread is not a verdict: untrained networks have little
_EPOCHS = 5  # the same for algorithms whose bank begins with random rows
_IN_A_ROW = 3
_CHANCE, _NEAR_CHANCE = 0.99, 0.95
_FEWEST = 4  # rows that say something of a spread


def spread(embeddings: Tensor) -> float:
    """How different embeddings are: 0 if all have one direction, nearly 1 if they point anywhere.

    It is 1 - |m|², where m is the mean of the rows, each brought to length one: one minus the mean cosine of all pairs.

    Args:
        embeddings: (n, ...), one an image.

    Examples:
        >>> spread(torch.eye(4)), spread(torch.ones(4, 4))
        (0.75, 0.0)
    """
    mean = F.normalize(embeddings.detach().flatten(1).double(), dim=1).mean(dim=0)
    return max(0.0, 1.0 - float(mean @ mean))


def has_collapsed(signs: Signs, spreads: list[float], losses: list[float], steps: int) -> bool:
    """Whether the epochs so far show a collapse.

    Args:
        signs: Of the algorithm.
        spreads: Of the last batch of each epoch.
        losses: Mean of each epoch.
        steps: Updates so far.
    """
    if signs.chance is None:
        return spreads[-1] < (SUSPECT if signs.cause else ALIKE) and (steps >= _STEPS or signs.cause is not None)
    if signs.cause:
        return losses[-1] >= _NEAR_CHANCE * signs.chance
    if len(spreads) < _EPOCHS or steps < _STEPS:
        return False
    last = list(zip(spreads, losses, strict=True))[-_IN_A_ROW:]
    stuck = all(alike < ALIKE and loss >= _CHANCE * signs.chance for alike, loss in last)
    return stuck and last[-1][0] <= last[0][0] and last[-1][1] >= _CHANCE * last[0][1]  # and getting no better


class CollapseWatch(Callback):
    """Warns once if embeddings become alike; their spread is kept in the history.

    Args:
        network: Gives an embedding an image; of several outputs the first counts.
        signs: Tells those of the algorithm, once the training is prepared; None: its embeddings cannot collapse.
        compiled: Whether the network is compiled.

    References:
        Chen and He, "Exploring Simple Siamese Representation Learning", 2021, section 4.1: the spread of embeddings.
    """

    def __init__(self, network: nn.Module, signs: Callable[[], Signs | None], compiled: bool = False) -> None:
        self.network = network
        self.ask = signs
        self.compiled = compiled
        self.signs = Signs("")
        self.told = False
        self._last: Tensor | None = None
        self._handle: Any = None

    def on_train_begin(self, run: RunView) -> None:  # noqa: ARG002 - the protocol's
        """Look at what the network gives."""
        signs = self.ask()
        if signs is None:
            return
        self.signs = signs
        note = torch.compiler.disable(self._note) if self.compiled else self._note  # type: ignore[no-untyped-call]
        self._handle = self.network.register_forward_hook(note)

    def on_train_end(self, run: RunView) -> None:  # noqa: ARG002 - the protocol's
        """Look no more."""
        if self._handle is not None:
            self._handle.remove()
        self._last = None

    def on_epoch_end(self, run: RunView) -> None:
        """Measure the last batch, and warn."""
        if self._last is None or len(self._last) < _FEWEST:
            return
        entry = run.supervisor.history[-1]
        entry["spread"] = spread(self._last)
        self._last = None
        measured = [past for past in run.supervisor.history if "spread" in past]
        spreads, losses = ([past[key] for past in measured] for key in ("spread", "loss"))
        if not self.told and has_collapsed(self.signs, spreads, losses, run.cursor.step):
            self.told = True
            entry["collapsed"] = True
            logger.warning(
                "The embeddings have collapsed: after epoch %d they hardly tell images apart (spread %.3f of 1, loss "
                "%.3f). Likely cause: %s",
                entry["epoch"],
                entry["spread"],
                entry["loss"],
                self.signs.cause or self.signs.likely,
            )

    def _note(self, network: nn.Module, inputs: Any, outputs: Any) -> None:  # noqa: ARG002 - the protocol's
        first = outputs[0] if isinstance(outputs, tuple | list) else outputs
        if network.training and isinstance(first, Tensor) and torch.is_grad_enabled():
            self._last = first.detach()
