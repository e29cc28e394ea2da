"""How much memory a step will take, and how much there is."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from super_selfish.models.combined import in_eval_mode

logger = logging.getLogger("super_selfish")

SHARE = 0.7
"""Share of the free memory that activations may take."""

TRANSIENT = 1.2
"""Peak of a training step over what autograd keeps: gradients of activations and work space of the convolutions.

Measured: 1.03 for the default backbone with 32 images of 225 px on a CPU (89 MB an image)."""


def available_bytes(device: torch.device) -> int | None:
    """Free memory of a device, in bytes; of the container if that has less; None where nobody tells."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for later
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type != "cpu":
        return None
    old = "memory/memory"  # where the first version of cgroups has it
    found = (
        _meminfo(),
        _cgroup("memory.max", "memory.current", "memory.stat", "inactive_file"),
        _cgroup(f"{old}.limit_in_bytes", f"{old}.usage_in_bytes", f"{old}.stat", "total_inactive_file"),
        _address_space(),
    )
    free = [value for value in found if value is not None]
    return min(free, default=None)


def _meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup(limit: str, usage: str, statistics: str, cache: str) -> int | None:
    """What the container's limit leaves; cached files count as used there, but give way."""
    root = Path("/sys/fs/cgroup")
    try:
        allowed = (root / limit).read_text().strip()
        if allowed == "max":
            return None
        rows = dict(line.split() for line in (root / statistics).read_text().splitlines())
        return max(0, int(allowed) - int((root / usage).read_text()) + int(rows.get(cache, 0)))
    except (OSError, ValueError):
        return None


def _address_space() -> int | None:
    """What ``ulimit -v`` leaves."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        return max(0, limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize())
    except (ImportError, OSError):
        return None


def activation_bytes(network: nn.Module, channels: int, resolution: tuple[int, int]) -> float:
    """Bytes that autograd keeps for the backward pass of one image.

    The network sees a black image, or as many as it needs at once, in eval mode; its modes and statistics are as before
    afterwards.
    """
    parameters = list(network.parameters())
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = parameters[0].device if parameters else torch.device("cpu")
    images = int(getattr(network, "images_at_once", 1))
    black = torch.zeros(images, channels, *resolution, device=device)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with in_eval_mode(network), torch.enable_grad(), hooks:
        output = network(black)
        del output
    return sum(kept.values()) / images


def pieces_that_fit(batch_size: int, image_bytes: float, available: int | None) -> int:
    """In how many micro-batches a batch must be drawn to fit the free memory.

    Args:
        batch_size: Images of the data set an update.
        image_bytes: What autograd keeps for each of them, all views counted.
        available: Free bytes, or None if unknown.
    """
    if available is None or image_bytes <= 0:
        return 1
    fitting = max(1, int(SHARE * available / (TRANSIENT * image_bytes)))
    return -(-batch_size // fitting)
