"""Batch norm over the batch of all processes, on any device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from super_selfish.distributed.group import current
from super_selfish.distributed.tensors import gather
from super_selfish.errors import ConfigurationError

_local = False
_BEHIND = ("drop", "act")
Moments = tuple[Tensor, Tensor, float, int]
"""Mean and variance of each channel, what is added to the variance, and how many numbers they are of."""


class _Normalise(torch.autograd.Function):
    """Batch norm by given statistics of all ranks, which follow its input: one pass forward and two back."""

    @staticmethod
    def forward(context: Any, values: Tensor, weight: Tensor, bias: Tensor, moments: Moments) -> Tensor:
        mean, variance, context.eps, context.count = moments
        context.save_for_backward(values, weight, mean, variance)
        return torch.batch_norm(values, weight, bias, mean, variance, False, 0.0, context.eps, False)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        values, weight, mean, variance = context.saved_tensors
        scale = torch.rsqrt(variance + context.eps)
        own, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, values, weight, mean, variance, mean, scale, False, context.eps, [True, True, True]
        )
        total = torch.cat([to_weight, to_bias])  # of gradient · x̂, and of the gradient, over this rank
        with current().watched():
            dist.all_reduce(total)
        by_value, by_one = (total / context.count).chunk(2)
        shape = [1, -1] + [1] * (values.ndim - 2)
        slope = -weight * scale * scale * by_value
        shift = -weight * scale * by_one - slope * mean
        own.addcmul_(values, slope.view(shape)).add_(shift.view(shape))
        return own, to_weight, to_bias, None


class GlobalBatchNorm(_BatchNorm):
    """Normalises by the mean and the variance of all ranks' batches, which are of one size.

    Training networks get this class for the time of a run; outside of it, and in eval mode, they are what they were.
    What timm's have behind the norm (``drop``, ``act``) follows here too.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        """The normalised batch."""
        group = current()
        if group.world == 1 or not self.training or _local:
            return self._behind(super().forward(input))
        values = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        mean, variance, count = moments_of_all(values.detach())
        self._follow(mean, variance * count / max(1, count - 1))
        ones = values.new_ones(values.shape[1])
        weight, bias = (ones, torch.zeros_like(ones)) if self.weight is None else (self.weight, self.bias)
        normalised = cast(Tensor, _Normalise.apply(values, weight, bias, (mean, variance, self.eps, count)))
        return self._behind(normalised.to(input.dtype))

    def _behind(self, normalised: Tensor) -> Tensor:
        for name in _BEHIND:
            behind = self._modules.get(name)
            normalised = normalised if behind is None else behind(normalised)
        return normalised

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        factor = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked or 1)
        self.running_mean.lerp_(mean.to(self.running_mean), factor)
        self.running_var.lerp_(variance.to(self.running_var), factor)


def moments_of_all(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance of each channel over all ranks, and how many numbers that is a channel."""
    group = current()
    axes = [0, *range(2, values.ndim)]
    own = values.numel() // values.shape[1]
    variance, mean = torch.var_mean(values, axes, correction=0)
    sums = torch.float64 if values.device.type == "cpu" else values.dtype  # as exact as torch's own there
    parts = gather(torch.stack([mean, variance])[None].to(sums))
    mean = parts[:, 0].mean(0)
    variance = (parts[:, 1] + (parts[:, 0] - mean).square()).mean(0)
    return mean.to(values.dtype), variance.to(values.dtype), own * group.world


@contextlib.contextmanager
def global_norms(network: nn.Module) -> Iterator[None]:
    """Within the block, the batch norms of a network see the batch of all ranks.

    Raises:
        ConfigurationError: If one of them does more than can be done for it.
    """
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)] if current().world > 1 else []
    before = [type(part) for part in norms]
    for part in norms:
        plain = type(part).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
        if not plain and (not set(_BEHIND) >= set(part._modules) or not part._modules):
            raise ConfigurationError(
                f"A {type(part).__name__} is more than a batch norm, and cannot see the batch of all processes.",
                expected="torch's batch norms, or timm's with an activation behind",
                received=f"{type(part).__module__}.{type(part).__qualname__}",
                fix="sync_bn=False lets each process normalise its own part of a batch.",
            )
    for part in norms:
        if not isinstance(part, nn.SyncBatchNorm):
            part.__class__ = GlobalBatchNorm
    try:
        yield
    finally:
        for part, kind in zip(norms, before, strict=True):
            part.__class__ = kind


@contextlib.contextmanager
def in_turn(network: nn.Module, groups: int) -> Iterator[None]:
    """Within the block, in which each rank's batch norms see that many groups of its own, averages follow all ranks'.

    Afterwards running means and variances are what one process would have that saw all groups, rank after rank.
    """
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    buffers = [buffer for part in norms for buffer in (part.running_mean, part.running_var) if buffer is not None]
    before = [buffer.clone() for buffer in buffers]
    yield
    if not network.training or not buffers:
        return
    flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
    start = torch.cat([buffer.reshape(-1) for buffer in before])
    rates = [part.momentum if part.momentum is not None else 0.1 for part in norms for _ in range(2)]
    kept = torch.cat(
        [torch.full_like(b.reshape(-1), (1 - rate) ** groups) for b, rate in zip(buffers, rates, strict=True)]
    )
    together = start.clone()
    for own in gather(flat[None]):
        together = kept * together + (own - kept * start)
    for buffer, part in zip(buffers, torch.split(together, [buffer.numel() for buffer in buffers]), strict=True):
        buffer.data.copy_(part.view_as(buffer))  # the backward pass does not use them
    for norm in norms:
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(groups * (current().world - 1))


@contextlib.contextmanager
def each_for_itself() -> Iterator[None]:
    """Within the block, batch norms see the own rank's batch alone."""
    global _local
    before, _local = _local, True
    try:
        yield
    finally:
        _local = before
