"""What comes out of a backbone, found by asking it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.models.backbones import first_convolution
from super_selfish.models.combined import in_eval_mode


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
    is_valid = isinstance(features, Tensor) and features.is_floating_point()
    if not is_valid or features.ndim not in (2, 4) or features.shape[0] != 1:
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


def check_outputs(predictor: nn.Module, shape: tuple[int, ...], outputs: int | None, name: str = "predictor") -> None:
    """Make sure that a predictor takes the features and has a number of outputs; None: any.

    Raises:
        ConfigurationError: If it does not take them, or has another number of outputs.
    """
    found = output_shape(predictor, shape, name)
    if len(found) != 1 or outputs not in (None, found[0]):
        raise ConfigurationError(
            f"What `{name}` returns does not fit the task.",
            expected=f"outputs of shape (batch, {'classes' if outputs is None else outputs})",
            received=f"shape {(1, *found)} for a batch of one",
        )


def check_decoded(predictor: nn.Module, shape: tuple[int, ...], outputs: int) -> None:
    """Make sure that a decoder takes the map and returns images with a number of channels.

    Raises:
        ConfigurationError: If it does not.
    """
    found = output_shape(predictor, shape)
    if len(found) != 3 or found[0] != outputs:
        raise ConfigurationError(
            "The predictor's output does not fit the task.",
            expected=f"maps of shape (batch, {outputs}, height, width), of any size",
            received=f"shape {(1, *found)} for a batch of one",
        )


def output_shape(predictor: nn.Module, shape: tuple[int, ...], name: str = "predictor") -> tuple[int, ...]:
    """Shape of a predictor's output for the features of one image, without the batch.

    Raises:
        ConfigurationError: If it does not take them, or returns no tensor.
    """
    trial = copy.deepcopy(predictor).eval()
    device = next((parameter.device for parameter in predictor.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            features = torch.zeros(1, *shape, device=device)
            answer = trial(features.flatten(1) if isinstance(predictor, nn.Linear) else features)
    except Exception as error:  # whatever a stranger's network raises becomes one message with its cause
        raise ConfigurationError(
            f"The {name} cannot take the backbone's features: {type(error).__name__}: {error}.",
            expected=f"features of shape (batch, {', '.join(map(str, shape))})",
            received=type(predictor).__name__,
            fix=f"Size it by `supervisor.feature_dim`, or leave `{name}=None`.",
        ) from error
    if not isinstance(answer, Tensor) or answer.ndim < 2:
        raise ConfigurationError(
            "The predictor returns no tensor of one row an image.",
            expected="a tensor of shape (batch, outputs)",
            received=f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__,
        )
    return tuple(answer.shape[1:])
