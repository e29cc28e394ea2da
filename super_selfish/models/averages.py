"""Exponential moving averages (EMA) of network weights."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from super_selfish.renamed import old_names

Network = TypeVar("Network", bound=nn.Module)

_UNINITIALIZED: Any = nn.UninitializedBuffer  # its annotations lack the device


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
    """Return a deep copy of a network that does not require gradients."""
    return copied(network).requires_grad_(False)


def copied(network: Network, *, shared: bool = False, memo: dict[int, Any] | None = None) -> Network:
    """Return a deep copy of a network, including networks with weight norm, lazy layers and TorchScript modules.

    Args:
        network: The network.
        shared: Share parameters and buffers with the network. Modes and hooks are those of the copy.
        memo: Tensors of the copy by the identity of the network's tensors; they keep ``requires_grad``.
    """
    tensors = [*network.parameters(), *network.buffers()] if shared else []
    keeps, memo = memo is not None, {id(tensor): tensor for tensor in tensors} if memo is None else memo
    for module in network.modules():
        for value in (*vars(module).values(), *module.buffers(recurse=False)):
            if isinstance(value, nn.UninitializedBuffer):  # of a lazy layer, cannot be copied
                memo.setdefault(id(value), _UNINITIALIZED(device=value.device, dtype=value.dtype))
            elif isinstance(value, Tensor) and not value.is_leaf:  # computed from parameters, such as by weight norm
                memo.setdefault(id(value), value.detach().clone())
    with torch.no_grad():  # copies of TorchScript parameters would be part of the graph
        twin = copy.deepcopy(network, memo)
    for weight, other in zip(network.parameters(), twin.parameters(), strict=True):
        if other.requires_grad != weight.requires_grad and not keeps:
            other.requires_grad_(weight.requires_grad)
    return twin


class FrozenTwin(Generic[Network]):
    """A copy of a network that shares its weights and buffers and has no gradients of its own.

    Layers that are recomputed in the backward pass (activation checkpointing) are those of the copy, so its gradients
    stay apart from those of the network.

    Args:
        network: The network.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        memo: dict[int, Any] = {id(weight): weight.detach() for weight in network.parameters()}
        self.twin = copied(network, memo=memo | {id(buffer): buffer for buffer in network.buffers()})

    def shares_weights(self) -> bool:
        """Whether each tensor of the copy is that of the network; not so after one of them was replaced."""
        own, other = self.network.state_dict(), self.twin.state_dict()
        tensors = [(value, other.get(key)) for key, value in own.items() if isinstance(value, Tensor)]
        modules = [sum(1 for _ in net.modules()) for net in (self.network, self.twin)]
        same_layout = modules[0] == modules[1] and own.keys() == other.keys()
        return same_layout and all(
            isinstance(mine, Tensor) and mine.data_ptr() == value.data_ptr() and mine.shape == value.shape
            for value, mine in tensors
        )

    def in_same_mode(self) -> Network:
        """Return the copy, each of its modules in the mode of the network's."""
        for module, twin in zip(self.network.modules(), self.twin.modules(), strict=True):
            twin.training = module.training
        return self.twin


@contextlib.contextmanager
def inference(network: nn.Module) -> Iterator[None]:
    """Context manager for ``torch.inference_mode()``. Outputs have to be cloned before they are used in autograd.

    Buffers that a layer reassigns within the block are converted back to normal tensors.
    """
    with torch.inference_mode():
        yield
    for module in network.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_inference():
                setattr(module, name, buffer.clone())


def update_ema(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Set each parameter of the average to ``momentum * average + (1 - momentum) * network``.

    Buffers, such as running statistics, are not updated. Modules that only one of the networks has are ignored.

    Args:
        average: A :func:`momentum_copy` of the network.
        network: The trained network.
        momentum: Decay of the average, in [0, 1]. 1 leaves the average unchanged.
    """
    trained = dict(network.named_parameters())
    pairs = [(weight, trained[name]) for name, weight in average.named_parameters() if name in trained]
    if pairs:
        followers, followed = map(list, zip(*pairs, strict=True))
        get_ema_multi_avg_fn(momentum)(followers, followed, None)  # type: ignore[no-untyped-call]


def momentum_hint(momentum: float, updates: int) -> list[str]:
    """Return a warning if the moving average is too slow for the length of the training.

    Args:
        momentum: Decay of the average.
        updates: Number of optimizer steps in the training; 0 if unknown.
    """
    if not 0 < momentum < 1 or not updates or (1 - momentum) * updates >= 10:
        return []
    better = max(0.9, 1 - 20 / updates)
    if momentum <= better:
        return []
    return [
        f"m={momentum:g}: the moving average lags {1 / (1 - momentum):,.0f} of {updates:,} steps behind the network. "
        f"Pass m={better:.2g} to the constructor, or train longer."
    ]


def cosine_momentum(step: int, total: int, start: float) -> float:
    """Cosine schedule of the momentum from ``start`` to 1.

    ``1 − (1 − start) · (1 + cos(π · step / total)) / 2``

    Args:
        step: Current step, from 0. Beyond ``total``, the momentum is 1.
        total: Total number of steps.
        start: Momentum at step 0, in [0, 1].

    Examples:
        >>> [round(cosine_momentum(step, 1000, 0.996), 6) for step in (0, 250, 500, 1000)]
        [0.996, 0.996586, 0.998, 1.0]

    References:
        Grill et al., "Bootstrap Your Own Latent", 2020, section 3.2.
    """
    progress = min(step, total) / max(1, total)
    return 1.0 - (1.0 - start) * (1.0 + math.cos(math.pi * progress)) / 2.0


class MomentumSchedule:
    """Schedule of the momentum of a moving average over one training. The current step is part of its state.

    Args:
        start: Initial momentum, in [0, 1].
        kind: ``"cosine"`` for :func:`cosine_momentum`; None for a constant momentum.

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
        """Restart the schedule for a training of ``total`` steps."""
        self.step, self.total = 0, total

    def advance(self) -> float:
        """Return the momentum of the current step and advance by one step."""
        momentum = self.start if self.kind is None else cosine_momentum(self.step, self.total, self.start)
        self.step += 1
        return momentum

    def go_to(self, share: float) -> None:
        """Set the current step to a fraction of the training, in [0, 1]."""
        self.step = round(share * self.total)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule: the current step."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the current step. The total number of steps is that of :meth:`begin`."""
        self.step = int(state["step"])


__getattr__ = old_names(__name__)
