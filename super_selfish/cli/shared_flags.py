"""Flags that several commands share, each declared once. A group of them is one argument of a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from super_selfish.errors import check_argument

if TYPE_CHECKING:
    from super_selfish.supervisors import Supervisor

OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class BackboneFlag:
    """The custom backbone of a training.

    Attributes:
        backbone_from: Custom backbone of the training: module:function, a function that returns the network.
    """

    backbone_from: str | None = None


@dataclass(frozen=True)
class DeviceFlag:
    """Where networks compute.

    Attributes:
        device: Device: cpu, cuda, cuda:1 ...; auto: a GPU if available.
    """

    device: str = "auto"


@dataclass(frozen=True)
class NetworkFlags(DeviceFlag, BackboneFlag):
    """How the network of a training is loaded."""

    def load(self, name: str) -> Supervisor:
        """Load a training on the device.

        Args:
            name: Name of the training.

        Raises:
            ConfigurationError: If the device is not available, or the backbone cannot be built.
            CheckpointError: If there is no such training.
        """
        from super_selfish.cli.backbone_from import with_backbone
        from super_selfish.distributed.placement import device_by_name
        from super_selfish.saved import load

        device = device_by_name(self.device)
        return load(name, **with_backbone(self.backbone_from, {})).to(device)


@dataclass(frozen=True)
class TrialFlags(DeviceFlag):
    """How the short trainings of a comparison or a study are made.

    Attributes:
        resolution: Side of the images in px. Default: that of the images, at most 64; lowered if the budget is short.
        batch_size: Number of images per update.
        seed: Random seed.
        num_workers: Number of data-loading worker processes.
    """

    resolution: int | None = None
    batch_size: int = 64
    seed: int = 0
    num_workers: int = 0


@dataclass(frozen=True)
class ReadingFlags:
    """How images are read.

    Attributes:
        batch_size: Number of images per batch.
        num_workers: Number of data-loading worker processes.
        on_error: At an unreadable image, raise stops with an error, and skip leaves the image out; it has no row then.
    """

    batch_size: int = 64
    num_workers: int = 0
    on_error: OnError = "raise"

    def check(self) -> None:
        """Check the numbers.

        Raises:
            ConfigurationError: If one is out of range.
        """
        check_argument(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        check_argument(self.num_workers >= 0, "num_workers", self.num_workers, "at least 0")
