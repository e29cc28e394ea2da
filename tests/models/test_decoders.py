"""Decoders."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import ChannelwiseFC, GroupedUpsampling, Upsampling
from super_selfish.models.decoders import decoder_layers, resized_to


@pytest.mark.parametrize("size", [(32, 32), (97, 130), (224, 224), (225, 225), (256, 200)])
@pytest.mark.parametrize("stride", [4, 8, 32])
def test_decoder_reaches_any_size_from_any_stride(size: tuple[int, int], stride: int) -> None:
    grid = (max(1, size[0] // stride), max(1, size[1] // stride))
    layers = decoder_layers(grid, size, 6, 3, (5, 5, 4, 4))
    decoded = Upsampling(layers, out_resolution=None).eval()(torch.rand(1, 6, *grid))
    assert decoded.shape[1] == 3
    for side, target in zip(decoded.shape[2:], size, strict=True):
        assert target / 2**0.5 - 1 <= side <= target * 2**0.5 + 1, "size before resizing"
    assert resized_to(decoded, size).shape[-2:] == size


def test_decoder_layers() -> None:
    assert decoder_layers((7, 7), (225, 225), 64, 3) == [64, 256, 256, 128, 64, 3]
    assert decoder_layers((1, 1), (32, 32), 64, 3) == [64, 256, 256, 128, 64, 3]
    assert decoder_layers((1, 1), (225, 225), 64, 3)[:4] == [64, 256, 256, 256]
    assert decoder_layers((32, 32), (32, 32), 64, 3) == [64, 3]


def test_upsampling_ends_in_a_transposed_convolution() -> None:
    decoder = Upsampling([8, 4, 3], out_resolution=(9, 10))
    assert isinstance(decoder.layers[-1], nn.ConvTranspose2d)
    assert decoder(torch.rand(2, 8, 2, 2)).shape == (2, 3, 9, 10)
    assert decoder(torch.rand(2, 8, 2, 2), (5, 6)).shape == (2, 3, 5, 6)
    assert Upsampling([8, 3], input_resolution=(2, 3), out_resolution=None)(torch.rand(2, 48)).shape == (2, 3, 4, 6)


def test_resized_to_the_same_size_returns_the_input() -> None:
    images = torch.rand(1, 3, 8, 8)
    assert resized_to(images, (8, 8)) is images


@pytest.mark.parametrize(("sources", "expected"), [(None, (0, 1)), ((1, 0), (1, 0))])
def test_each_group_is_decoded_from_one_chunk(sources: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    decoder = GroupedUpsampling([4, 8], groups=[5, 7], out_resolution=None, sources=sources).eval()
    features = torch.rand(1, 8, 3, 3, requires_grad=True)
    for group, chunk in zip((slice(0, 5), slice(5, 12)), expected, strict=True):
        features.grad = None
        decoder(features)[:, group].sum().backward()
        has_gradient = [features.grad[:, first : first + 4].abs().sum() > 0 for first in (0, 4)]
        assert has_gradient == [chunk == 0, chunk == 1]


def test_channelwise_fc_equals_a_loop() -> None:
    layer = ChannelwiseFC([6, 5, 4], batchnorm=False, channels=3)
    images = torch.rand(2, 3, 2, 3)
    output = layer(images)
    assert output.shape == (2, 3, 2, 2)
    for channel in range(3):
        values = images[:, channel].flatten(1) @ layer.weights[0][channel] + layer.biases[0][channel]
        values = layer.between[0][1](values)
        values = values @ layer.weights[1][channel] + layer.biases[1][channel]
        assert torch.allclose(output[:, channel].flatten(1), values, atol=1e-6)


@pytest.mark.parametrize("make", [Upsampling, GroupedUpsampling, ChannelwiseFC])
def test_invalid_layers_are_rejected(make: type[nn.Module]) -> None:
    with pytest.raises(ConfigurationError, match="`layers`"):
        make([8])
