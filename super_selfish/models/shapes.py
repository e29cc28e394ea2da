"""Input and output shapes of networks, found by a forward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.models.averages import copied
from super_selfish.models.backbones import first_convolution
from super_selfish.models.combined import as_input_of, in_eval_mode


def feature_shape(backbone: nn.Module, channels: int, resolution: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of the features of one image: (features,) or (channels, height, width).

    The backbone is run on one black image in eval mode without gradients. Its modes and statistics are not changed.

    Args:
        backbone: Maps images to features.
        channels: Number of image channels.
        resolution: Height and width of the images in px.

    Raises:
        ConfigurationError: If the forward pass fails, or the output is not a float tensor of 2 or 4 dimensions.
    """
    image = torch.zeros(1, channels, *resolution, device=_device(backbone), dtype=torch.float32)
    description = f"images of {channels} channels and {resolution[0]}×{resolution[1]} px"
    try:
        with in_eval_mode(backbone), torch.no_grad():
            features = backbone(image)
    except Exception as error:  # custom networks may raise any exception
        takes = expected_channels(backbone)
        is_size = takes == channels  # the number of channels is right, so the size is not
        raise ConfigurationError(
            f"The backbone cannot take {description}: {type(error).__name__}: {error}.",
            expected="a network for images of this size" if is_size else f"a network for {channels} channels",
            received=_input_description(backbone),
            fix=_dtype_fix(backbone)
            or f"Pass a backbone for these images, or set `{'resolution' if is_size else 'channels'}=` to the input "
            "that it expects.",
        ) from error
    is_valid = isinstance(features, Tensor) and features.is_floating_point()
    if not is_valid or features.ndim not in (2, 4) or features.shape[0] != 1:
        received = (
            f"{features.dtype} of shape {tuple(features.shape)}"
            if isinstance(features, Tensor)
            else repr(type(features))
        )
        raise ConfigurationError(
            f"The backbone's output for {description} is not a feature vector or feature map.",
            expected="a float tensor of shape (batch, features) or (batch, channels, height, width)",
            received=received + " for a batch of one",
            fix="Wrap the network in an nn.Module whose forward returns that tensor alone.",
        )
    if features.dtype != torch.float32:
        raise ConfigurationError(
            f"The backbone's output for {description} is not in float32.",
            expected="float32 features of float32 images",
            received=f"{features.dtype}",
            fix=_dtype_fix(backbone) or "Convert the features in the backbone's forward: features.float().",
        )
    return tuple(features.shape[1:])


def _device(network: nn.Module) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def _dtype_fix(network: nn.Module) -> str | None:
    """How to fix a network whose weights are not float32; None: they are."""
    found = {weight.dtype for weight in network.parameters()} - {torch.float32}
    if not found:
        return None
    return (
        f"The weights are {', '.join(sorted(map(str, found)))}: convert them with network.float(). "
        'For mixed precision, pass precision="bf16" to supervise().'
    )


def expected_channels(backbone: nn.Module) -> int | None:
    """Return the network's ``image_channels``, or else the input channels of its first convolution, or None."""
    stated = getattr(backbone, "image_channels", None)
    if isinstance(stated, int):
        return stated
    found = first_convolution(backbone)
    return None if found is None else found[1].in_channels


def _input_description(backbone: nn.Module) -> str:
    channels = expected_channels(backbone)
    name = type(backbone).__name__
    return name if channels is None else f"{name}, whose first convolution takes {channels} channels"


def check_outputs(predictor: nn.Module, shape: tuple[int, ...], outputs: int | None, name: str = "predictor") -> None:
    """Check that a predictor accepts the features and has ``outputs`` outputs (None: any number).

    Raises:
        ConfigurationError: If it does not accept the features, or has a different number of outputs.
    """
    actual = output_shape(predictor, shape, name)
    if len(actual) != 1 or outputs not in (None, actual[0]):
        raise ConfigurationError(
            f"The output of `{name}` does not match the pretext task.",
            expected=f"outputs of shape (batch, {'classes' if outputs is None else outputs})",
            received=f"shape {(1, *actual)} for a batch of one",
        )


def check_decoded(predictor: nn.Module, shape: tuple[int, ...], outputs: int) -> None:
    """Check that a decoder accepts the feature map and returns images with ``outputs`` channels.

    Raises:
        ConfigurationError: If the check fails.
    """
    actual = output_shape(predictor, shape)
    if len(actual) != 3 or actual[0] != outputs:
        raise ConfigurationError(
            "The output of `predictor` does not match the pretext task.",
            expected=f"maps of shape (batch, {outputs}, height, width), of any size",
            received=f"shape {(1, *actual)} for a batch of one",
        )


def output_shape(predictor: nn.Module, shape: tuple[int, ...], name: str = "predictor") -> tuple[int, ...]:
    """Return the shape of a predictor's output for the features of one image, without the batch dimension.

    Raises:
        ConfigurationError: If it does not accept the features, or does not return a tensor.
    """
    lazy = any(isinstance(parameter, nn.UninitializedParameter) for parameter in predictor.parameters())
    trial = predictor if lazy else copied(predictor)  # the forward pass sets the shapes of lazy layers
    try:
        with in_eval_mode(trial), torch.no_grad():
            features = torch.zeros(1, *shape, device=_device(predictor), dtype=torch.float32)
            output = trial(as_input_of(trial, features))
    except Exception as error:  # custom networks may raise any exception
        raise ConfigurationError(
            f"The {name} cannot take the backbone's features: {type(error).__name__}: {error}.",
            expected=f"features of shape (batch, {', '.join(map(str, shape))})",
            received=type(predictor).__name__,
            fix=_dtype_fix(predictor) or f"Set its input size to `supervisor.feature_dim`, or leave `{name}=None`.",
        ) from error
    if not isinstance(output, Tensor) or output.ndim < 2:
        raise ConfigurationError(
            "The predictor's output is not a tensor with one row per image.",
            expected="a tensor of shape (batch, outputs)",
            received=f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__,
        )
    return tuple(output.shape[1:])
