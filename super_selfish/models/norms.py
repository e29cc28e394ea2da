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
    """Layer normalisation of a feature map: each image by its own mean and variance over channels and space.

    Nothing depends on the rest of the batch, in training or in evaluation, so contrastive methods cannot cheat by
    reading batch statistics.

    Args:
        channels: Channels of the (batch, channels, height, width) map.
        eps: Added to the variance.

    References:
        Ba, Kiros and Hinton, "Layer Normalization", 2016; Wu and He, "Group Normalization", 2018 (one group).
    """

    initial_scale = 1.0
    initial_shift_deviation = 0.0

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(1, channels, eps=eps)

    def reset_parameters(self) -> None:
        """Draw initial scales and shifts, as :meth:`break_symmetry` and :meth:`start_at_zero` set them."""
        nn.init.constant_(self.weight, self.initial_scale)
        nn.init.normal_(self.bias, std=self.initial_shift_deviation)

    def break_symmetry(self) -> None:
        """Draw the initial shifts from a normal distribution of deviation 0.1, for the first layer of a network.

        Layer norm multiplies the gradient of a constant input by 1 / √eps. An image that is black all over stays zero
        through convolutions without bias and layer norms without shift, so that the factors of all layers are
        multiplied with each other and the gradient overflows. With different shifts only the first layer sees a
        constant.
        """
        self.initial_shift_deviation = 0.1
        self.reset_parameters()

    def start_at_zero(self) -> None:
        """Set the initial scales to zero, for the last layer of a residual branch: the block starts as the identity.

        References:
            Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, section 5.1.
        """
        self.initial_scale = 0.0
        self.reset_parameters()


class PositionNorm2d(nn.LayerNorm):
    """Layer normalisation of each position of a map by itself, over its channels.

    What is normalised sees neither other positions nor other images: where a network may not look to one side, a mean
    over space would.

    Args:
        channels: Channels of the (batch, channels, height, width) map.
        eps: Added to the variance.

    References:
        Ba, Kiros and Hinton, "Layer Normalization", 2016.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        """The map, normalised."""
        last = input.movedim(1, -1)
        return F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


def replace_batch_norm(module: nn.Module) -> None:
    """Swap every ``BatchNorm2d`` below ``module``, in place, for a fresh :class:`LayerNorm2d`."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, LayerNorm2d(child.num_features, eps=child.eps))
        else:
            replace_batch_norm(child)


def has_batch_statistics(module: nn.Module) -> bool:
    """Whether a layer below ``module`` normalises by the batch, so that images of a batch see each other."""
    return any(isinstance(part, BATCH_NORMS) for part in module.modules())


_ELSEWHERE = ("memory_efficient", "grad_checkpointing", "gradient_checkpointing", "distributed")


_KNOWN_CODE = {"torch", "torchvision", "timm", "efficientnet_pytorch", "super_selfish"}
"""Packages whose networks call each norm once, in order, and run again in the backward pass only where they say so."""

LARGE = 1 << 17
"""Pixels of a group from which calling the network on each group takes less time than normalising group by group."""


def in_groups(network: nn.Module, images: Tensor, groups: int) -> Tensor:
    """What a network gives of images, with batch statistics of each group by itself.

    Small groups go through the network at once, and only the normalisation is done group by group: weights are then
    read once. The result is the same.

    Args:
        network: Images to one row each.
        images: (batch, C, H, W).
        groups: How many groups of consecutive images of nearly equal size.

    Returns:
        What the network gives of all images, in their order.

    Examples:
        >>> norm = nn.BatchNorm2d(1)
        >>> images = torch.tensor([0.0, 2.0, 10.0, 12.0]).view(4, 1, 1, 1)
        >>> in_groups(norm, images, 2).flatten().round().tolist()
        [-1.0, 1.0, -1.0, 1.0]
    """
    if groups == 1:
        return network(images)  # type: ignore[no-any-return]
    parts = images.tensor_split(groups)
    if not _is_plain(network) or len(parts[0]) * images.shape[-1] * images.shape[-2] > LARGE:
        return torch.cat([network(part) for part in parts])
    with _norms_in_groups(network, [len(part) for part in parts]):
        return network(images)  # type: ignore[no-any-return]


def _is_plain(network: nn.Module) -> bool:
    """Whether normalising group by group is the same as calling the network on each group.

    Not where layers are run again in the backward pass or copied to other devices, where they average over all batches
    that they have seen, or where they do more than a batch norm; nor for custom modules, whose code is not known.
    """
    for part in network.modules():
        if any(getattr(part, name, False) is True for name in _ELSEWHERE):
            return False
        package, *inner = type(part).__module__.split(".")
        if package not in _KNOWN_CODE or "jit" in inner or any("checkpoint" in name for name in inner):
            return False
        if isinstance(part, BATCH_NORMS) and (part.momentum is None or not is_standard(part)):
            return False
    return len({counter.device for counter in _counters(network)}) < 2


def _counters(network: nn.Module) -> list[Tensor]:
    """How many batches each batch norm has seen."""
    norms = [part for part in network.modules() if isinstance(part, BATCH_NORMS)]
    return [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]


@contextlib.contextmanager
def _norms_in_groups(network: nn.Module, sizes: Sequence[int]) -> Iterator[None]:
    total = sum(sizes)

    def batch_norm(input: Tensor, *given: Any, **named: Any) -> Tensor:
        rows = len(input) // total  # more than one where a network makes several of an image
        parts = torch.split(input, [rows * size for size in sizes])
        return torch.cat([F.batch_norm(part, *given, **named) for part in parts])

    counters = _counters(network)
    before = torch.stack(counters) if counters else torch.zeros(0)
    with BatchNormAs(batch_norm):
        yield
    if counters:
        more = (torch.stack(counters) - before) * (len(sizes) - 1)
        for counter, batches in zip(counters, more.unbind(), strict=True):
            counter.add_(batches)
