"""What comes out of a backbone, found by asking it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.models.backbones import first_convolution
from super_selfish.models.modes import in_eval_mode


def feature_shape(backbone: nn.Module, channels: int, resolution: tuple[int, int]) -> tuple[int, ...]:
    """Shape of the features of one image, without the batch: (features,) or (channels, height, width).

    The backbone sees one black image in eval mode without gradient; its modes and statistics are as before afterwards.

    Args:
        backbone: Images to features.
        channels: Channels of the images.
        resolution: Height and width of the images.

    Raises:
        ConfigurationError: If the backbone cannot take the images, or returns no float tensor of 2 or 4 dimensions.
    """
    reference = next((p for p in backbone.parameters()), torch.zeros(0))
    image = torch.zeros(1, channels, *resolution, device=reference.device, dtype=reference.dtype)
    described = f"images of {channels} channels and {resolution[0]}×{resolution[1]} px"
    try:
        with in_eval_mode(backbone), torch.no_grad():
            features = backbone(image)
    except Exception as error:  # whatever a stranger's network raises becomes one message with its cause
        raise ConfigurationError(
            f"The backbone cannot take {described}: {type(error).__name__}: {error}.",
            expected=f"a network for {channels} channels",
            received=_stem_in_words(backbone),
            fix="Pass a backbone that fits the images, or set `channels=` and `resolution=` to what it needs.",
        ) from error
    sound = isinstance(features, Tensor) and features.is_floating_point()
    if not sound or features.ndim not in (2, 4) or features.shape[0] != 1:
        received = (
            f"{features.dtype} of shape {tuple(features.shape)}"
            if isinstance(features, Tensor)
            else repr(type(features))
        )
        raise ConfigurationError(
            f"The backbone's output for {described} is no feature vector or map.",
            expected="a float tensor of shape (batch, features) or (batch, channels, height, width)",
            received=received + " for a batch of one",
            fix="Wrap the network in an nn.Module whose forward returns that tensor alone.",
        )
    return tuple(features.shape[1:])


def expected_channels(backbone: nn.Module) -> int | None:
    """How many channels the network says to take (``image_channels``), or its first convolution, if there is one."""
    stated = getattr(backbone, "image_channels", None)
    if isinstance(stated, int):
        return stated
    found = first_convolution(backbone)
    return None if found is None else found[1].in_channels


def _stem_in_words(backbone: nn.Module) -> str:
    channels = expected_channels(backbone)
    name = type(backbone).__name__
    return name if channels is None else f"{name}, whose first convolution takes {channels} channels"
