"""Collective communication: gather, mean, broadcast and maximum over all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from super_selfish.distributed.group import current


def gather(rows: Tensor) -> Tensor:
    """Gather rows (n, ...) of all ranks as (world · n, ...), in the order of ranks, without gradient."""
    group = current()
    if group.world == 1:
        return rows
    rows = rows.detach().contiguous()
    parts = [torch.empty_like(rows) for _ in range(group.world)]
    with group.monitored():
        dist.all_gather(parts, rows)
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, rows: Tensor) -> Tensor:
        return gather(rows)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        with current().monitored():
            dist.all_reduce(total)
        return own_part(total)


def gather_with_gradient(rows: Tensor) -> Tensor:
    """As :func:`gather`, with gradient: the gradients of all ranks with respect to the rows are summed."""
    return rows if current().world == 1 else cast(Tensor, _Gather.apply(rows))


def own_part(rows: Tensor) -> Tensor:
    """The part of this rank of rows in the order of ranks."""
    group = current()
    return rows.chunk(group.world)[group.rank] if group.world > 1 else rows


@torch.no_grad()
def mean_of_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over all ranks, in place, with one all-reduce for each dtype and device."""
    group = current()
    if group.world == 1:
        return
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for members in groups.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in members])
        with group.monitored():
            dist.all_reduce(flat)
        flat /= group.world
        parts = torch.split(flat, [tensor.numel() for tensor in members])
        for tensor, part in zip(members, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def communication_device(device: torch.device) -> torch.device:
    """Device for the exchange of single numbers: the CPU if gloo is available, otherwise ``device``.

    With GPUs, the exchange by gloo detects a terminated process, which NCCL does not report.
    """
    return torch.device("cpu") if "gloo" in current().backend else device


@torch.no_grad()
def same_everywhere(tensors: Iterable[Tensor]) -> None:
    """Broadcast tensors from rank 0 to all ranks, in place."""
    group = current()
    if group.world == 1:
        return
    for tensor in tensors:
        received = tensor.detach().contiguous()
        with group.monitored():
            dist.broadcast(received, 0)
        tensor.copy_(received)


def largest(value: int) -> int:
    """The maximum of an integer over all ranks."""
    return int(max(gather_objects(value)))


def gather_objects(value: Any) -> list[Any]:
    """Gather small picklable objects of all ranks, in the order of ranks."""
    group = current()
    if group.world == 1:
        return [value]
    parts: list[Any] = [None] * group.world
    with group.monitored():
        dist.all_gather_object(parts, value)
    return parts
