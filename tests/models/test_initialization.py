"""Weight initialisation: variance of the outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.models import ConvMasked2d
from super_selfish.models.initialization import keep_variance


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(64, 128, 1),
        nn.Conv2d(64, 128, 3, bias=False),
        nn.Conv2d(64, 128, 3, groups=2),
        ConvMasked2d([[1, 1, 1], [1, 1, 1], [0, 0, 0]], 64, 128, 3),
    ],
)
def test_keep_variance_preserves_the_variance(convolution: nn.Conv2d) -> None:
    keep_variance(nn.Sequential(convolution))
    outputs = convolution(torch.randn(8, 64, 9, 9))
    assert 0.7 < outputs.std().item() < 1.1
    assert abs(outputs.mean().item()) < 0.1


def test_fan_in_sets_the_scale() -> None:
    convolution = nn.Conv2d(64, 128, 3, padding=1)
    keep_variance(convolution, 64)
    assert 0.7 < convolution(torch.randn(32, 64, 1, 1)).std().item() < 1.1
