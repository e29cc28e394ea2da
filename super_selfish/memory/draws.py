"""Sampling of negatives from a memory bank, as a function of a random key."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from super_selfish.seeding import make_key, splitmix64

_MULTIPLIERS = (
    -0x61C8864680B583EB,
    -0x40A7B892E31B1A47,
    -0x6B2FB644ECCEEE15,
)  # constants of splitmix64, as signed integers


def distinct_entries(size: int, count: int, key: int) -> Tensor:
    """Sample distinct entries uniformly, at a cost that is independent of the size of the bank.

    Args:
        size: Number of entries in the bank.
        count: Number of entries to sample, at most ``size``.
        key: Random key. The result is a function of it.

    Returns:
        Indices, int64 (count,), on the CPU. Ascending order makes the lookup faster.
    """
    if 2 * count > size:
        order = np.argsort(splitmix64(key, size), kind="stable")
        return torch.from_numpy(np.sort(order[:count]).astype(np.int64))
    draws = count + count // 2 + 16
    while True:
        units = (splitmix64(key, draws) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        entries = (units * size).astype(np.int64)
        first = np.sort(np.unique(entries, return_index=True)[1])[:count]
        if len(first) == count:
            return torch.from_numpy(np.sort(entries[first]))
        draws *= 2


def entries_for_each(size: int, count: int, own: Tensor, key: int) -> Tensor:
    """Sample entries for each anchor, with replacement, excluding its own entry.

    The sample of an anchor is independent of the other anchors in the batch.

    Args:
        size: Number of entries in the bank, from 2 to 2³¹.
        count: Number of entries per anchor.
        own: Indices of the anchors' entries (batch,).
        key: Random key. The result is a function of it and of ``own``.

    Returns:
        Indices, int64 (batch, count), on the device of ``own``.
    """
    start = torch.arange(1, count + 1, device=own.device) * _MULTIPLIERS[0]
    value = (
        own[:, None] * _MULTIPLIERS[2] + make_key(key, "anchors") - (1 << 63)
    ) ^ start  # integer overflow wraps around
    for shift, factor in ((30, _MULTIPLIERS[1]), (27, _MULTIPLIERS[2])):
        value = (value ^ _logical_shift(value, shift)) * factor
    value = _logical_shift(value ^ _logical_shift(value, 31), 33)  # 31 bits remain
    others = (value * (size - 1)) >> 31
    return others + (others >= own[:, None])


def _logical_shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift, which fills with zeros."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
