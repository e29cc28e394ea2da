"""Distributed training: process groups, communication, synchronized batch norm, and launching of processes."""

from super_selfish.distributed.group import Group, current, join, rank, world
from super_selfish.distributed.launching import launch
from super_selfish.distributed.tensors import (
    gather,
    gather_with_gradient,
    mean_of_ranks,
    own_part,
    same_everywhere,
)

__all__ = [
    "Group",
    "current",
    "gather",
    "gather_with_gradient",
    "join",
    "launch",
    "mean_of_ranks",
    "own_part",
    "rank",
    "same_everywhere",
    "world",
]


def __dir__() -> list[str]:
    return sorted(__all__)
