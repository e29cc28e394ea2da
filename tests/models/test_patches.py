"""PatchNet."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.engine.loop.memory import activation_bytes
from super_selfish.errors import ConfigurationError
from super_selfish.models import PatchNet


def net() -> PatchNet:
    return PatchNet(nn.Conv2d(3, 5, 2), nn.Conv2d(5, 7, 1), grid=(2, 3), size=(4, 4))


def test_patches_are_encoded_independently() -> None:
    network, patches = net(), torch.rand(2 * 6, 3, 4, 4)
    latents = network.features(patches)
    assert latents.shape == (2, 5, 2, 3)
    expected = network.backbone(patches[6 + 4 : 6 + 5]).mean((0, 2, 3))  # second image, row 1, column 1
    assert torch.allclose(latents[1, :, 1, 1], expected, atol=1e-6)
    assert torch.equal(network(patches), network.predict(latents))


def test_patches_of_another_size_are_resized() -> None:
    assert net()(torch.rand(6, 3, 9, 9)).shape == (1, 7, 2, 3)


def test_incomplete_grids_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match="grid"):
        net()(torch.rand(7, 3, 4, 4))


def test_activation_memory_is_measured_on_a_whole_grid() -> None:
    single = activation_bytes(nn.Sequential(net().backbone), 3, (4, 4))
    assert single < activation_bytes(net(), 3, (4, 4)) < 6 * single + 1000
