"""Backbones."""

from __future__ import annotations

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import (
    BackboneOutput,
    EfficientFeatures,
    LayerNorm2d,
    ReshapeChannels,
    SmallResNet,
    default_backbone,
    feature_shape,
    named_backbone,
)


@pytest.fixture(scope="module")
def trunk() -> EfficientFeatures:
    torch.manual_seed(0)
    return EfficientFeatures().eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "grid"),
    [((32, 32), (1, 1)), ((56, 56), (1, 1)), ((64, 64), (2, 2)), ((97, 130), (3, 4)), ((225, 225), (7, 7))],
)
def test_feature_map_size_is_the_resolution_over_32(
    trunk: EfficientFeatures, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    assert trunk(torch.zeros(1, 3, *size)).shape == (1, 1280, *grid)


@torch.no_grad()
def test_equals_efficientnet_pytorch(trunk: EfficientFeatures) -> None:
    torch.manual_seed(0)
    original = EfficientNet.from_name("efficientnet-b0", image_size=224).train()
    for module in original.modules():  # use batch statistics: an untrained network in eval mode has outputs near zero
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    images = torch.rand(4, 3, 65, 65)
    trunk.train()
    trunk.drop_connect_rate, rate = 0.0, trunk.drop_connect_rate
    original._global_params = original._global_params._replace(drop_connect_rate=0.0)
    try:
        assert torch.allclose(trunk(images), original.extract_features(images), atol=1e-4)
    finally:
        trunk.eval()
        trunk.drop_connect_rate = rate


@torch.no_grad()
def test_endpoints(trunk: EfficientFeatures) -> None:
    levels = trunk(torch.zeros(1, 3, 64, 64), endpoints=True)
    assert [tuple(level.shape[1:]) for level in levels] == [
        (3, 64, 64),
        (16, 32, 32),
        (24, 16, 16),
        (40, 8, 8),
        (112, 4, 4),
        (320, 2, 2),
        (1280, 2, 2),
    ]


def test_every_parameter_is_used() -> None:
    backbone = default_backbone()
    backbone(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize("make", [lambda: default_backbone(norm_type="layer"), lambda: SmallResNet(norm_type="layer")])
def test_layer_norm_is_independent_of_the_batch(make) -> None:
    backbone = make()
    for module in backbone.modules():
        assert not isinstance(module, nn.BatchNorm2d)
        if isinstance(module, EfficientFeatures):
            module.drop_connect_rate = 0.0  # stochastic depth is random per image
    images = torch.rand(3, 3, 64, 64)
    other = images.clone()
    other[1] = 1 - other[1]
    first, second = backbone.train()(images), backbone(other)
    assert torch.allclose(first[[0, 2]], second[[0, 2]], atol=1e-6)
    assert not torch.allclose(first[1], second[1], atol=1e-3)


def test_layer_norm_normalises_each_image() -> None:
    maps = LayerNorm2d(5)(torch.randn(4, 5, 6, 7) * torch.tensor([1.0, 10, 100, 1000]).view(4, 1, 1, 1) + 3)
    assert torch.allclose(maps.mean((1, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(maps.var((1, 2, 3), unbiased=False), torch.ones(4), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3, 13])
def test_numbers_of_channels(channels: int) -> None:
    for name in ("small_resnet", "efficientnet-b0", "resnet18", "mobilenet_v3_small"):
        backbone = named_backbone(name, channels)
        assert len(feature_shape(backbone, channels, (64, 64))) == 1
    assert feature_shape(default_backbone(channels), channels, (225, 225)) == (3136,)


def test_backbone_output_forms() -> None:
    backbone = default_backbone().eval()
    images = torch.rand(2, 3, 64, 96)
    flat, grid, pooled = (BackboneOutput(backbone, output)(images) for output in ("flat", "map", "pooled"))
    assert grid.shape == (2, 64, 2, 3)
    assert torch.equal(flat, backbone(images))
    assert torch.equal(grid.flatten(1), flat)
    assert torch.allclose(grid.mean((2, 3)), pooled)
    assert BackboneOutput(nn.Flatten(), "map")(images).shape == (2, 3 * 64 * 96, 1, 1)


def test_invalid_backbones_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match="backbone"):
        ReshapeChannels()
    for name in ("resnet19", "timm", "efficientnet-b99"):
        with pytest.raises(ConfigurationError, match="unknown"):
            named_backbone(name)
    with pytest.raises(ConfigurationError, match="norm_type"):
        EfficientFeatures(norm_type="group")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="1 channels"):
        feature_shape(SmallResNet(channels=1), 3, (32, 32))

    class TwoOutputs(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    with pytest.raises(ConfigurationError, match="tuple"):
        feature_shape(TwoOutputs(), 3, (32, 32))


def test_feature_shape_does_not_change_the_backbone() -> None:
    backbone = SmallResNet().train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.stem.eval()
    feature_shape(backbone, 3, (32, 32))
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in before.items())
    assert backbone.training
    assert not backbone.stem.training
