"""Backbones by name."""

from __future__ import annotations

import functools

from efficientnet_pytorch.model import VALID_MODELS
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.models.backbones import SmallResNet
from super_selfish.models.efficient import EfficientFeatures, ReshapeChannels
from super_selfish.models.initialization import rebuildable
from super_selfish.models.named import timm_models, torchvision_models
from super_selfish.models.named.former import FORMER, former_backbone
from super_selfish.models.named.timm_models import TIMM
from super_selfish.suggestions import did_you_mean


def named_backbone(name: str, channels: int = 3, resolution: tuple[int, int] | None = None) -> nn.Module:
    """Build a randomly initialised backbone by name.

    Networks of torchvision and timm are unchanged up to and including their pooled features; their feature map, or
    their patch tokens as a map, is returned by ``map(x)``. Vision transformers take images of any size.

    Args:
        name: ``"small_resnet"``, an EfficientNet (``"efficientnet-b0"`` ...), a torchvision classification model
            (``"resnet18"`` ...), or ``"timm:<name>"``, which requires the extra ``timm``. ``"0.1:<name>"``:
            the network that release 0.1.0 built by this name, for its trainings.
        channels: Number of image channels. The first convolution is adapted to it.
        resolution: Height and width of the images in px. Only the few models that work at one size are built for it.

    Raises:
        ConfigurationError: If the name is unknown, or the model cannot have this resolution.

    Examples:
        >>> import torch
        >>> named_backbone("resnet18", channels=1)(torch.rand(2, 1, 64, 64)).shape
        torch.Size([2, 512])
    """
    build = functools.partial(named_backbone, name, channels, resolution)
    return rebuildable(_named_backbone(name, channels, resolution), build)


def _named_backbone(name: str, channels: int, resolution: tuple[int, int] | None) -> nn.Module:
    if name == "small_resnet":
        return SmallResNet(channels)
    if name.startswith("efficientnet-"):
        features = EfficientFeatures(name, channels=channels)
        return ReshapeChannels(features, in_channels=features.out_channels)
    if name.startswith(FORMER):
        return former_backbone(name.removeprefix(FORMER), channels)
    if name.startswith(TIMM):
        return timm_models.timm_backbone(name.removeprefix(TIMM), channels, resolution)
    known = torchvision_models.model_names()
    if name not in known:
        raise ConfigurationError(
            "The backbone's name is unknown.",
            expected="'small_resnet', 'efficientnet-b0', a torchvision classification model such as 'resnet18', "
            "'timm:<name>', or an nn.Module",
            received=f"backbone={name!r}",
            fix=did_you_mean(name, ["small_resnet", *VALID_MODELS, *known]),
        )
    return torchvision_models.torchvision_backbone(name, channels, resolution)


def default_side(name: object) -> int | None:
    """Side in px of images that a named backbone is made for, if it is a transformer; None: any, or no name.

    Examples:
        >>> default_side("vit_b_16"), default_side("resnet18"), default_side(None)
        (224, None, None)
    """
    if not isinstance(name, str):
        return None
    if name.startswith(TIMM):
        return timm_models.default_side(name.removeprefix(TIMM))
    return torchvision_models.default_side(name)
