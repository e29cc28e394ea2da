"""Models of timm without their classifiers."""

from __future__ import annotations

import importlib
from typing import Any, cast

import torch
from torch import Tensor

from super_selfish.errors import ConfigurationError
from super_selfish.models.backbones import as_map
from super_selfish.models.named.trunks import Trunk, as_grid, padded_to_patches
from super_selfish.suggestions import did_you_mean

TIMM = "timm:"
"""Prefix of the names of backbones."""

_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False},
)
"""Options of transformers that make them take images of any size."""


def timm_library(name: str) -> Any:
    """Import timm.

    Args:
        name: Name of the backbone, for the error message.

    Raises:
        ConfigurationError: If it is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ConfigurationError(
            f"The backbone 'timm:{name}' needs timm.",
            fix='Install it from the checkout: pip install "./super-selfish[timm]".',
        ) from error


def timm_backbone(name: str, channels: int = 3, resolution: tuple[int, int] | None = None, **weights: Any) -> TimmTrunk:
    """Build a model without its classifier, randomly initialised by default.

    Args:
        name: Name of the model in timm, with or without a tag.
        channels: Number of image channels.
        resolution: Height and width of the images, for models that work at one resolution only.
        **weights: ``pretrained`` and ``pretrained_cfg_overlay`` of ``timm.create_model``.

    Raises:
        ConfigurationError: If timm is not installed, or cannot create the model.
    """
    timm = timm_library(name)
    settings: dict[str, Any] = {"pretrained": False, **weights, "num_classes": 0, "in_chans": channels}
    options = [*_ANY_SIZE, {}]
    if resolution is not None and default_side(name) is not None:
        options.insert(-1, {"img_size": resolution})
    for option in options:
        try:
            return TimmTrunk(timm.create_model(name, **settings, **option))
        except TypeError as error:  # raised before the model is built, if it has no such option
            if not any(key in str(error) for key in option):
                raise
        except RuntimeError as error:
            if settings["pretrained"]:
                raise
            fix = did_you_mean(f"timm:{name}", [f"timm:{known}" for known in timm.list_models()])
            raise ConfigurationError(f"timm cannot create {name!r}: {error}.", fix=fix) from error
    raise ConfigurationError(f"timm cannot create {name!r}.", received=f"options {options}")


def default_side(name: str) -> int | None:
    """Side in px that a model is made for, if its input has a fixed size; None: any."""
    found = timm_library(name).models.get_pretrained_cfg(name.partition(".")[0])
    return int(found.input_size[-1]) if found is not None and found.fixed_input_size else None


class TimmTrunk(Trunk):
    """A model of timm. Its pooled features are those of ``timm.create_model(name, num_classes=0)``.

    Args:
        net: The model without classifier.
    """

    def map(self, x: Tensor) -> Tensor:
        """Compute the map (batch, channels, rows, columns) of the last feature map or of the patch tokens."""
        features = self.net.forward_features(self._laid_out(x))
        if isinstance(features, Tensor) and features.ndim == 3:
            first = int(getattr(self.net, "num_prefix_tokens", 0))
            return as_grid(features[:, first:], x.shape[-2], x.shape[-1])
        if isinstance(features, Tensor) and features.ndim == 4:
            is_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
            return features.permute(0, 3, 1, 2) if is_last else features
        return as_map(self.pooled(x))

    def pooled(self, x: Tensor) -> Tensor:
        """Compute the pooled features (batch, channels)."""
        return cast(Tensor, self.net(self._laid_out(x))).flatten(1)

    def _laid_out(self, x: Tensor) -> Tensor:
        patches = getattr(self.net, "patch_embed", None)
        if patches is not None and hasattr(patches, "dynamic_img_pad"):  # else it is no grid of patches
            x = padded_to_patches(x, patches.patch_size)
        return x.contiguous(memory_format=torch.channels_last)
