"""Backbones: networks that map images to features, and wrappers for custom networks."""

from __future__ import annotations

import functools
from typing import Literal, cast

import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError, check_choice
from super_selfish.models.efficient import EfficientFeatures, NormType, ReshapeChannels
from super_selfish.models.initialization import rebuildable
from super_selfish.models.norms import LayerNorm2d

Output = Literal["flat", "map", "pooled"]


class ResidualBlock(nn.Module):
    """Residual block of two 3×3 convolutions. The shortcut uses average pooling where the block has a stride.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        stride: Stride of the first convolution.
        norm: Class of the normalisation layers.

    References:
        He et al., "Deep Residual Learning for Image Recognition", 2015; He et al., "Bag of Tricks for Image
        Classification with Convolutional Neural Networks", 2018 (average pooling, ResNet-D).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            norm(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            norm(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shrink = nn.Identity() if stride == 1 else nn.AvgPool2d(stride, ceil_mode=True)
            self.shortcut = nn.Sequential(shrink, nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the feature map (batch, outputs, height / stride, width / stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A small ResNet for small images: 3×3 stem, four stages, global average pooling.

    It has 1.2 million parameters at the default width of 32.

    Args:
        channels: Number of image channels.
        width: Number of channels of the first stage. Each later stage doubles the number.
        blocks: Number of residual blocks per stage.
        norm_type: ``"batch"`` or ``"layer"``.

    Examples:
        >>> SmallResNet()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 256])
    """

    def __init__(self, channels: int = 3, width: int = 32, blocks: int = 1, norm_type: NormType = "batch") -> None:
        super().__init__()
        norm: type[nn.Module] = nn.BatchNorm2d if norm_type == "batch" else LayerNorm2d
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), norm(width), nn.ReLU())
        stages: list[nn.Module] = []
        inputs = width
        for stage in range(4):
            outputs = width * 2**stage
            for block in range(blocks):
                stages.append(ResidualBlock(inputs, outputs, 2 if block == 0 and stage > 0 else 1, norm))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.out_channels = inputs

    def map(self, x: Tensor) -> Tensor:
        """Compute the feature map (batch, 8 · width, height / 8, width / 8)."""
        return cast(Tensor, self.stages(self.stem(x.contiguous(memory_format=torch.channels_last))))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features (batch, 8 · width) by global average pooling."""
        return self.map(x).mean((2, 3))


class BackboneOutput(nn.Module):
    """Wraps a backbone to return another form of output. The weights are shared, not copied.

    Args:
        backbone: The backbone.
        output: ``"flat"`` (batch, features), ``"map"`` (batch, channels, height, width), or ``"pooled"``
            (batch, channels), whose size is independent of the resolution.

    Raises:
        ConfigurationError: If ``output`` is unknown.
    """

    def __init__(self, backbone: nn.Module, output: Output) -> None:
        super().__init__()
        check_choice("output", output, ("flat", "map", "pooled"))
        self.backbone = backbone
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features of images ``x`` in the chosen form."""
        if self.output == "pooled":
            return pooled_of(self.backbone, x)
        features = map_of(self.backbone, x)
        return features if self.output == "map" else features.flatten(1)


def map_of(backbone: nn.Module, x: Tensor) -> Tensor:
    """Compute the feature map (batch, channels, height, width). Feature vectors are returned as 1×1 maps."""
    native_map = getattr(backbone, "map", None)
    return as_map(native_map(x) if callable(native_map) else backbone(x))


def pooled_of(backbone: nn.Module, x: Tensor) -> Tensor:
    """Compute pooled features (batch, channels): ``backbone.pooled`` if there is one, else the mean of the map."""
    own = getattr(backbone, "pooled", None)
    return cast(Tensor, own(x)) if callable(own) else map_of(backbone, x).mean((2, 3))


def as_map(features: Tensor) -> Tensor:
    """Convert a feature vector to a 1×1 map. Feature maps are returned unchanged."""
    return features[:, :, None, None] if features.ndim == 2 else features


def default_backbone(channels: int = 3, norm_type: NormType = "batch", flat: bool = True) -> ReshapeChannels:
    """Build EfficientNet-B0 with a bottleneck to 64 channels: 3136 flat features at 225×225 px."""
    net = ReshapeChannels(EfficientFeatures(norm_type=norm_type, channels=channels), flat=flat)
    return rebuildable(net, functools.partial(default_backbone, channels, norm_type, flat))


def channels_last_is_safe(network: nn.Module) -> bool:
    """Return whether a network can be trained on channels-last images.

    On CPUs, the backward pass of a strided 1×1 convolution with 2 to 7 input channels writes out of bounds if the input
    is channels-last (torch 2.14, oneDNN 3.13). The process crashes.
    """
    return not any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < 8
        for module in network.modules()
    )


def first_convolution(module: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """Return the name and the module of the first 2-D convolution in order of registration, or None."""
    return next(((name, child) for name, child in module.named_modules() if isinstance(child, nn.Conv2d)), None)


def adapt_stem(module: nn.Module, channels: int) -> None:
    """Replace the first convolution in place by a newly initialised one for another number of channels."""
    found = first_convolution(module)
    if found is None or found[1].in_channels == channels:
        return
    name, old = found
    if old.groups != 1:
        raise ConfigurationError(f"The first convolution is grouped and cannot be adapted to {channels} channels.")
    new = nn.Conv2d(
        channels,
        old.out_channels,
        cast(tuple[int, int], old.kernel_size),
        cast(tuple[int, int], old.stride),
        cast(tuple[int, int], old.padding),
        cast(tuple[int, int], old.dilation),
        bias=old.bias is not None,
    )
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new)
