"""Distributed training: all processes take the same steps; only the first writes files and logs."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from super_selfish.distributed import Group, current, join, rank, world
from super_selfish.distributed.placement import device_for_training
from super_selfish.distributed.tensors import gather_objects
from super_selfish.engine.callbacks.displays import print_line
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.optim.optimizers import parameters_of
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.loading.main_guard import check_main_guard
from super_selfish.storage.checkpoint import StoredCheckpoint
from super_selfish.storage.lock import RunLock

logger = logging.getLogger("super_selfish")


def join_processes(supervisor: SupervisorBase) -> tuple[Group, torch.device | None]:
    """Join the process group, if there is one, and move the networks to the device for training.

    In distributed training, each process uses its own GPU.

    Returns:
        The group, and the GPU if it was selected automatically: the networks were on the CPU and never moved.

    Raises:
        ConfigurationError: If there are more processes than GPUs, or a worker process imports the script.
        ProcessLost: If other processes do not join.
    """
    check_main_guard()
    device = device_for_training(supervisor)
    chosen = device is not None and {parameter.device.type for parameter in supervisor.parameters()} == {"cpu"}
    on_gpu = (supervisor.device if device is None else device).type == "cuda"
    group = join(on_gpu)
    if group.world > 1 and on_gpu:
        if group.local_rank >= torch.cuda.device_count():
            raise ConfigurationError(
                f"There is no GPU for process {group.local_rank} of this machine.",
                expected=f"at most {torch.cuda.device_count()} processes per machine",
                received=f"LOCAL_RANK={group.local_rank}",
                fix='Start one process per GPU (torchrun --nproc-per-node), or train on the CPU: supervisor.to("cpu").',
            )
        torch.cuda.set_device(group.local_rank)
        device = torch.device("cuda", group.local_rank)
    if device is not None:
        supervisor.to(device)
    return group, supervisor.device if chosen else None


def log_device(device: torch.device | None, verbose: bool) -> None:
    """Log the GPU that was selected automatically; None: no log."""
    if device is None:
        return
    message = f'Training on {device}, selected automatically. To train on the CPU, call .to("cpu") first.'
    if verbose:
        print_line(message)
    else:
        logger.info(message)


def local_settings(settings: Settings) -> Settings:
    """Return the settings of this process: only the first writes files and logs."""
    return settings if current().is_first else dataclasses.replace(settings, verbose=False, checkpoint_every=0)


class Heartbeat(Callback):
    """Renews the lock between steps, so that other machines see that training is running."""

    def __init__(self, lock: RunLock) -> None:
        self.lock = lock

    def on_step_end(self, run: RunView) -> None:  # noqa: ARG002 - signature of callbacks
        """Renew the lock if it is due."""
        self.lock.heartbeat()


@contextlib.contextmanager
def training_lock(base: Path) -> Iterator[Callback]:
    """Lock the files of a training; the first process holds the lock for all."""
    if rank():
        yield Callback()
        return
    with RunLock(base) as lock:
        yield Heartbeat(lock)


def check_same_step(found: StoredCheckpoint | None) -> None:
    """Check that all processes resume from the same checkpoint.

    Raises:
        CheckpointMismatch: If they find different files.
    """
    steps = gather_objects(None if found is None else found.step)
    if len(set(steps)) > 1:
        raise CheckpointMismatch(
            "The processes do not find the same checkpoint.",
            expected="a folder that all machines share",
            received=", ".join(f"rank {number}: step {step}" for number, step in enumerate(steps)),
            fix="Pass a `name` in a folder that all machines share.",
        )


def check_same_settings(settings: Mapping[str, Any]) -> None:
    """Check that all processes have the same settings, networks and images, before other communication.

    Args:
        settings: Settings of this process.

    Raises:
        ConfigurationError: If they differ; the message names the setting.
    """
    everywhere = gather_objects(dict(settings))
    for key in dict.fromkeys(key for other in everywhere for key in other):
        values = [other.get(key) for other in everywhere]
        if any(value != values[0] for value in values):
            raise ConfigurationError(
                f"The processes have different settings: `{key}` differs.",
                expected="one script with the same settings, and one data set that all machines see",
                received=", ".join(f"rank {number}: {value}" for number, value in enumerate(values)),
            )


def tensors_in_order(state: Mapping[str, Any]) -> dict[str, str]:
    """Describe the tensors of a ``state_dict(keep_vars=True)`` by place: name, shape, and whether they are trained."""
    tensors = [(name, value) for name, value in state.items() if isinstance(value, torch.Tensor)]
    return {
        f"tensor {place}": f"{name} {tuple(value.shape)}{' trained' if value.requires_grad else ''}"
        for place, (name, value) in enumerate(tensors)
    }


def check_same_parameters(supervisor: SupervisorBase, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Check that the optimizers of all processes have the same parameters in the same order.

    Gradients are averaged in this order, so another order would mix those of different parameters.

    Args:
        supervisor: The supervisor that is trained.
        optimizers: The optimizers of this process.

    Raises:
        ConfigurationError: If they differ; the message names the parameters.
    """
    if world() > 1:
        names = {id(weight): name for name, weight in supervisor.named_parameters()}
        parameters = [weight for each in optimizers for weight in parameters_of(each)]
        check_same_settings(
            {
                f"parameter {place} of the optimizer": names.get(id(weight), f"tensor of shape {tuple(weight.shape)}")
                for place, weight in enumerate(parameters)
            }
        )


def barrier() -> None:
    """Wait for all processes, so that none deletes or reads files that another one is using."""
    current().allow_startup_time()
    gather_objects(None)


def merge_skipped(skipped: dict[int, str]) -> dict[int, str]:
    """Merge the skipped images of all processes, with the reasons."""
    return {index: reason for part in gather_objects(skipped) for index, reason in part.items()}
