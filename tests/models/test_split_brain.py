"""GroupedBackbone and GroupedEfficientFeatures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import GroupedBackbone, GroupedEfficientFeatures, SmallResNet, named_backbone
from super_selfish.models.shapes import expected_channels, feature_shape


def test_branch_depends_on_its_channels_only() -> None:
    net = GroupedBackbone(SmallResNet(width=4), groups=(1, 2, 2)).eval()
    images = torch.rand(2, 5, 32, 32, requires_grad=True)
    for branch, channels in enumerate(([0], [1, 2], [3, 4])):
        (gradient,) = torch.autograd.grad(net(images)[:, 32 * branch : 32 * (branch + 1)].sum(), images)
        has_gradient = gradient.abs().sum((0, 2, 3)) > 0
        assert has_gradient.nonzero().flatten().tolist() == channels
    assert torch.equal(net.map(images).mean((2, 3)), net(images))


def test_network_is_copied_for_each_group() -> None:
    original = SmallResNet(width=4)
    net = GroupedBackbone(original)
    first, second = net.branches
    for one, other, own in zip(first.parameters(), second.parameters(), original.parameters(), strict=True):
        assert torch.equal(one, own)
        assert len({one.data_ptr(), other.data_ptr(), own.data_ptr()}) == 3
    assert expected_channels(net) == 3


@pytest.mark.parametrize(
    "network", [nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), nn.Conv2d(3, 5, 3), nn.Conv2d(7, 5, 3)]
)
def test_vector_and_map_networks(network: nn.Module) -> None:
    net = GroupedBackbone(network)
    shape = feature_shape(net, 3, (32, 32))
    assert shape[0] == 10
    assert net.map(torch.rand(2, 3, 32, 32)).shape == (2, *(shape if len(shape) == 3 else (10, 1, 1)))


def test_named_networks() -> None:
    net = GroupedBackbone([named_backbone("resnet18") for _ in range(2)])
    assert net(torch.rand(2, 3, 64, 64)).shape == (2, 1024)
    assert net.map(torch.rand(2, 3, 64, 64)).shape == (2, 1024, 2, 2)


def test_efficient_features() -> None:
    net = GroupedEfficientFeatures(channels_per_group=8).eval()
    images = torch.rand(1, 3, 64, 64)
    assert net(images).shape == (1, 64)
    assert torch.equal(net(images), net.map(images).flatten(1))
    assert GroupedEfficientFeatures(flat=False, channels_per_group=8)(images).shape == (1, 16, 2, 2)
    assert feature_shape(GroupedEfficientFeatures(), 3, (225, 225)) == (3136,)
    first, second = (next(branch.parameters()) for branch in net.branches)
    assert not torch.equal(first, second), "branches share weights"


def test_invalid_arguments_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match="1 networks"):
        GroupedBackbone([SmallResNet(width=4)])
    with pytest.raises(ConfigurationError, match="groups"):
        GroupedBackbone(SmallResNet(width=4), groups=(1, 0))
    with pytest.raises(ConfigurationError, match="`channels_per_group`"):
        GroupedEfficientFeatures(channels_per_group=0)
    with pytest.raises(ConfigurationError, match="EfficientNet"):
        GroupedEfficientFeatures("efficientnet-b77")
