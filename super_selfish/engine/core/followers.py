"""Averages of networks that must follow the weights, also where these are set by other means than training."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from super_selfish.engine.core.base import SupervisorBase
from super_selfish.models.averages import Recorded, momentum_copy


class Followers:
    """The target network, key encoder and average of a supervisor, and the networks that they follow.

    If a network has other weights than when it was last recorded, while its average has not changed, somebody has set
    the weights: the average becomes a copy of the network.

    Args:
        supervisor: The supervisor.
    """

    def __init__(self, supervisor: SupervisorBase) -> None:
        self.supervisor = supervisor

    def record(self) -> None:
        """Remember the weights: they are the library's own."""
        supervisor = self.supervisor
        digests = {name: self._digests(name, network) for name, network in self._pairs().items()}
        supervisor._recorded = Recorded(digests, supervisor._cursor.step)

    def record_if_trained(self) -> None:
        """Remember the weights if there were updates since they were recorded."""
        if self.supervisor._recorded.step != self.supervisor._cursor.step:
            self.record()

    def refresh(self) -> None:
        """Let averages be copies of networks whose weights somebody has set."""
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
        if name not in self.supervisor._recorded.digests:
            return self.supervisor._cursor.step == 0
        (average, followed), now = self.supervisor._recorded.digests[name], self._digests(name, network)
        return now[1] != followed and now[0] == average

    def _digests(self, name: str, network: nn.Module) -> tuple[str, str]:
        return digest(getattr(self.supervisor, name)), digest(network)


@torch.no_grad()
def digest(network: nn.Module) -> str:
    """A hash of the parameters of a network."""
    state = hashlib.blake2b(digest_size=16)
    for weight in network.parameters():
        if isinstance(weight, nn.UninitializedParameter):
            continue
        state.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def _copy_into(supervisor: SupervisorBase, name: str, network: nn.Module) -> None:
    average, state = getattr(supervisor, name), network.state_dict()
    own = average.state_dict()
    if own.keys() == state.keys() and all(own[key].shape == value.shape for key, value in state.items()):
        average.load_state_dict(state)
    else:
        setattr(supervisor, name, momentum_copy(network))
