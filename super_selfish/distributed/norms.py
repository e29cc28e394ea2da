"""Batch norm over the batches of all processes, on any device."""

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
"""Batch norm layers."""

Moments = tuple[Tensor, Tensor, float, int]
"""Mean and variance of each channel, epsilon, and number of values per channel."""


class _Normalise(torch.autograd.Function):
    """Batch norm with statistics of all ranks, whose gradients with respect to the input are included."""

    @staticmethod
    def forward(context: Any, values: Tensor, weight: Tensor, bias: Tensor, moments: Moments) -> Tensor:
        mean, variance, context.eps, context.count = moments
        context.save_for_backward(values, weight, mean, variance)
        return torch.batch_norm(values, weight, bias, mean, variance, False, 0.0, context.eps, False)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        values, weight, mean, variance = context.saved_tensors
        scale = torch.rsqrt(variance + context.eps)
        grad_input, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, values, weight, mean, variance, mean, scale, False, context.eps, [True, True, True]
        )
        total = torch.cat([grad_weight, grad_bias])  # sums of gradient · x̂ and of the gradient over this rank
        with current().monitored():
            dist.all_reduce(total)
        mean_grad_weight, mean_grad_bias = (total / context.count).chunk(2)
        shape = [1, -1] + [1] * (values.ndim - 2)
        slope = -weight * scale * scale * mean_grad_weight
        shift = -weight * scale * mean_grad_bias - slope * mean
        grad_input.addcmul_(values, slope.view(shape)).add_(shift.view(shape))
        return grad_input, grad_weight, grad_bias, None


class BatchNormAs(TorchFunctionMode):
    """Context manager that replaces ``torch.nn.functional.batch_norm`` by another function.

    Modules are not modified, so copies, hooks, state dicts and compiled networks are not affected. In nested contexts,
    the inner function is called; its own calls of ``torch.nn.functional.batch_norm`` call the outer one.

    Args:
        function: Function with the signature of ``torch.nn.functional.batch_norm``.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the replacement for ``batch_norm``, and other functions unchanged."""
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
    """``torch.nn.functional.batch_norm`` with mean and variance over all ranks, whose batches have equal sizes."""
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
    """``torch.nn.functional.batch_norm`` over the batch of this rank, also within :func:`global_norms`."""
    cudnn = torch.backends.cudnn.enabled
    return torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn)


def is_standard(norm: nn.Module) -> bool:
    """Whether a module is a batch norm of torch, or one of timm that is followed by ``drop`` and ``act``."""
    children = {name for name, _ in norm.named_children()}
    return type(norm).forward is nn.BatchNorm2d.forward or (bool(children) and children <= {"drop", "act"})


def moments_of_all(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance of each channel over all ranks, and the number of values per channel."""
    group = current()
    axes = [0, *range(2, values.ndim)]
    count = values.numel() // values.shape[1]
    variance, mean = torch.var_mean(values, axes, correction=0)
    dtype = torch.float64 if values.device.type == "cpu" else values.dtype  # as torch accumulates
    parts = gather(torch.stack([mean, variance])[None].to(dtype))
    mean = parts[:, 0].mean(0)
    variance = (parts[:, 1] + (parts[:, 0] - mean).square()).mean(0)
    return mean.to(values.dtype), variance.to(values.dtype), count * group.world


@contextlib.contextmanager
def global_norms(network: nn.Module) -> Iterator[None]:
    """Context manager: batch norms in training mode use statistics over all ranks.

    Args:
        network: Network whose batch norms are checked first.

    Raises:
        ConfigurationError: If statistics over all ranks are not supported for one of its batch norms.
    """
    if current().world == 1:
        yield
        return
    for part in network.modules():
        if not isinstance(part, BATCH_NORMS) or type(part).forward is nn.SyncBatchNorm.forward:
            continue
        name = type(part).__name__
        # without running statistics, `batch_norm` is called in the same way in training and evaluation
        if not is_standard(part) or part.running_mean is None:
            reason = "has no running statistics" if is_standard(part) else "overrides forward()"
            raise ConfigurationError(
                f"A {name} {reason}, so it cannot be synchronized over processes.",
                expected="batch norms of torch, or of timm followed by an activation, with running statistics",
                received=f"{type(part).__module__}.{type(part).__qualname__}",
                fix="Pass sync_bn=False to normalise the part of each process separately.",
            )
    with BatchNormAs(global_batch_norm):
        yield


@contextlib.contextmanager
def in_turn(network: nn.Module, groups: int) -> Iterator[None]:
    """Context manager: combine the running statistics of all ranks, whose batch norms each process ``groups`` groups.

    Afterwards, running means and variances equal those of a single process that processed all groups in the order of
    the ranks.

    Args:
        network: Network whose batch norms are combined.
        groups: Number of groups that each rank processes within the context.

    Raises:
        ConfigurationError: If a batch norm uses a cumulative average (``momentum=None``).
    """
    norms = [part for part in network.modules() if isinstance(part, BATCH_NORMS) and part.running_mean is not None]
    buffers = [buffer for part in norms for buffer in (part.running_mean, part.running_var) if buffer is not None]
    if any(part.momentum is None for part in norms) and network.training and current().world > 1:
        raise ConfigurationError(
            "Batch norms with cumulative averages are not supported with several processes here.",
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
    decay = torch.cat(
        [torch.full_like(b.reshape(-1), (1 - rate) ** groups) for b, rate in zip(buffers, rates, strict=True)]
    )
    combined = start.clone()
    for of_rank in gather(flat[None]):
        combined = decay * combined + (of_rank - decay * start)
    for buffer, part in zip(buffers, torch.split(combined, [buffer.numel() for buffer in buffers]), strict=True):
        buffer.data.copy_(part.view_as(buffer))  # the backward pass does not use them
    for norm in norms:
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(groups * (current().world - 1))


def each_for_itself() -> BatchNormAs:
    """Context manager: batch norms use statistics of this rank's batch only."""
    return BatchNormAs(own_batch_norm)
