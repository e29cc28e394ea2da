"""Networks that follow a trained one as a moving average."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Network = TypeVar("Network", bound=nn.Module)


@dataclass
class Recorded:
    """Hashes of averages and of the networks that they follow, when a library's method last set them.

    Attributes:
        digests: Of the average and of the network, by the name of the average.
        step: Updates at that time.
    """

    digests: dict[str, tuple[str, str]] = field(default_factory=dict)
    step: int = 0


def momentum_copy(network: Network) -> Network:
    """An equal network that shares no tensor with the first and needs no gradient."""
    return copy.deepcopy(network).requires_grad_(False)


@contextlib.contextmanager
def inference(network: nn.Module) -> Iterator[None]:
    """Within the block nothing is recorded for gradients, not even versions of tensors; what comes out is to be cloned.

    Buffers that a layer has replaced by new ones become ordinary tensors again.
    """
    with torch.inference_mode():
        yield
    for part in network.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            if buffer.is_inference():
                setattr(part, name, buffer.clone())


def update_ema(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Move each parameter of a copy to ``momentum * average + (1 - momentum) * network``.

    Buffers, such as batch statistics, are the copy's own and stay as they are; so do modules that only one of them has.

    Args:
        average: A :func:`momentum_copy` of the network.
        network: What is trained.
        momentum: In [0, 1]; 1 leaves the copy as it is.
    """
    trained = dict(network.named_parameters())
    pairs = [(weight, trained[name]) for name, weight in average.named_parameters() if name in trained]
    if pairs:
        followers, followed = map(list, zip(*pairs, strict=True))
        get_ema_multi_avg_fn(momentum)(followers, followed, None)  # type: ignore[no-untyped-call]


def momentum_hint(momentum: float, updates: int) -> list[str]:
    """A warning if a moving average is too slow for the length of a run, else nothing.

    Args:
        momentum: Of the average.
        updates: Of the run; 0 if that is not known.
    """
    if not 0 < momentum < 1 or not updates or (1 - momentum) * updates >= 10:
        return []
    better = max(0.9, 1 - 20 / updates)
    if momentum <= better:
        return []
    return [
        f"m={momentum:g}: the moving average lags {1 / (1 - momentum):,.0f} updates behind, in a run of {updates:,}. "
        f"Pass m={better:.2g} to the constructor, or train longer."
    ]


def cosine_momentum(step: int, total: int, start: float) -> float:
    """A momentum that rises from ``start`` to 1 along half a cosine: slow at both ends.

    ``1 − (1 − start) · (1 + cos(π · step / total)) / 2``

    Args:
        step: Updates so far, from 0; beyond ``total`` the momentum stays 1.
        total: Updates in all.
        start: The momentum at step 0, in [0, 1].

    Examples:
        >>> [round(cosine_momentum(step, 1000, 0.996), 6) for step in (0, 250, 500, 1000)]
        [0.996, 0.996586, 0.998, 1.0]

    References:
        Grill et al., "Bootstrap Your Own Latent", 2020, section 3.2.
    """
    done = min(step, total) / max(1, total)
    return 1.0 - (1.0 - start) * (1.0 + math.cos(math.pi * done)) / 2.0


class MomentumSchedule:
    """The momentum of a moving average over one training; it remembers how far that has come.

    Args:
        start: The first momentum, in [0, 1].
        kind: ``"cosine"``: rises to 1 as :func:`cosine_momentum` says; None: stays.

    Examples:
        >>> schedule = MomentumSchedule(0.5, "cosine")
        >>> schedule.begin(2)
        >>> schedule.advance(), schedule.advance()
        (0.5, 0.75)
    """

    def __init__(self, start: float, kind: str | None) -> None:
        self.start = start
        self.kind = kind
        self.step, self.total = 0, 0

    def begin(self, total: int) -> None:
        """Start anew, for a training of ``total`` updates."""
        self.step, self.total = 0, total

    def advance(self) -> float:
        """The momentum of this update, which is counted."""
        momentum = self.start if self.kind is None else cosine_momentum(self.step, self.total, self.start)
        self.step += 1
        return momentum

    def go_to(self, share: float) -> None:
        """Be as far as a share of the training, in [0, 1]."""
        self.step = round(share * self.total)

    def state_dict(self) -> dict[str, Any]:
        """What is stored: the updates so far."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the updates so far; their total is that of :meth:`begin`."""
        self.step = int(state["step"])
