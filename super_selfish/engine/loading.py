"""Division of batches among processes and into micro-batches that fit in memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from super_selfish.distributed import world
from super_selfish.distributed.tensors import largest
from super_selfish.engine.loop.memory import TRANSIENT, available_bytes, micro_batches_that_fit
from super_selfish.errors import ConfigurationError
from super_selfish.loading.collate import Collate, batched_collate
from super_selfish.pretext.base import PretextDataset, first_items

logger = logging.getLogger("super_selfish")


def micro_batches(batch_size: int, wanted: int, image_bytes: float, device: torch.device, splittable: bool) -> int:
    """Return the number of micro-batches per batch: as requested, or more if the batch does not fit in memory.

    Args:
        batch_size: Images per step, of all processes.
        wanted: Number requested by ``accumulate``.
        image_bytes: Bytes that autograd saves per image; 0: unknown.
        device: Device of the networks.
        splittable: Whether batches can be split; also assumed if more than one micro-batch is requested.

    Raises:
        ConfigurationError: If the batch cannot be divided among the processes.
    """
    # each process has its own GPU; processes on CPUs are assumed to share memory
    seen = batch_size // world() if device.type == "cuda" else batch_size
    needed = largest(_micro_batches_for_memory(seen, image_bytes, available_bytes(device), splittable or wanted > 1))
    if wanted < needed and world() > 1 and batch_size % world() == 0:
        own = batch_size // world()
        needed = next(count for count in range(min(needed, own), own + 1) if own % count == 0)
    count = min(batch_size, max(wanted, needed))
    check_shares(batch_size, count, world())
    return count


def _micro_batches_for_memory(batch_size: int, image_bytes: float, available: int | None, splittable: bool) -> int:
    """Return the number of micro-batches for which a batch fits in memory; warns if it is more than one."""
    count = micro_batches_that_fit(batch_size, image_bytes, available)
    if count == 1 or available is None:
        return 1
    total = TRANSIENT * image_bytes * batch_size
    needed = f"A batch of {batch_size} needs about {total / 1e9:.1f} GB of {available / 1e9:.1f} GB free"
    if not splittable:
        logger.warning("%s, and may not fit. Lower batch_size.", needed)
        return 1
    logger.warning(
        "%s: it is split into %d micro-batches of at most %d, whose gradients add up. Batch norm sees each alone.",
        needed,
        count,
        -(-batch_size // count),
    )
    return count


def check_shares(batch_size: int, count: int, processes: int) -> None:
    """Check that batches divide evenly among processes and micro-batches.

    Raises:
        ConfigurationError: If they do not.
    """
    parts = processes * count
    if processes > 1 and batch_size % parts:
        raise ConfigurationError(
            f"A batch of {batch_size} cannot be divided among {processes} processes"
            + (f" with {count} micro-batches each." if count > 1 else "."),
            expected=f"a batch_size that is a multiple of {parts}: it counts the images of all processes together",
            received=f"batch_size={batch_size}",
            fix=f"For instance batch_size={max(1, batch_size // parts) * parts}.",
        )


def check_accumulate(wanted: int, *, custom: bool, decomposable: bool) -> None:
    """Check that batches can be split into micro-batches.

    Args:
        wanted: Number of micro-batches requested by ``accumulate``.
        custom: Whether ``_epochs`` or ``_update`` is overridden.
        decomposable: Whether the loss of a batch is the mean of the losses of its parts.

    Raises:
        ConfigurationError: If they cannot.
    """
    if custom:
        raise ConfigurationError(
            "`accumulate` needs the library's own `_epochs` and `_update`.",
            received=f"accumulate={wanted}, and an override of one of them",
            fix="Accumulate the gradients of several batches in the override.",
        )
    if not decomposable:
        raise ConfigurationError(
            "`accumulate` would change the loss: the images of a batch are each other's negatives.",
            received=f"accumulate={wanted}",
            fix="Lower `batch_size`, or train with a queue.",
        )


def resolve_collate_fn(dataset: Any, collate_fn: Collate | None) -> Collate | None:
    """Return a custom ``collate_fn``; None if the default of the data set is used.

    ``batched_collate`` is the default of algorithms whose items are small batches. Custom data sets may have single
    images as items, which are stacked.
    """
    if collate_fn is batched_collate and (isinstance(dataset, PretextDataset) or _has_single_images(dataset)):
        return None
    return collate_fn


def _has_single_images(dataset: Any) -> bool:
    sizes = {np.ndim(part) for item in first_items(dataset) for part in _leaves(item)}
    return 3 in sizes and max(sizes) == 3


def _leaves(item: Any) -> list[Any]:
    """The arrays and tensors in nested tuples and dictionaries."""
    parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, tuple) else None
    if parts is not None:
        return [leaf for part in parts for leaf in _leaves(part)]
    return [item] if isinstance(item, Tensor | np.ndarray) else []
