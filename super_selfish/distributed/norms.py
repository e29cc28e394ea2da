"""Batch norm over the batch of all processes, on any device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from super_selfish.distributed.group import current
from super_selfish.distributed.tensors import gather
from super_selfish.errors import ConfigurationError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Layers that normalise by the statistics of the batch, and those derived from them."""

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
        with current().monitored():
            dist.all_reduce(total)
        by_value, by_one = (total / context.count).chunk(2)
        shape = [1, -1] + [1] * (values.ndim - 2)
        slope = -weight * scale * scale * by_value
        shift = -weight * scale * by_one - slope * mean
        own.addcmul_(values, slope.view(shape)).add_(shift.view(shape))
        return own, to_weight, to_bias, None


class BatchNormAs(TorchFunctionMode):
    """Within the block, another function takes the place of ``torch.nn.functional.batch_norm``.

    No module is touched, so copies, hooks, state dicts and compiled networks are not affected. In nested blocks, the
    inner function is called; its own calls of ``torch.nn.functional.batch_norm`` go to the outer one.

    Args:
        function: Has the signature of ``torch.nn.functional.batch_norm``.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, or what was to be called."""
        return (self.function if func is F.batch_norm else func)(*args, **(kwargs or {}))


def global_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``torch.nn.functional.batch_norm`` by the mean and variance of all ranks' batches, which are of one size."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    values = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
    mean, variance, count = moments_of_all(values.detach())
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((variance * count / max(1, count - 1)).to(running_var), momentum)
    ones = values.new_ones(values.shape[1])
    weight, bias = (ones, torch.zeros_like(ones)) if weight is None or bias is None else (weight, bias)
    return cast(Tensor, _Normalise.apply(values, weight, bias, (mean, variance, eps, count))).to(input.dtype)


def own_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``torch.nn.functional.batch_norm`` of the own rank's batch, also within :func:`global_norms`."""
    cudnn = torch.backends.cudnn.enabled
    return torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn)


def is_standard(norm: nn.Module) -> bool:
    """Whether a batch norm is torch's, or one of timm's with ``drop`` and ``act`` behind it."""
    behind = {name for name, _ in norm.named_children()}
    return type(norm).forward is nn.BatchNorm2d.forward or (bool(behind) and behind <= {"drop", "act"})


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
    """Within the block, batch norms in training see the batch of all ranks.

    Args:
        network: Its batch norms are checked first.

    Raises:
        ConfigurationError: If one of them cannot see the batch of all ranks.
    """
    if current().world == 1:
        yield
        return
    for part in network.modules():
        if not isinstance(part, BATCH_NORMS) or type(part).forward is nn.SyncBatchNorm.forward:
            continue
        name = type(part).__name__
        # in evaluation, `batch_norm` is called as in training where there are no running statistics
        if not is_standard(part) or part.running_mean is None:
            more = "keeps no running statistics" if is_standard(part) else "is more than a batch norm"
            raise ConfigurationError(
                f"A {name} {more}, and cannot see the batch of all processes.",
                expected="torch's batch norms, or timm's with an activation behind, with running statistics",
                received=f"{type(part).__module__}.{type(part).__qualname__}",
                fix="sync_bn=False lets each process normalise its own part of a batch.",
            )
    with BatchNormAs(global_batch_norm):
        yield


@contextlib.contextmanager
def in_turn(network: nn.Module, groups: int) -> Iterator[None]:
    """Within the block, in which each rank's batch norms see that many groups of its own, averages follow all ranks'.

    Afterwards running means and variances are what one process would have that saw all groups, rank after rank.

    Raises:
        ConfigurationError: If an average is cumulative, whose weights depend on how many batches it has seen.
    """
    norms = [part for part in network.modules() if isinstance(part, BATCH_NORMS) and part.running_mean is not None]
    buffers = [buffer for part in norms for buffer in (part.running_mean, part.running_var) if buffer is not None]
    if any(part.momentum is None for part in norms) and network.training and current().world > 1:
        raise ConfigurationError(
            "Batch norms with cumulative averages cannot be shared by several processes here.",
            expected="batch norms with a momentum, such as 0.1",
            received="momentum=None",
        )
    before = [buffer.clone() for buffer in buffers]
    yield
    if not network.training or not buffers:
        return
    flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
    start = torch.cat([buffer.reshape(-1) for buffer in before])
    rates = [part.momentum or 0.0 for part in norms for _ in range(2)]
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


def each_for_itself() -> BatchNormAs:
    """A context in which batch norms see the own rank's batch alone."""
    return BatchNormAs(own_batch_norm)
