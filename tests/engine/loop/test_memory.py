"""What a step will take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.engine.loop.memory import SHARE, TRANSIENT, activation_bytes, available_bytes, pieces_that_fit


def test_activations_are_counted_once_and_parameters_not() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16 * 16, 2))
    image, maps = 3 * 16 * 16 * 4, 8 * 16 * 16 * 4
    assert activation_bytes(network, 3, (16, 16)) == image + maps  # the convolution's input; what ReLU gives, shared


def test_batch_statistics_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    activation_bytes(network, 3, (16, 16))
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())
    assert network.training


@pytest.mark.parametrize(("room", "pieces"), [(100, 1), (64, 1), (63, 2), (32, 2), (31, 3), (1, 64), (0.1, 64)])
def test_pieces(room: float, pieces: int) -> None:
    free = round(room * 1000 * TRANSIENT / SHARE) + 10
    assert pieces_that_fit(64, 1000, free) == pieces


def test_where_nobody_tells_nothing_is_split() -> None:
    assert pieces_that_fit(64, 1e12, None) == 1
    free = available_bytes(torch.device("cpu"))
    assert free is None or free > 1e6
