"""Decoders: networks that map feature maps to images or to per-pixel logits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.errors import check_choice
from super_selfish.models.heads import check_layers

HIDDEN = (256, 256, 128, 64)
"""Numbers of hidden channels of a decoder, from the feature map to the image. Each layer doubles the resolution."""


def decoder_layers(
    grid: tuple[int, int], size: tuple[int, int], inputs: int, outputs: int, hidden: Sequence[int] = HIDDEN
) -> list[int]:
    """Return the channels of a decoder that doubles the resolution until it is close to that of the image.

    Args:
        grid: Height and width of the feature map.
        size: Height and width of the image.
        inputs: Number of channels of the feature map.
        outputs: Number of channels of the image.
        hidden: Numbers of hidden channels. If fewer layers are needed, the last entries are used; if more are needed,
            the first entry is repeated.

    Examples:
        >>> decoder_layers((7, 7), (225, 225), 64, 3)
        [64, 256, 256, 128, 64, 3]
        >>> decoder_layers((4, 4), (32, 32), 256, 3)
        [256, 128, 64, 3]
    """
    ratio = math.sqrt(size[0] / grid[0] * size[1] / grid[1])
    steps = max(1, round(math.log2(max(ratio, 1.0))))
    repeated = [hidden[0]] * max(0, steps - 1 - len(hidden))
    channels = [*repeated, *hidden[len(hidden) - min(steps - 1, len(hidden)) :]]
    return [inputs, *channels, outputs]


def resized_to(images: Tensor, size: Sequence[int]) -> Tensor:
    """Resize images (batch, channels, height, width) to (height, width) by bilinear interpolation."""
    height, width = size
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)


class ImageSigmoid(nn.Module):
    """Sigmoid, scaled to the values of images in [0, 1] after their normalisation.

    Args:
        mean: Mean of each channel that was subtracted from the images. None: images are not normalised.
        std: Standard deviation of each channel by which they were divided.

    Examples:
        >>> ImageSigmoid(mean=[0.5], std=[0.25])(torch.tensor([-100.0, 0.0, 100.0]).reshape(1, 1, 1, 3)).flatten()
        tensor([-2.,  0.,  2.])
    """

    low: Tensor
    span: Tensor

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        centre, width = (torch.tensor(given or (default,)) for given, default in ((mean, 0.0), (std, 1.0)))
        self.register_buffer("low", (-centre / width)[:, None, None], persistent=False)
        self.register_buffer("span", (1 / width)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map values (batch, channels, height, width) to the range of each channel."""
        return self.low + self.span * torch.sigmoid(x)


def image_activation(
    name: str | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> ImageSigmoid | None:
    """Return the ``output_activation`` of a decoder of images, by name.

    Args:
        name: ``"sigmoid"`` or None.
        mean: Mean per channel of the normalisation, or None.
        std: Standard deviation per channel of the normalisation, or None.

    Raises:
        ConfigurationError: If the name is unknown.
    """
    check_choice("output_activation", name, ("sigmoid", None))
    return None if name is None else ImageSigmoid(mean, std)


class Upsampling(nn.Module):
    """A decoder of transposed convolutions, each of which doubles the resolution.

    Args:
        layers: Numbers of channels from the feature map to the image.
        kernel_size: Kernel size of each transposed convolution.
        stride: Stride of each transposed convolution.
        padding: Padding of each transposed convolution.
        activation: Class of the activation that follows each layer except the last.
        batchnorm: Apply batch norm after each layer except the last.
        input_resolution: Height and width to which flat features are reshaped. None: 1×1.
        out_resolution: Height and width to which the output is resized. None: no resizing.
        output_activation: Module that follows the last layer. None: no activation.

    Raises:
        ConfigurationError: If ``layers`` has fewer than two entries.

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
        *,
        output_activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_layers(layers)
        self.input_resolution = input_resolution
        self.out_resolution = out_resolution
        self.output_activation = nn.Identity() if output_activation is None else output_activation
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
        """Decode images (batch, layers[-1], height, width).

        Args:
            x: Feature map (batch, layers[0], ...) or flat features.
            size: Height and width of the images. None: ``out_resolution``.
        """
        if x.ndim == 2:
            x = x.reshape(len(x), -1, *(self.input_resolution or (1, 1)))
        image: Tensor = self.output_activation(self.layers(x.contiguous(memory_format=torch.channels_last)))
        resolution = self.out_resolution if size is None else size
        return image if resolution is None else resized_to(image, resolution)


class GroupedUpsampling(nn.Module):
    """One decoder per group of output channels, each applied to one chunk of the feature map's channels.

    Args:
        layers: Numbers of channels of the transposed convolutions, from the chunk of the feature map to the input of a
            final 1×1 convolution; see :class:`Upsampling`.
        groups: Number of logits of each group.
        kernel_size: Kernel size of each transposed convolution.
        stride: Stride of each transposed convolution.
        padding: Padding of each transposed convolution.
        activation: Class of the activation that follows each transposed convolution.
        batchnorm: Apply batch norm after each transposed convolution.
        out_resolution: Height and width to which the output is resized. None: no resizing.
        sources: Index of the chunk from which each group is decoded. None: group i is decoded from chunk i.

    Raises:
        ConfigurationError: If ``layers`` has fewer than two entries.

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
        """Decode logits (batch, sum of groups, height, width).

        Args:
            x: Feature map (batch, chunks · layers[0], ...).
            size: Height and width of the output. None: ``out_resolution``.
        """
        chunks = torch.split(x, self.part, dim=1)
        logits = torch.cat(
            [decoder(chunks[source]) for decoder, source in zip(self.decoders, self.sources, strict=True)], dim=1
        )
        resolution = self.out_resolution if size is None else size
        return logits if resolution is None else resized_to(logits, resolution)


class ChannelwiseFC(nn.Module):
    """Channel-wise fully connected layers over space. Each channel has separate weights, and channels do not mix.

    Args:
        layers: Numbers of pixels from the input feature map to the output feature map.
        activation: Class of the activation between layers.
        batchnorm: Apply batch norm between layers.
        channels: Number of channels of the feature map.

    Raises:
        ConfigurationError: If ``layers`` has fewer than two entries.

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
            bound = 1 / math.sqrt(inputs)  # as in nn.Linear
            self.weights.append(nn.Parameter(torch.empty(channels, inputs, outputs).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(channels, outputs).uniform_(-bound, bound)))
        for _ in layers[2:]:
            self.between.append(nn.Sequential(nn.BatchNorm1d(channels) if batchnorm else nn.Identity(), activation()))

    def forward(self, x: Tensor) -> Tensor:
        """Compute a feature map (batch, channels, height, width). It is square if the number of pixels changes."""
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
