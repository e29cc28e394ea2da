"""Networks that go both ways between images and codes, and a judge of pairs of them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from super_selfish.models.backbones import map_of
from super_selfish.models.combined import CombinedNet, lowered


class LatentNet(CombinedNet):
    """An encoder and a generator: images to codes (:meth:`features`), codes to images (:meth:`predict`).

    Args:
        backbone: Images to features.
        predictor: Codes (batch, channels, height, width) to images.
        latent: From the backbone's map to a code of any sign; None: the map is the code.

    Examples:
        >>> net = LatentNet(nn.Conv2d(3, 8, 4, 4), nn.ConvTranspose2d(2, 3, 4, 4), nn.Conv2d(8, 2, 1))
        >>> code = net.features(torch.rand(5, 3, 16, 16))
        >>> code.shape, net.predict(code).shape
        (torch.Size([5, 2, 4, 4]), torch.Size([5, 3, 16, 16]))
    """

    def __init__(self, backbone: nn.Module, predictor: nn.Module, latent: nn.Module | None = None) -> None:
        super().__init__(backbone, predictor)
        self.latent = nn.Identity() if latent is None else latent

    @lowered
    def features(self, x: Tensor) -> Tensor:
        """The codes of images."""
        return cast(Tensor, self.latent(map_of(self.backbone, x)))


class PairDiscriminator(nn.Module):
    """Judges an image and a code together.

    Args:
        backbone: Images to features.
        head: Features of the image and the flattened code, one behind the other, to a logit.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """Logits (batch, 1) of images (batch, C, H, W) and codes (batch, ...)."""
        features = cast(Tensor, self.backbone(images)).flatten(1)
        return cast(Tensor, self.head(torch.cat([features, codes.flatten(1)], dim=1)))
