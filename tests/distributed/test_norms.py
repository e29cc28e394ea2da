"""Synchronized batch norm, tested in a single process."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.distributed import Group
from super_selfish.distributed.norms import BatchNormAs, each_for_itself, global_norms
from super_selfish.errors import ConfigurationError


class Squared(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 2


@pytest.mark.parametrize("norm", [Squared(3), nn.BatchNorm2d(3, track_running_stats=False)])
def test_unsupported_norms_raise(norm: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("super_selfish.distributed.norms.current", lambda: Group(world=2))
    with pytest.raises(ConfigurationError, match="sync_bn"), global_norms(nn.Sequential(norm)):
        pass


def test_single_process_supports_all_norms() -> None:
    norm, images = Squared(3), torch.rand(4, 3, 8, 8)
    expected = copy.deepcopy(norm)(images)
    with global_norms(nn.Sequential(norm)):
        assert torch.equal(norm(images), expected)


def test_each_for_itself_does_not_call_the_outer_function() -> None:
    norm, images, seen = nn.BatchNorm2d(3), torch.rand(4, 3, 8, 8), []

    def outer(x: Tensor, *others: object, **keywords: object) -> Tensor:
        seen.append(len(x))
        return F.batch_norm(x, *others, **keywords)

    with BatchNormAs(outer):
        expected = norm(images)
        with each_for_itself():
            found = norm(images)
            copied = copy.deepcopy(norm)
    assert seen == [4]
    assert torch.equal(found, expected)
    assert torch.equal(copied(images), expected)
