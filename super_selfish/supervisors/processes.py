"""What ``supervise`` does where several processes train together: one writes and speaks, all go in step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from super_selfish.distributed import Group, current, join, rank
from super_selfish.distributed.tensors import all_of
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.training.callbacks import Callback
from super_selfish.training.checkpoint import StoredCheckpoint
from super_selfish.training.lock import RunLock
from super_selfish.training.settings import Settings

if TYPE_CHECKING:
    from super_selfish.supervisors.base import Supervisor


def take_part(supervisor: Supervisor) -> Group:
    """Join the other processes, if there are any, each on its own GPU.

    Raises:
        ConfigurationError: If there are more processes than GPUs.
        ProcessLost: If the others do not come.
    """
    group = join(supervisor.device.type == "cuda")
    if group.world > 1 and supervisor.device.type == "cuda":
        if group.local_rank >= torch.cuda.device_count():
            raise ConfigurationError(
                f"Process {group.local_rank} of this machine has no GPU.",
                expected=f"at most {torch.cuda.device_count()} processes a machine",
                received=f"LOCAL_RANK={group.local_rank}",
                fix="torchrun --nproc-per-node as many as there are GPUs.",
            )
        torch.cuda.set_device(group.local_rank)
        supervisor.to(f"cuda:{group.local_rank}")
    return group


def share(settings: Settings) -> Settings:
    """The settings of this process: only the first writes and speaks."""
    return settings if current().is_first else dataclasses.replace(settings, verbose=False, checkpoint_every=0)


@contextlib.contextmanager
def lock_of(base: Path) -> Iterator[Callback]:
    """The lock on the files of a training, which the first process has for all."""
    if rank():
        yield Callback()
        return
    with RunLock(base) as lock:
        yield lock


def check_same_step(found: StoredCheckpoint | None) -> None:
    """Make sure that all processes continue from the same checkpoint.

    Raises:
        CheckpointMismatch: If they do not see the same files.
    """
    steps = all_of(None if found is None else found.step)
    if len(set(steps)) > 1:
        raise CheckpointMismatch(
            "The processes do not find the same checkpoint.",
            expected="a folder that all machines share",
            received=", ".join(f"rank {number}: step {step}" for number, step in enumerate(steps)),
            fix="Pass a `name` in such a folder.",
        )


def meet(supervisor: Supervisor) -> None:
    """Wait until all processes are ready: none may tidy up what another still reads.

    Raises:
        ConfigurationError: If they are not to do the same.
    """
    dataset = supervisor.dataset
    told = (supervisor.cursor.step, len(dataset) if hasattr(dataset, "__len__") else None)
    everywhere = all_of(told)
    if len(set(everywhere)) > 1:
        raise ConfigurationError(
            "The processes do not see the same images.",
            expected="one data set, in a folder that all machines share or that is the same on each",
            received=", ".join(f"rank {number}: {seen} images" for number, (_, seen) in enumerate(everywhere)),
        )
