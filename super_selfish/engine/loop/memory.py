"""Memory needed by a training step, free memory, and out-of-memory errors."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from super_selfish.engine.loop.run import Run
from super_selfish.errors import OutOfMemory, SuperSelfishError
from super_selfish.models.combined import in_eval_mode

logger = logging.getLogger("super_selfish")

_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")

SHARE = 0.7
"""Fraction of the free memory that activations may take."""

TRANSIENT = 1.2
"""Peak memory of a training step divided by the memory of saved activations.

The rest is gradients of activations and convolution workspace. Measured: 1.03 for the default backbone with 32 images
of 225 px on a CPU (89 MB per image)."""


def available_bytes(device: torch.device) -> int | None:
    """Free memory of a device in bytes, at most that of the container; None: unknown."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # cached by torch
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type != "cpu":
        return None
    old = "memory/memory"  # path in cgroups v1
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
    """Free memory in the limit of the container. File caches count as free, since they can be dropped."""
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
    """Free address space in the limit of ``ulimit -v``."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        return max(0, limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize())
    except (ImportError, OSError):
        return None


def activation_bytes(network: nn.Module, channels: int, resolution: tuple[int, int]) -> float:
    """Size of the tensors that autograd saves for the backward pass of one image, in bytes.

    The network is called in eval mode on a black image, or on the minimum number of images that it accepts. Modes and
    batch statistics do not change.
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


def bytes_per_image(network: nn.Module, channels: int, resolution: Sequence[int]) -> float:
    """Like :func:`activation_bytes`; 0 if it cannot be measured."""
    try:
        return activation_bytes(network, channels, (resolution[0], resolution[1]))
    except Exception:  # the network may take other inputs than images
        logger.debug("The memory of a step cannot be estimated.", exc_info=True)
        return 0.0


def micro_batches_that_fit(batch_size: int, image_bytes: float, available: int | None) -> int:
    """Number of micro-batches for which a batch fits in the free memory.

    Args:
        batch_size: Images of the data set per step.
        image_bytes: Bytes that autograd saves per image, including all views.
        available: Free bytes, or None if unknown.
    """
    if available is None or image_bytes <= 0:
        return 1
    fitting = max(1, int(SHARE * available / (TRANSIENT * image_bytes)))
    return -(-batch_size // fitting)


@contextlib.contextmanager
def explained_memory_errors(
    run: Run, device: torch.device, resolution: tuple[int, int], splittable: bool
) -> Iterator[None]:
    """Context manager: out-of-memory errors name the settings that need less memory.

    Args:
        run: The run.
        device: Device of the networks.
        resolution: (height, width) of the images, in px.
        splittable: Whether batches can be split into micro-batches.

    Raises:
        OutOfMemory: Instead of the errors of torch and numpy.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, SuperSelfishError) or not is_out_of_memory(error):
            raise
        size, micro_batches = run.loader.batch_size, run.loader.micro_batches
        fix = f"Lower `batch_size` (now {size}) or `resolution` (now {resolution})"
        if splittable and micro_batches < size:
            fix = f"Set accumulate={2 * micro_batches} (batch norm then sees each micro-batch alone). {fix}"
        if device.type == "cuda" and run.precision.dtype is None:
            fix += ', or set precision="bf16"'
        parts = f"in {micro_batches} micro-batches" if micro_batches > 1 else "at once"
        raise OutOfMemory(
            f"Step {run.train_state.step + 1} does not fit in the memory of `{device}`.",
            received=f"{size} images {parts}: {str(error).strip().splitlines()[0] if str(error) else 'MemoryError'}",
            fix=f"{fix}.",
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an out-of-memory error."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(error) for words in _MEMORY_WORDS
    )
