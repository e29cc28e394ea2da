"""Networks of BiGAN: encoder and generator, and the discriminator of (image, latent code) pairs."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from super_selfish.models.backbones import map_of
from super_selfish.models.combined import CombinedNet, in_module_precision


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
