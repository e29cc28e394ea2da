"""Moving averages of networks, kept consistent when weights are set by other means than training."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from super_selfish.engine.core.base import SupervisorBase
from super_selfish.models.averages import Recorded, momentum_copy
from super_selfish.models.combined import tensors_of


class Followers:
    """The moving averages of a supervisor (target network, key encoder, Polyak average) and their source networks.

    Hashes of the weights reveal weights that were set from outside: the network differs from the recorded hash, and its
    average does not. In this case, the average becomes a copy of the network.

    Args:
        supervisor: The supervisor.
    """

    def __init__(self, supervisor: SupervisorBase) -> None:
        self.supervisor = supervisor

    def record(self) -> None:
        """Record hashes of the weights, after the library has set them."""
        supervisor = self.supervisor
        digests = {name: self._digests(name, network) for name, network in self._pairs().items()}
        supervisor._recorded_weights = Recorded(digests, supervisor._train_state.step)

    def record_if_trained(self) -> None:
        """Record hashes of the weights if there were steps since the last record."""
        if self.supervisor._recorded_weights.step != self.supervisor._train_state.step:
            self.record()

    def refresh(self) -> None:
        """Reset averages to copies of networks whose weights were set from outside."""
        supervisor = self.supervisor
        outdated = [name for name, network in self._pairs().items() if self._is_outdated(name, network)]
        for name in outdated:
            _copy_into(supervisor, name, self._pairs()[name])
        if outdated:
            self.record()

    def _pairs(self) -> dict[str, nn.Module]:
        supervisor = self.supervisor
        polyak = {} if supervisor.average is None else {"average": supervisor.model}
        return {**supervisor._followers(), **polyak}

    def _is_outdated(self, name: str, network: nn.Module) -> bool:
        if name not in self.supervisor._recorded_weights.digests:
            return self.supervisor._train_state.step == 0
        (average, followed), now = self.supervisor._recorded_weights.digests[name], self._digests(name, network)
        return now[1] != followed and now[0] == average

    def _digests(self, name: str, network: nn.Module) -> tuple[str, str]:
        return digest(getattr(self.supervisor, name)), digest(network)


@torch.no_grad()
def digest(network: nn.Module) -> str:
    """Return a hash of the parameters of a network."""
    state = hashlib.blake2b(digest_size=16)
    for weight in network.parameters():
        if isinstance(weight, nn.UninitializedParameter):
            continue
        state.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def _copy_into(supervisor: SupervisorBase, name: str, network: nn.Module) -> None:
    average, state = getattr(supervisor, name), tensors_of(network)
    own = tensors_of(average)
    if own.keys() == state.keys() and all(own[key].shape == value.shape for key, value in state.items()):
        average.load_state_dict(network.state_dict())
    else:
        setattr(supervisor, name, momentum_copy(network))
