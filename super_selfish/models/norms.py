"""Normalisation layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.distributed.norms import BATCH_NORMS, BatchNormAs, is_standard


class LayerNorm2d(nn.GroupNorm):
    """Layer normalisation of feature maps over channels and space.

    The output for an image is independent of the rest of the batch, in training and in evaluation. Contrastive methods
    therefore cannot exploit batch statistics as a shortcut.

    Args:
        channels: Number of channels of the feature map (batch, channels, height, width).
        eps: Value added to the variance for numerical stability.

    References:
        Ba, Kiros and Hinton, "Layer Normalization", 2016; Wu and He, "Group Normalization", 2018 (one group).
    """

    initial_scale = 1.0
    initial_shift_deviation = 0.0

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(1, channels, eps=eps)

    def reset_parameters(self) -> None:
        """Initialise weight and bias as configured by :meth:`break_symmetry` and :meth:`start_at_zero`."""
        nn.init.constant_(self.weight, self.initial_scale)
        nn.init.normal_(self.bias, std=self.initial_shift_deviation)

    def break_symmetry(self) -> None:
        """Sample the initial bias from a normal distribution with σ = 0.1, for the first norm of a network.

        Layer norm multiplies the gradient of a constant input by 1 / √eps. A black image stays zero through
        convolutions and layer norms without bias. The factors of all layers then multiply, and the gradient overflows.
        With a different bias for each channel, only the first layer norm has a constant input.
        """
        self.initial_shift_deviation = 0.1
        self.reset_parameters()

    def start_at_zero(self) -> None:
        """Set the initial weight to zero, for the last norm of a residual branch: the block starts as the identity.

        References:
            Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, section 5.1.
        """
        self.initial_scale = 0.0
        self.reset_parameters()


class PositionNorm2d(nn.LayerNorm):
    """Layer normalisation of each position of a feature map over its channels.

    The output at a position is independent of other positions and other images. Networks with masked convolutions need
    this, as a mean over space would depend on masked positions.

    Args:
        channels: Number of channels of the feature map (batch, channels, height, width).
        eps: Value added to the variance for numerical stability.

    References:
        Ba, Kiros and Hinton, "Layer Normalization", 2016.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the feature map."""
        last = input.movedim(1, -1)
        return F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


def replace_batch_norm(module: nn.Module) -> None:
    """Replace each ``BatchNorm2d`` submodule of ``module`` in place by a new :class:`LayerNorm2d`."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, LayerNorm2d(child.num_features, eps=child.eps))
        else:
            replace_batch_norm(child)


def has_batch_statistics(module: nn.Module) -> bool:
    """Return whether ``module`` contains a batch norm, so that outputs depend on the other images of the batch."""
    return any(isinstance(part, BATCH_NORMS) for part in module.modules())


_RECOMPUTATION_FLAGS = ("memory_efficient", "grad_checkpointing", "gradient_checkpointing", "distributed")
"""Attributes of modules that recompute layers in the backward pass, or run them on other devices."""

_KNOWN_PACKAGES = {"torch", "torchvision", "timm", "efficientnet_pytorch", "super_selfish"}
"""Packages whose modules call each norm once, in order, and recompute layers only if a flag above is set."""

LARGE_GROUP = 1 << 17
"""Number of pixels per group above which calling the network on each group is faster."""


def in_groups(network: nn.Module, images: Tensor, groups: int) -> Tensor:
    """Call a network with separate batch statistics for each group of images.

    If groups are small, the network is called once on all images and only batch norm is computed per group, which reads
    the weights once. The result is the same as calling the network on each group.

    Args:
        network: Maps images to one output row per image.
        images: Images (batch, C, H, W).
        groups: Number of groups. Each group consists of consecutive images, and groups have nearly equal sizes.

    Returns:
        The outputs of all images, in order.

    Examples:
        >>> norm = nn.BatchNorm2d(1)
        >>> images = torch.tensor([0.0, 2.0, 10.0, 12.0]).view(4, 1, 1, 1)
        >>> in_groups(norm, images, 2).flatten().round().tolist()
        [-1.0, 1.0, -1.0, 1.0]
    """
    if groups == 1:
        return network(images)  # type: ignore[no-any-return]
    chunks = images.tensor_split(groups)
    if not _supports_grouped_norms(network) or len(chunks[0]) * images.shape[-1] * images.shape[-2] > LARGE_GROUP:
        return torch.cat([network(chunk) for chunk in chunks])
    with _grouped_norms(network, [len(chunk) for chunk in chunks]):
        return network(images)  # type: ignore[no-any-return]


def _supports_grouped_norms(network: nn.Module) -> bool:
    """Return whether batch norm per group is equivalent to calling the network on each group.

    It is not if layers are recomputed in the backward pass or replicated on other devices, if running statistics are
    cumulative averages, or if a subclass extends batch norm. Custom modules are not supported: their code is unknown.
    """
    for part in network.modules():
        if any(getattr(part, name, False) is True for name in _RECOMPUTATION_FLAGS) or "forward" in vars(part):
            return False  # a forward that was assigned to a module may recompute layers, too
        package, *inner = type(part).__module__.split(".")
        if package not in _KNOWN_PACKAGES or "jit" in inner or any("checkpoint" in name for name in inner):
            return False
        if isinstance(part, BATCH_NORMS) and (part.momentum is None or not is_standard(part)):
            return False
    return len({counter.device for counter in _batch_counters(network)}) < 2


def _batch_counters(network: nn.Module) -> list[Tensor]:
    """Return ``num_batches_tracked`` of each batch norm."""
    norms = [part for part in network.modules() if isinstance(part, BATCH_NORMS)]
    return [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]


@contextlib.contextmanager
def _grouped_norms(network: nn.Module, sizes: Sequence[int]) -> Iterator[None]:
    total = sum(sizes)

    def batch_norm(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        rows = len(input) // total  # more than one if the network makes several views of an image
        chunks = torch.split(input, [rows * size for size in sizes])
        return torch.cat([F.batch_norm(chunk, *args, **kwargs) for chunk in chunks])

    counters = _batch_counters(network)
    before = torch.stack(counters) if counters else torch.zeros(0)
    with BatchNormAs(batch_norm):
        yield
    if counters:
        missing = (torch.stack(counters) - before) * (len(sizes) - 1)
        for counter, batches in zip(counters, missing.unbind(), strict=True):
            counter.add_(batches)
