"""Which rows of a bank are negatives: draws that are functions of a key."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from super_selfish.seeding import make_key, splitmix64

_MULTIPLIERS = (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # of splitmix64, as signed numbers


def distinct_entries(size: int, count: int, key: int) -> Tensor:
    """Different rows, each set of them equally likely, at a cost that does not grow with the size.

    Args:
        size: Rows that there are.
        count: Rows that are drawn, at most ``size``.
        key: The draw is a function of it.

    Returns:
        int64 (count,), on the CPU, in ascending order: they are found faster so.
    """
    if 2 * count > size:
        order = np.argsort(splitmix64(key, size), kind="stable")
        return torch.from_numpy(np.sort(order[:count]).astype(np.int64))
    draws = count + count // 2 + 16
    while True:
        units = (splitmix64(key, draws) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        rows = (units * size).astype(np.int64)
        first = np.sort(np.unique(rows, return_index=True)[1])[:count]
        if len(first) == count:
            return torch.from_numpy(np.sort(rows[first]))
        draws *= 2


def entries_for_each(size: int, count: int, own: Tensor, key: int) -> Tensor:
    """Rows for each anchor, with replacement and without its own; what an anchor gets does not depend on the others.

    Args:
        size: Rows that there are, from 2 to 2³¹.
        count: Rows for each anchor.
        own: The anchors' own rows (batch,).
        key: The draw is a function of it and of the own row.

    Returns:
        int64 (batch, count), where ``own`` is.
    """
    start = torch.arange(1, count + 1, device=own.device) * _MULTIPLIERS[0]
    value = (own[:, None] * _MULTIPLIERS[2] + make_key(key, "anchors") - (1 << 63)) ^ start  # overflow wraps
    for shift, factor in ((30, _MULTIPLIERS[1]), (27, _MULTIPLIERS[2])):
        value = (value ^ _shifted(value, shift)) * factor
    value = _shifted(value ^ _shifted(value, 31), 33)  # 31 bits are left
    others = (value * (size - 1)) >> 31
    return others + (others >= own[:, None])


def _shifted(value: Tensor, bits: int) -> Tensor:
    """A shift to the right that fills up with zeros, as that of unsigned numbers."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
