"""Networks for the L and ab channels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.models import BothViews, CombinedNet, LabBranch, MultiviewNet, SmallResNet


@pytest.mark.parametrize(("view", "channels_of_view"), [("l", [0]), ("ab", [1, 2])])
@pytest.mark.parametrize("channels", [1, 3, 13])
def test_branch_depends_on_its_channels_only(view: str, channels_of_view: list[int], channels: int) -> None:
    branch = LabBranch(SmallResNet(channels, width=4), view).eval()
    assert (branch.stem.in_channels, branch.stem.out_channels) == (len(channels_of_view), channels)
    lab = torch.rand(2, 3, 32, 48).requires_grad_()
    features = branch(lab)
    (gradient,) = torch.autograd.grad((features * torch.rand_like(features)).sum(), lab)
    assert [channel for channel in range(3) if gradient[:, channel].any()] == channels_of_view
    with torch.no_grad():
        assert torch.equal(branch(lab[:, channels_of_view]), features)
        assert torch.equal(branch.map(lab[:, channels_of_view]), branch.map(lab))
        assert branch.map(lab).shape == (2, 32, 4, 6)


def test_stem_matches_dtype_and_channels_of_the_network() -> None:
    assert LabBranch(SmallResNet(width=4).double(), "l").stem.weight.dtype == torch.float64
    assert LabBranch(nn.Flatten(), "ab").stem.out_channels == 3


def test_both_views_concatenates_features() -> None:
    first, second = SmallResNet(width=4).eval(), SmallResNet(width=8).eval()
    both, images = BothViews(first, second), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(both(images), torch.cat([first(images), second(images)], 1))
        assert torch.equal(both.map(images), torch.cat([first.map(images), second.map(images)], 1))
    coarse = nn.AvgPool2d(16)
    assert BothViews(nn.AvgPool2d(8), nn.AvgPool2d(8))(images).shape == (2, 6, 4, 4)
    assert BothViews(nn.AvgPool2d(8), coarse)(images).shape == (2, 48 + 12)
    assert BothViews(nn.AvgPool2d(8), coarse).map(images).shape == (2, 48 + 12, 1, 1)
    assert BothViews(nn.AvgPool2d(8), nn.Flatten())(images).shape == (2, 48 + 3 * 32 * 32)


def test_multiview_net_concatenates_embeddings_without_shared_weights() -> None:
    encoders = [CombinedNet(LabBranch(SmallResNet(width=4), view), nn.Linear(32, 5)) for view in ("l", "ab")]
    net, lab = MultiviewNet(*encoders).eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(lab), torch.cat([encoder(lab) for encoder in encoders], 1))
    names = {name.split(".")[0] for name, _ in net.named_parameters()}
    assert names == {"backbone", "predictor", "ab"}
    net(lab)[:, :5].sum().backward()
    assert not any(parameter.grad.any() for parameter in net.ab.parameters())
