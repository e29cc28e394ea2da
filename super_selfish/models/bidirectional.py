"""Networks of BiGAN: encoder and generator, and the discriminator of (image, latent code) pairs."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from super_selfish.models.backbones import map_of
from super_selfish.models.combined import CombinedNet, in_module_precision
from super_selfish.models.heads import Classification

WIDTHS = (32, 64, 128)
"""Numbers of channels of the convolutions of a discriminator; the last is repeated."""

LARGEST_MAP = 3
"""Largest side of the feature map of a discriminator."""

LEAKY_RELU = partial(nn.LeakyReLU, 0.2)


class LatentNet(CombinedNet):
    """Encoder and generator. :meth:`features` maps images to latent codes, :meth:`predict` latent codes to images.

    Args:
        backbone: Maps images to features.
        predictor: Generator, maps latent codes (batch, channels, height, width) to images.
        latent: Maps the backbone's feature map to an unbounded latent code. None: the feature map is the latent code.

    Examples:
        >>> net = LatentNet(nn.Conv2d(3, 8, 4, 4), nn.ConvTranspose2d(2, 3, 4, 4), nn.Conv2d(8, 2, 1))
        >>> code = net.features(torch.rand(5, 3, 16, 16))
        >>> code.shape, net.predict(code).shape
        (torch.Size([5, 2, 4, 4]), torch.Size([5, 3, 16, 16]))
    """

    def __init__(self, backbone: nn.Module, predictor: nn.Module, latent: nn.Module | None = None) -> None:
        super().__init__(backbone, predictor)
        self.latent = nn.Identity() if latent is None else latent

    @in_module_precision
    def features(self, x: Tensor) -> Tensor:
        """Compute the latent codes of images."""
        return cast(Tensor, self.latent(map_of(self.backbone, x)))


class PairDiscriminator(nn.Module):
    """Discriminator of pairs of an image and a latent code.

    Args:
        backbone: Maps images to features.
        head: Maps the concatenated image features and flattened latent code to a logit.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """Compute logits (batch, 1) for images (batch, C, H, W) and latent codes (batch, ...)."""
        features = cast(Tensor, self.backbone(images)).flatten(1)
        return cast(Tensor, self.head(torch.cat([features, codes.flatten(1)], dim=1)))


def strided_convolutions(channels: int, size: tuple[int, int]) -> tuple[nn.Sequential, int]:
    """Build the convolutions of a discriminator of images, which halve the resolution until the map is 3×3 or smaller.

    As in DCGAN, kernels are 4×4 with stride 2, and batch norm and leaky ReLU follow. The first layer has no batch norm,
    which would remove the difference in contrast between batches of real and of generated images.

    Args:
        channels: Number of image channels.
        size: Height and width of the images in px.

    Returns:
        The convolutions, and the number of features of an image.

    Examples:
        >>> layers, features = strided_convolutions(3, (32, 48))
        >>> layers(torch.rand(2, 3, 32, 48)).shape, features
        (torch.Size([2, 128, 2, 3]), 768)

    References:
        Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
        Networks", 2016.
    """
    layers, (height, width), inputs = nn.Sequential(), size, channels
    while min(height, width) > 1 and (not layers or max(height, width) > LARGEST_MAP):
        outputs = WIDTHS[min(len(layers), len(WIDTHS) - 1)]
        norm = [nn.BatchNorm2d(outputs)] if layers else []
        convolution = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not norm)
        layers.append(nn.Sequential(convolution, *norm, LEAKY_RELU()))
        inputs, height, width = outputs, height // 2, width // 2
    if max(height, width) > LARGEST_MAP:
        height, width = min(height, LARGEST_MAP), min(width, LARGEST_MAP)
        layers.append(nn.AdaptiveAvgPool2d((height, width)))
    return layers, inputs * height * width


def dcgan_discriminator(channels: int, size: tuple[int, int], code: int) -> PairDiscriminator:
    """Build a discriminator of images (channels, height, width) and codes of ``code`` values."""
    layers, features = strided_convolutions(channels, size)
    head = Classification([features + code, 1024, 256, 1], LEAKY_RELU, batchnorm=False)
    return PairDiscriminator(layers, head)
