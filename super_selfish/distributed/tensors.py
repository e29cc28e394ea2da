"""What processes exchange: rows in the order of ranks, means, and what has to be the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from super_selfish.distributed.group import current


def gather(rows: Tensor) -> Tensor:
    """The rows of all ranks (world · n, ...), in their order, without gradient; each has as many."""
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
    """As :func:`gather`; the gradient of a rank's rows is the sum of what all ranks made of them."""
    return rows if current().world == 1 else cast(Tensor, _Gather.apply(rows))


def own_part(rows: Tensor) -> Tensor:
    """Of rows in the order of ranks, those of this one."""
    group = current()
    return rows.chunk(group.world)[group.rank] if group.world > 1 else rows


@torch.no_grad()
def mean_of_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over the ranks, in one exchange for each type and device."""
    group = current()
    if group.world == 1:
        return
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for members in kinds.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in members])
        with group.monitored():
            dist.all_reduce(flat)
        flat /= group.world
        parts = torch.split(flat, [tensor.numel() for tensor in members])
        for tensor, part in zip(members, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def communication_device(device: torch.device) -> torch.device:
    """Where a number lies that the processes tell each other: in main memory, if gloo carries it from there.

    Between GPUs it goes first so, and a process that is gone is noticed: NCCL would not say.
    """
    return torch.device("cpu") if "gloo" in current().backend else device


@torch.no_grad()
def same_everywhere(tensors: Iterable[Tensor]) -> None:
    """Give all ranks the first one's tensors."""
    group = current()
    if group.world == 1:
        return
    for tensor in tensors:
        held = tensor.detach().contiguous()
        with group.monitored():
            dist.broadcast(held, 0)
        tensor.copy_(held)


def largest(value: int) -> int:
    """The largest of the ranks' numbers."""
    return int(max(gather_objects(value)))


def gather_objects(value: Any) -> list[Any]:
    """What each rank has, in their order: anything that can be pickled, small."""
    group = current()
    if group.world == 1:
        return [value]
    parts: list[Any] = [None] * group.world
    with group.monitored():
        dist.all_gather_object(parts, value)
    return parts
