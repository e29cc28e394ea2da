"""Layer norm in deep networks: gradients of black images, and initialisation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from super_selfish.models import EfficientFeatures, LayerNorm2d, SmallResNet, default_backbone


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("make", [lambda: default_backbone(norm_type="layer"), lambda: SmallResNet(norm_type="layer")])
def test_gradients_of_black_images_are_bounded(make, mode: bool) -> None:
    images = torch.rand(2, 3, 64, 64)
    images[1] = 0
    backbone = make().train(mode)
    backbone(images).square().mean().backward()
    gradients = [parameter.grad for parameter in backbone.parameters()]
    assert torch.nn.utils.get_total_norm(gradients).item() < 100


def test_every_parameter_is_updated() -> None:
    backbone = default_backbone(norm_type="layer")
    before = [parameter.detach().clone() for parameter in backbone.parameters()]
    optimizer = torch.optim.Adam(backbone.parameters(), lr=1e-3)
    for _ in range(3):  # zero-initialised branches get their first gradients in the second step
        optimizer.zero_grad()
        backbone(torch.rand(4, 3, 64, 64)).square().mean().backward()
        optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, backbone.parameters(), strict=True))


def test_batch_norm_keeps_the_default_initialisation() -> None:
    trunk = EfficientFeatures()
    norms = [part for part in trunk.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all(bool((norm.weight == 1).all()) and not norm.bias.any() for norm in norms)


def test_reset_parameters_keeps_the_initialisation_scheme() -> None:
    trunk = EfficientFeatures(norm_type="layer")
    twin = copy.deepcopy(trunk)
    for norm in (part for part in twin.modules() if isinstance(part, LayerNorm2d)):
        nn.init.ones_(norm.weight)
        norm.reset_parameters()
    assert not torch.equal(twin.stem[1].bias, trunk.stem[1].bias)
    assert 0.05 < twin.stem[1].bias.std().item() < 0.2
    for norm, old in zip(twin.modules(), trunk.modules(), strict=True):
        if isinstance(norm, LayerNorm2d):
            assert torch.equal(norm.weight, old.weight)
