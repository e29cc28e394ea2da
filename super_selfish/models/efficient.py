"""The default backbone: EfficientNet without its classifier, and a bottleneck convolution."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.model import VALID_MODELS
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError, check_choice
from super_selfish.models.norms import LayerNorm2d, replace_batch_norm
from super_selfish.suggestions import did_you_mean

NormType = Literal["batch", "layer"]
_PADDING_SIZE = 224  # the paddings of this size give a grid of floor(side / 32) at every resolution


class EfficientFeatures(nn.Module):
    """EfficientNet without its classifier.

    The architecture is that of ``efficientnet-pytorch``. Three changes double its speed on a CPU: swish is
    replaced by ``nn.SiLU``, convolutions do the symmetric padding, and the memory format is channels-last.

    Args:
        name: ``"efficientnet-b0"`` to ``"efficientnet-b8"``.
        pretrained: Load ImageNet weights. efficientnet-pytorch downloads them on first use.
        norm_type: ``"batch"`` for batch norm, or ``"layer"`` for layer norm, which is independent of the batch.
        channels: Number of image channels.

    Raises:
        ConfigurationError: If ``name`` or ``norm_type`` is unknown.

    Examples:
        >>> EfficientFeatures()(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 1280, 2, 2])

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019.
    """

    def __init__(
        self,
        name: str = "efficientnet-b0",
        pretrained: bool = False,
        norm_type: NormType = "batch",
        *,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if name not in VALID_MODELS:
            raise ConfigurationError(
                "The name of the EfficientNet is unknown.",
                expected=f"one of {', '.join(VALID_MODELS)}",
                received=repr(name),
                fix=did_you_mean(name, VALID_MODELS),
            )
        check_choice("norm_type", norm_type, ("batch", "layer"))
        settings: dict[str, Any] = {"image_size": _PADDING_SIZE, "batch_norm_momentum": 0.9}
        create = EfficientNet.from_pretrained if pretrained else EfficientNet.from_name  # the classifier is dropped
        net = create(name, in_channels=channels, **settings)
        self.drop_connect_rate = float(net._global_params.drop_connect_rate or 0.0)
        self.stem = nn.Sequential(net._conv_stem, net._bn0, nn.SiLU())
        self.blocks = net._blocks
        self.head = nn.Sequential(net._conv_head, net._bn1, nn.SiLU())
        self.out_channels = int(net._conv_head.out_channels)
        for block in self.blocks:
            block._swish = nn.SiLU()
        for module in self.modules():
            padding = getattr(module, "static_padding", None)
            if isinstance(module, nn.Conv2d) and isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
                module.padding = (padding.padding[0], padding.padding[0])
                module.static_padding = nn.Identity()
        if norm_type == "layer":
            replace_batch_norm(self)
            self._initialise_layer_norms(pretrained)

    def _initialise_layer_norms(self, pretrained: bool) -> None:
        """Balance the scale of gradients, as layer norm does not couple the scales of layers like batch norm."""
        cast(LayerNorm2d, self.stem[1]).break_symmetry()
        for block in self.blocks if not pretrained else ():  # pretrained residual branches keep their weights
            arguments = block._block_args
            if block.id_skip and arguments.stride == 1 and arguments.input_filters == arguments.output_filters:
                block._bn2.start_at_zero()

    def forward(self, x: Tensor, endpoints: bool = False) -> Tensor | list[Tensor]:
        """Compute the feature map.

        Args:
            x: Images (batch, channels, height, width) of at least 32×32 px.
            endpoints: Return the feature maps of all resolutions instead of the final one.

        Returns:
            The feature map (batch, 1280, height // 32, width // 32). With ``endpoints``, a list of the images, the last
            feature map of each resolution, and the final feature map.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        levels = [x]
        x = self.stem(x)
        for position, block in enumerate(self.blocks):
            previous, x = x, block(x, drop_connect_rate=self.drop_connect_rate * position / len(self.blocks))
            if endpoints and x.shape[-2:] != previous.shape[-2:]:
                levels.append(previous)
        levels.append(x)
        x = cast(Tensor, self.head(x))
        return [*levels, x] if endpoints else x


class ReshapeChannels(nn.Module):
    """A convolutional network followed by a bottleneck convolution.

    Args:
        backbone: Network that returns a feature map (batch, in_channels, height, width).
        in_channels: Number of channels of that feature map.
        out_channels: Number of output channels.
        kernel_size: Kernel size of the bottleneck convolution.
        stride: Stride of the bottleneck convolution.
        padding: Padding of the bottleneck convolution.
        activation: Class of the activation that follows the convolution.
        groups: Number of groups of the bottleneck convolution.
        flat: Return flat features (batch, out_channels · height · width) instead of the feature map.

    Raises:
        ConfigurationError: If ``backbone`` is missing.

    Examples:
        >>> ReshapeChannels(EfficientFeatures())(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 256])
    """

    def __init__(
        self,
        backbone: nn.Module | None = None,
        in_channels: int = 1280,
        out_channels: int = 64,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        activation: type[nn.Module] = nn.PReLU,
        groups: int = 1,
        flat: bool = True,
    ) -> None:
        super().__init__()
        if backbone is None:
            raise ConfigurationError(
                "ReshapeChannels needs a backbone.",
                expected="an nn.Module that returns a feature map",
                received="backbone=None",
                fix="Example: ReshapeChannels(EfficientFeatures()).",
            )
        self.backbone = backbone
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups)
        self.activation = activation()
        self.flat = flat

    def map(self, x: Tensor) -> Tensor:
        """Compute the feature map (batch, out_channels, height, width)."""
        return cast(Tensor, self.activation(self.conv(self.backbone(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the feature map, flattened if ``flat``."""
        return self.map(x).flatten(1) if self.flat else self.map(x)
