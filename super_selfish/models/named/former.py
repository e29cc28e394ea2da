"""Backbones by name as release 0.1.0 built them. Its trainings contain their weights."""

from __future__ import annotations

from torch import nn
from torchvision import models

from super_selfish.errors import ConfigurationError
from super_selfish.models.backbones import adapt_stem
from super_selfish.models.named import timm_models, torchvision_models
from super_selfish.models.named.timm_models import TIMM
from super_selfish.models.named.trunks import Trunk

FORMER = "0.1:"
"""Prefix of the names."""

_OTHER_FEATURES = ("convnext", "densenet", "googlenet", "inception")
_OTHER_MAP = ("swin", "vit", TIMM)


def former_name(name: str, *, uses_map: bool) -> str:
    """The name that builds the network that 0.1.0 built by ``name``.

    The final norm of ConvNeXt and the last activation of DenseNet were missing, and GoogLeNet and Inception had their
    dropout. These, Swin, vision transformers and networks of timm had no feature map, but a 1×1 map of the pooled
    features. Other networks have not changed.

    Args:
        name: Name of a backbone.
        uses_map: Whether the network is trained by its feature map.

    Examples:
        >>> former_name("densenet121", uses_map=False), former_name("swin_t", uses_map=False)
        ('0.1:densenet121', 'swin_t')
        >>> former_name("swin_t", uses_map=True), former_name("resnet18", uses_map=True)
        ('0.1:swin_t', 'resnet18')
    """
    changed = _OTHER_FEATURES + (_OTHER_MAP if uses_map else ())
    return FORMER + name if name.startswith(changed) else name


def former_backbone(name: str, channels: int = 3) -> Trunk:
    """Build a randomly initialised backbone as 0.1.0 did.

    Args:
        name: Name without the prefix :data:`FORMER`.
        channels: Number of image channels.

    Raises:
        ConfigurationError: If the name is unknown, or its network has not changed since.
    """
    if name.startswith(TIMM):
        return Trunk(timm_models.timm_backbone(name.removeprefix(TIMM), channels).net)
    if name not in torchvision_models.model_names() or former_name(name, uses_map=True) == name:
        raise ConfigurationError(
            f"There is no former network of {name!r}.",
            expected="'0.1:' and the name of a network that release 0.1.0 built otherwise, such as '0.1:densenet121'",
            received=f"backbone={FORMER + name!r}",
            fix=f"Leave out {FORMER!r}.",
        )
    net = models.get_model(name, weights=None, **torchvision_models.OPTIONS.get(name, {}))
    adapt_stem(net, channels)
    if isinstance(net, models.ConvNeXt | models.DenseNet):
        return Trunk(net.features, "features.")
    classifier = next(part for part in ("fc", "head", "heads") if hasattr(net, part))
    setattr(net, classifier, nn.Identity())
    return Trunk(net)
