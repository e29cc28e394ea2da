"""Classification models of torchvision without their classifiers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision import models

from super_selfish.errors import ConfigurationError
from super_selfish.models.backbones import adapt_stem
from super_selfish.models.named.trunks import Trunk, as_grid, padded_to_patches, resized_positions

_AFTER_THE_MAP = ("avgpool", "dropout", "fc")
_NO_AUXILIARY = {"aux_logits": False, "init_weights": True}
OPTIONS: dict[str, dict[str, bool]] = {"inception_v3": _NO_AUXILIARY, "googlenet": _NO_AUXILIARY}
"""Options that disable the auxiliary classifiers of the models that have them."""


def model_names() -> list[str]:
    """Names of torchvision's classification models."""
    return list(models.list_models(module=models))


def torchvision_backbone(name: str, channels: int = 3, resolution: tuple[int, int] | None = None) -> Trunk:
    """Build a randomly initialised model without its classifier.

    Args:
        name: Name of the model.
        channels: Number of image channels.
        resolution: Height and width of the images, for models that work at one resolution only.

    Raises:
        ConfigurationError: If the model cannot have this resolution.
    """
    options: dict[str, Any] = dict(OPTIONS.get(name, {}))
    if name.startswith("maxvit") and resolution is not None:
        options["input_size"] = resolution
    try:
        net = models.get_model(name, weights=None, **options)
    except ValueError as error:
        raise ConfigurationError(
            f"The backbone {name!r} cannot be built for these images: {' '.join(str(error).split())}.",
            expected=f"resolution={default_side(name)}, or a multiple of it",
            received=f"resolution={resolution}",
        ) from error
    adapt_stem(net, channels)
    return without_classifier(net)


def default_side(name: str) -> int | None:
    """Side in px that a model is made for, if it is a transformer; None: any."""
    return 224 if name.startswith(("vit", "swin", "maxvit")) else None


def without_classifier(net: nn.Module) -> Trunk:
    """Remove the classifier of a model of torchvision.

    Raises:
        ConfigurationError: If the architecture is not supported.
    """
    for architecture, trunk in _TRUNKS.items():
        if isinstance(net, architecture):
            return cast(Trunk, trunk(net))
    features = getattr(net, "features", None)
    if isinstance(features, nn.Module):
        return Trunk(features, "features.", nn.ReLU() if isinstance(net, models.DenseNet) else None)
    if isinstance(net, models.MNASNet):
        return Trunk(net.layers, "layers.")
    if hasattr(net, "fc"):  # ResNet and similar models are sequences of their children, whose names are kept
        layers = ((key, child) for key, child in net.named_children() if key not in _AFTER_THE_MAP)
        return Trunk(nn.Sequential(OrderedDict(layers)))
    raise ConfigurationError(
        f"The classifier of {type(net).__name__} cannot be removed.", fix="Pass an nn.Module without the classifier."
    )


class ConvNeXtTrunk(Trunk):
    """ConvNeXt. The final norm follows the pooling; in the map it is applied to each position.

    Args:
        net: The model; its classifier is replaced by the norm in it.
    """

    def __init__(self, net: models.ConvNeXt) -> None:
        net.classifier = net.classifier[:1]  # keeps the name of the norm
        super().__init__(net)

    def map(self, x: Tensor) -> Tensor:
        """Compute the normalised feature map (batch, channels, height, width)."""
        return cast(Tensor, self.net.classifier(self.net.features(x)))

    def pooled(self, x: Tensor) -> Tensor:
        """Compute the normalised mean of the feature map (batch, channels)."""
        return cast(Tensor, self.net.classifier(self.net.features(x).mean((2, 3), keepdim=True)).flatten(1))


class SwinTrunk(Trunk):
    """Swin transformer, whose maps are channels-last in torchvision.

    Args:
        net: The model; its classifier is removed.
    """

    def __init__(self, net: models.SwinTransformer) -> None:
        net.head = nn.Identity()
        super().__init__(net)

    def map(self, x: Tensor) -> Tensor:
        """Compute the normalised feature map (batch, channels, height, width)."""
        return cast(Tensor, self.net.norm(self.net.features(x)).permute(0, 3, 1, 2))


class MaxVitTrunk(Trunk):
    """MaxViT, up to the norm that follows the pooling; in the map it is applied to each position.

    Args:
        net: The model; its classifier is replaced by the norm in it.
    """

    def __init__(self, net: models.MaxVit) -> None:
        net.classifier = net.classifier[2:3]  # pooling, flattening, norm, two linear layers; keeps the name of the norm
        super().__init__(net)

    def map(self, x: Tensor) -> Tensor:
        """Compute the normalised feature map (batch, channels, height, width)."""
        return cast(Tensor, self.net.classifier(self._blocks(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    def pooled(self, x: Tensor) -> Tensor:
        """Compute the normalised mean of the feature map (batch, channels)."""
        return cast(Tensor, self.net.classifier(self._blocks(x).mean((2, 3))))

    def _blocks(self, x: Tensor) -> Tensor:
        x = self.net.stem(x)
        for block in self.net.blocks:
            x = block(x)
        return x


class VisionTransformerTrunk(Trunk):
    """Vision transformer at any resolution: positions are interpolated, and images padded to whole patches.

    The pooled features are the class token after the final norm; the map has the other tokens.

    Args:
        net: The model; its classifier is removed.
    """

    def __init__(self, net: models.VisionTransformer) -> None:
        net.heads = nn.Identity()
        super().__init__(net)

    def map(self, x: Tensor) -> Tensor:
        """Compute the map (batch, channels, rows, columns) of the patch tokens."""
        return as_grid(self._tokens(x)[:, 1:], x.shape[-2], x.shape[-1])

    def pooled(self, x: Tensor) -> Tensor:
        """Compute the class token (batch, channels)."""
        return self._tokens(x)[:, 0]

    def _tokens(self, x: Tensor) -> Tensor:
        projection, encoder = self.net.conv_proj, self.net.encoder
        patches = projection(padded_to_patches(x, projection.kernel_size))
        tokens = torch.cat([self.net.class_token.expand(len(x), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        positions = resized_positions(encoder.pos_embedding, (patches.shape[2], patches.shape[3]), prefix=1)
        return cast(Tensor, encoder.ln(encoder.layers(encoder.dropout(tokens + positions))))


_TRUNKS: dict[type[nn.Module], type[Any]] = {
    models.ConvNeXt: ConvNeXtTrunk,
    models.SwinTransformer: SwinTrunk,
    models.MaxVit: MaxVitTrunk,
    models.VisionTransformer: VisionTransformerTrunk,
}
