"""Decoders: from a feature map back to an image, or to what stands for one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.models.heads import check_layers

HIDDEN = (256, 256, 128, 64)
"""Channels between map and image, where each step doubles the side; the last is nearest to the image."""


def decoder_layers(
    grid: tuple[int, int], size: tuple[int, int], inputs: int, outputs: int, hidden: Sequence[int] = HIDDEN
) -> list[int]:
    """Channels of a decoder that doubles a map until it is about as large as the image.

    Args:
        grid: Height and width of the map.
        size: Height and width of the image.
        inputs: Channels of the map.
        outputs: Channels of the image.
        hidden: Channels between; the last ones where fewer are needed, the first again where more are.

    Examples:
        >>> decoder_layers((7, 7), (225, 225), 64, 3)
        [64, 256, 256, 128, 64, 3]
        >>> decoder_layers((4, 4), (32, 32), 256, 3)
        [256, 128, 64, 3]
    """
    ratio = math.sqrt(size[0] / grid[0] * size[1] / grid[1])
    steps = max(1, round(math.log2(max(ratio, 1.0))))
    more = [hidden[0]] * max(0, steps - 1 - len(hidden))
    chosen = [*more, *hidden[len(hidden) - min(steps - 1, len(hidden)) :]]
    return [inputs, *chosen, outputs]


def resized_to(images: Tensor, size: Sequence[int]) -> Tensor:
    """Images (batch, channels, height, width) scaled bilinearly to a size, if they have another."""
    height, width = size
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)


class Upsampling(nn.Module):
    """Transposed convolutions that double the side at each step; the last one is plain.

    Args:
        layers: Channels from the map to the image; one step less than numbers.
        kernel_size: Of each step.
        stride: Of each step.
        padding: Of each step.
        activation: Class of the activation behind all steps but the last.
        batchnorm: Normalise behind all steps but the last.
        input_resolution: Height and width that flat features are given before the first step; None: maps come in.
        out_resolution: Height and width that the result is scaled to; None: as it comes.

    Raises:
        ConfigurationError: If there are fewer than two numbers of channels.

    Examples:
        >>> Upsampling([64, 32, 3], out_resolution=(30, 31))(torch.rand(2, 64, 7, 7)).shape
        torch.Size([2, 3, 30, 31])
    """

    def __init__(
        self,
        layers: Sequence[int] = (1280, 512, 256, 128, 3),
        kernel_size: int = 4,
        stride: int = 2,
        padding: int = 1,
        activation: type[nn.Module] = nn.PReLU,
        batchnorm: bool = True,
        input_resolution: tuple[int, int] | None = None,
        out_resolution: tuple[int, int] | None = (225, 225),
    ) -> None:
        super().__init__()
        check_layers(layers)
        self.input_resolution = input_resolution
        self.out_resolution = out_resolution
        self.layers = nn.Sequential()
        for inputs, outputs in itertools.pairwise(layers[:-1]):
            self.layers.append(
                nn.ConvTranspose2d(inputs, outputs, kernel_size, stride, padding, bias=not batchnorm),
            )
            if batchnorm:
                self.layers.append(nn.BatchNorm2d(outputs))
            self.layers.append(activation())
        self.layers.append(nn.ConvTranspose2d(layers[-2], layers[-1], kernel_size, stride, padding))

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """An image (batch, layers[-1], height, width) of a map (batch, layers[0], ...) or of flat features.

        Args:
            x: The features.
            size: Height and width of the image; None: ``out_resolution``.
        """
        if x.ndim == 2:
            x = x.reshape(len(x), -1, *(self.input_resolution or (1, 1)))
        image = cast(Tensor, self.layers(x.contiguous(memory_format=torch.channels_last)))
        wanted = self.out_resolution if size is None else size
        return image if wanted is None else resized_to(image, wanted)


class GroupedUpsampling(nn.Module):
    """A decoder for each group of channels, each from its own part of the map.

    Args:
        layers: Channels from a group's part of the map up to what its logits are made of, as in :class:`Upsampling`.
        groups: Logits of each group.
        kernel_size: Of each step.
        stride: Of each step.
        padding: Of each step.
        activation: Class of the activation behind each step.
        batchnorm: Normalise behind each step.
        out_resolution: Height and width that the result is scaled to; None: as it comes.
        sources: For each group, which part of the map it is decoded from; None: its own.

    Raises:
        ConfigurationError: If there are fewer than two numbers of channels.

    Examples:
        >>> GroupedUpsampling([32, 16], groups=[50, 100], out_resolution=None)(torch.rand(2, 64, 4, 4)).shape
        torch.Size([2, 150, 8, 8])
    """

    def __init__(
        self,
        layers: Sequence[int] = (32, 256, 256, 128, 64),
        groups: Sequence[int] = (50, 100),
        kernel_size: int = 4,
        stride: int = 2,
        padding: int = 1,
        activation: type[nn.Module] = nn.ReLU,
        batchnorm: bool = True,
        out_resolution: tuple[int, int] | None = (225, 225),
        *,
        sources: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_layers(layers)
        self.part = layers[0]
        self.groups = tuple(groups)
        self.sources = tuple(range(len(groups))) if sources is None else tuple(sources)
        self.out_resolution = out_resolution
        self.decoders = nn.ModuleList()
        for logits in groups:
            decoder = nn.Sequential()
            for inputs, outputs in itertools.pairwise(layers):
                decoder.append(nn.ConvTranspose2d(inputs, outputs, kernel_size, stride, padding, bias=not batchnorm))
                if batchnorm:
                    decoder.append(nn.BatchNorm2d(outputs))
                decoder.append(activation())
            decoder.append(nn.Conv2d(layers[-1], logits, 1))
            self.decoders.append(decoder)

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Logits (batch, sum of groups, height, width) of a map (batch, parts · layers[0], ...).

        Args:
            x: The map, its parts one after another.
            size: Height and width of the result; None: ``out_resolution``.
        """
        parts = torch.split(x, self.part, dim=1)
        logits = torch.cat(
            [decoder(parts[source]) for decoder, source in zip(self.decoders, self.sources, strict=True)], dim=1
        )
        wanted = self.out_resolution if size is None else size
        return logits if wanted is None else resized_to(logits, wanted)


class ChannelwiseFC(nn.Module):
    """Fully connected layers over space, with weights of their own for each channel; channels do not mix.

    Args:
        layers: Pixels from the input map to the output map.
        activation: Class of the activation between layers.
        batchnorm: Normalise between layers.
        channels: Channels of the map.

    Raises:
        ConfigurationError: If there are fewer than two numbers of pixels.

    Examples:
        >>> ChannelwiseFC([49, 49], channels=64)(torch.rand(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Pathak et al., "Context Encoders: Feature Learning by Inpainting", 2016, section 3.1.
    """

    def __init__(
        self,
        layers: Sequence[int] = (49, 49, 49, 49),
        activation: type[nn.Module] = nn.PReLU,
        batchnorm: bool = True,
        *,
        channels: int = 64,
    ) -> None:
        super().__init__()
        check_layers(layers)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.between = nn.ModuleList()
        for inputs, outputs in itertools.pairwise(layers):
            bound = 1 / math.sqrt(inputs)  # as nn.Linear draws them
            self.weights.append(nn.Parameter(torch.empty(channels, inputs, outputs).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(channels, outputs).uniform_(-bound, bound)))
        for _ in layers[2:]:
            self.between.append(nn.Sequential(nn.BatchNorm1d(channels) if batchnorm else nn.Identity(), activation()))

    def forward(self, x: Tensor) -> Tensor:
        """A map (batch, channels, height, width) of one; a square one if the number of pixels changes."""
        height, width = x.shape[-2:]
        values = x.flatten(2)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.einsum("bci,cio->bco", values, weight) + bias
            if number < len(self.between):
                values = self.between[number](values)
        if values.shape[2] == height * width:
            return values.view(*values.shape[:2], height, width)
        side = math.isqrt(values.shape[2])
        return values.view(*values.shape[:2], side, values.shape[2] // side)
