"""Device placement: whether the user placed networks on a device, and on which device they are trained."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from typing_extensions import Self

from super_selfish.errors import ConfigurationError
from super_selfish.suggestions import did_you_mean


class Placed(nn.Module):
    """A module that records whether the user moved it to a device.

    Attributes:
        placed: Whether ``to(device)``, ``cpu()``, ``cuda()`` or ``to_empty()`` was called. A change of only the dtype
            or the memory format does not count.
    """

    placed: bool = False

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move and cast parameters and buffers, as ``nn.Module.to`` does, and record the placement."""
        moved = super().to(*args, **kwargs)
        self.placed = self.placed or names_device(*args, **kwargs)
        return moved

    def cpu(self) -> Self:
        """Move parameters and buffers to the CPU, and record the placement."""
        moved = super().cpu()
        self.placed = True
        return moved

    def cuda(self, device: int | torch.device | None = None) -> Self:
        """Move parameters and buffers to a GPU, and record the placement."""
        moved = super().cuda(device)
        self.placed = True
        return moved

    def to_empty(self, *, device: str | int | torch.device | None, recurse: bool = True) -> Self:
        """Allocate parameters and buffers on a device without values, and record the placement."""
        moved = super().to_empty(device=device, recurse=recurse)
        self.placed = True
        return moved


def names_device(*args: Any, **kwargs: Any) -> bool:
    """Whether arguments of ``nn.Module.to`` name a device, directly or by a tensor.

    Examples:
        >>> names_device("cpu"), names_device(device="cpu"), names_device(torch.zeros(1))
        (True, True, True)
        >>> names_device(torch.float64), names_device(dtype=torch.float64), names_device(None, torch.float64)
        (False, False, False)
    """
    first = args[0] if args else kwargs.get("device", kwargs.get("tensor"))
    return first is not None and not isinstance(first, torch.dtype)


def mark_placed(module: nn.Module) -> None:
    """Mark a network as placed, because the module that it was taken from was placed."""
    object.__setattr__(module, "placed", True)


def was_placed(module: nn.Module) -> bool:
    """Whether the user moved the module or one of its submodules to a device."""
    return any(vars(part).get("placed") is True for part in module.modules())


def training_device(
    present: Collection[torch.device], *, placed: bool, gpu: torch.device | None
) -> torch.device | None:
    """The device to move networks to before training; None: do not move them.

    Networks on the CPU are moved to the GPU, unless the user placed them. If parts are on an accelerator and on the
    CPU, all are moved to the accelerator. A model on several accelerators is not moved.

    Args:
        present: Devices of the parameters.
        placed: Whether the user moved the networks to a device.
        gpu: The available GPU; None without one.

    Examples:
        >>> cpu, cuda = torch.device("cpu"), torch.device("cuda")
        >>> training_device({cpu}, placed=False, gpu=cuda)
        device(type='cuda')
        >>> training_device({cpu}, placed=True, gpu=cuda)
    """
    accelerators = {device for device in present if device.type != "cpu"}
    if len(accelerators) == 1 and len(set(present)) > 1:
        return accelerators.pop()
    if accelerators or placed or not present:
        return None
    return gpu


def available_gpu() -> torch.device | None:
    """The current CUDA device; None without one, or if the process group uses gloo, which means training on the CPU."""
    if not torch.cuda.is_available():
        return None
    if dist.is_available() and dist.is_initialized() and dist.get_backend() == "gloo":
        return None
    return torch.device("cuda")


def device_by_name(name: str) -> torch.device:
    """The device of a name; ``"auto"``: a GPU if there is one.

    Raises:
        ConfigurationError: If the name is unknown, or torch has no such device on this machine.

    Examples:
        >>> device_by_name("cpu")
        device(type='cpu')
    """
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        return torch.device("cuda" if counts["cuda"] else "cpu")
    known = re.fullmatch(r"(cpu|cuda|mps)(?::(\d+))?", name)
    if known is None or int(known[2] or 0) >= counts[known[1]]:
        available = [kind for kind, count in counts.items() if count]
        meant = did_you_mean(name, list(counts)) if known is None else None
        raise ConfigurationError(
            f"The device {'is unknown' if known is None else 'is not available to torch on this machine'}.",
            expected=" or ".join([*available, "auto"]),
            received=f"device={name!r}",
            fix=meant if meant and any(repr(kind) in meant for kind in available) else None,
        )
    return torch.device(name)


def device_for_training(module: nn.Module) -> torch.device | None:
    """The device to move a module to before training; None: do not move it."""
    present = {parameter.device for parameter in module.parameters()}
    return training_device(present, placed=was_placed(module), gpu=available_gpu())
