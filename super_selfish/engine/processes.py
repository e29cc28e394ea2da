"""Training by several processes: only the first writes files and logs, and all take the same steps."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from super_selfish.distributed import Group, current, join, rank
from super_selfish.distributed.placement import device_for_training
from super_selfish.distributed.tensors import gather_objects
from super_selfish.engine.callbacks.progress import print_line
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.engine.core.settings import Settings
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.storage.checkpoint import StoredCheckpoint
from super_selfish.storage.lock import RunLock

logger = logging.getLogger("super_selfish")


def join_processes(supervisor: SupervisorBase) -> tuple[Group, torch.device | None]:
    """Join the other processes, if there are any, and move the networks to the device that they are trained on.

    Each of several processes uses its own GPU.

    Returns:
        The group, and the GPU if the library chose it: the networks were on the CPU, and the user never moved them.

    Raises:
        ConfigurationError: If there are more processes than GPUs.
        ProcessLost: If the others do not join.
    """
    device = device_for_training(supervisor)
    chosen = device is not None and {parameter.device.type for parameter in supervisor.parameters()} == {"cpu"}
    on_gpu = (supervisor.device if device is None else device).type == "cuda"
    group = join(on_gpu)
    if group.world > 1 and on_gpu:
        if group.local_rank >= torch.cuda.device_count():
            raise ConfigurationError(
                f"Process {group.local_rank} of this machine has no GPU.",
                expected=f"at most {torch.cuda.device_count()} processes a machine",
                received=f"LOCAL_RANK={group.local_rank}",
                fix='Start one process per GPU (torchrun --nproc-per-node), or train on the CPU: supervisor.to("cpu").',
            )
        torch.cuda.set_device(group.local_rank)
        device = torch.device("cuda", group.local_rank)
    if device is not None:
        supervisor.to(device)
    return group, supervisor.device if chosen else None


def log_device(device: torch.device | None, verbose: bool) -> None:
    """Log the GPU that was chosen for a training; None: it was not chosen here."""
    if device is None:
        return
    message = f'Training on {device}, a GPU that was found. To train on the CPU, call .to("cpu") first.'
    if verbose:
        print_line(message)
    else:
        logger.info(message)


def local_settings(settings: Settings) -> Settings:
    """The settings of this process: only the first writes files and logs."""
    return settings if current().is_first else dataclasses.replace(settings, verbose=False, checkpoint_every=0)


class Heartbeat(Callback):
    """Shows other computers between steps that the training is alive."""

    def __init__(self, lock: RunLock) -> None:
        self.lock = lock

    def on_step_end(self, run: RunView) -> None:  # noqa: ARG002 - the protocol's
        """Give a heartbeat if it is time."""
        self.lock.heartbeat()


@contextlib.contextmanager
def training_lock(base: Path) -> Iterator[Callback]:
    """The lock on the files of a training, which the first process holds for all."""
    if rank():
        yield Callback()
        return
    with RunLock(base) as lock:
        yield Heartbeat(lock)


def check_same_step(found: StoredCheckpoint | None) -> None:
    """Make sure that all processes continue from the same checkpoint.

    Raises:
        CheckpointMismatch: If they do not see the same files.
    """
    steps = gather_objects(None if found is None else found.step)
    if len(set(steps)) > 1:
        raise CheckpointMismatch(
            "The processes do not find the same checkpoint.",
            expected="a folder that all machines share",
            received=", ".join(f"rank {number}: step {step}" for number, step in enumerate(steps)),
            fix="Pass a `name` in such a folder.",
        )


def check_same_settings(settings: Mapping[str, Any]) -> None:
    """Make sure that all processes have the same settings, networks and images, before anything else is exchanged.

    Args:
        settings: Of this process.

    Raises:
        ConfigurationError: With what differs.
    """
    everywhere = gather_objects(dict(settings))
    for key in settings:
        values = [other.get(key) for other in everywhere]
        if any(value != values[0] for value in values):
            raise ConfigurationError(
                f"The processes do not train the same: `{key}` differs.",
                expected="one script with the same settings, and one data set that all machines see",
                received=", ".join(f"rank {number}: {value}" for number, value in enumerate(values)),
            )


def barrier() -> None:
    """Wait for each other: none may tidy up what another still reads, or read what the first still writes."""
    current().allow_startup_time()
    gather_objects(None)


def merge_skipped(skipped: dict[int, str]) -> dict[int, str]:
    """The images that any of the processes has skipped, with the reasons."""
    return {index: reason for part in gather_objects(skipped) for index, reason in part.items()}
