"""The processes of a training: found in the environment that torchrun or srun gives, joined once."""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from super_selfish.errors import ConfigurationError, ProcessLost

logger = logging.getLogger("super_selfish")

TIMEOUT = "SUPER_SELFISH_TIMEOUT"
"""Environment variable: seconds that processes wait for each other after the first update; 300 if it is not set."""

_FIRST_SECONDS = 1800.0  # until the first update: one process may prepare the images for all
_PORTS = (20_000, 20_000)
_ALIVE = "super_selfish/alive/"
_ASK_SECONDS = 2.0


@dataclass
class Group:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0.
        world: How many there are.
        local_rank: Its number on its machine, which is that of its GPU.
        backend: As torch names it: ``"cpu:gloo,cuda:nccl"`` between GPUs, ``"gloo"`` else; empty for a process alone.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    backend: str = ""
    step: int = 0
    _own: bool = False  # joined by us, who may say how long to wait
    _waits: float = _FIRST_SECONDS

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def heartbeat(self, step: int) -> None:
        """An update is made: from now on the others are waited for no longer than they need."""
        self.step = step
        self.wait_for(timeout_seconds())

    def allow_startup_time(self) -> None:
        """Wait for the others as long as before the first update."""
        self.wait_for(max(_FIRST_SECONDS, timeout_seconds()))

    def wait_for(self, seconds: float) -> None:
        """Give up on the others after so long from now on."""
        if self._own and seconds != self._waits:
            self._waits = seconds
            # torch 2.6 has it under another name
            change = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
            change(datetime.timedelta(seconds=seconds))

    @contextlib.contextmanager
    def monitored(self) -> Iterator[None]:
        """Within the block, a process that is gone or does not answer is named.

        Raises:
            ProcessLost: In place of what torch raises.
        """
        try:
            yield
        except dist.DistError as error:
            raise self._lost(error) from error
        except RuntimeError as error:
            if self.world == 1 or not re.search(_WORDS, str(error)):
                raise
            raise self._lost(error) from error

    def _lost(self, error: BaseException) -> ProcessLost:
        silent: list[int] | None = None

        def ask() -> None:
            nonlocal silent
            with contextlib.suppress(Exception):  # the store may be gone with the first process
                store().set(f"{_ALIVE}{self.rank}", "")
                time.sleep(_ASK_SECONDS)
                silent = [other for other in range(self.world) if not store().check([f"{_ALIVE}{other}"])]

        asking = threading.Thread(target=ask, daemon=True)  # the store does not answer where the first process hangs
        asking.start()
        asking.join(2 * _ASK_SECONDS)
        if silent is None:
            silent = [] if self.is_first else [0]
        told = ", ".join(map(str, silent))
        return ProcessLost(
            f"Rank {self.rank} of {self.world}, step {self.step}: another process is gone or does not answer; "
            + (f"no answer from rank {told}." if silent else "all answer, so a connection was lost."),
            received=" ".join(str(error).split())[:200],
            fix="Look at the output of that process. torchrun --max-restarts=3 starts all from the last checkpoint.",
        )


_WORDS = "(?i)connection (closed|reset|refused)|timed? ?out|broken pipe|peer|socket|gloo|nccl|ProcessGroup"
_alone = Group()
_group = _alone


def current() -> Group:
    """The group that this process has joined; of one process if it has joined none."""
    return _group


def rank() -> int:
    """The number of this process, from 0; before training, as torchrun or srun say."""
    return _group.rank if _group.world > 1 else int(process_environment(os.environ).get("RANK", 0))


def world() -> int:
    """How many processes train together; before training, as torchrun or srun say."""
    return _group.world if _group.world > 1 else int(process_environment(os.environ).get("WORLD_SIZE", 1))


def store() -> Any:
    """Where processes leave each other words."""
    return dist.distributed_c10d._get_default_store()


def process_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What torchrun set, or what follows from what srun set; empty for a process alone.

    Raises:
        ConfigurationError: If only a part is set.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        missing = [name for name in names if not environment.get(name)]
        if missing and environment.get("WORLD_SIZE") != "1":
            raise ConfigurationError(
                f"The environment of a process among several is not complete: {', '.join(missing)} not set.",
                expected=", ".join(names),
                received=", ".join(f"{name}={environment[name]}" for name in names if name in environment),
                fix="Start with torchrun --nproc-per-node 4 train.py, or remove RANK and WORLD_SIZE.",
            )
        return {name: environment[name] for name in (*names, "LOCAL_RANK") if name in environment}
    tasks = environment.get("SLURM_NTASKS", "1")
    if tasks == "1" or "SLURM_PROCID" not in environment or "SLURM_STEP_ID" not in environment:
        return {}
    job = int(environment.get("SLURM_JOB_ID", "0")) + int(environment.get("SLURM_RESTART_COUNT", "0") or 0)
    first = environment.get("SLURM_LAUNCH_NODE_IPADDR") or first_host(environment.get("SLURM_STEP_NODELIST", ""))
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": tasks,
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": environment.get("MASTER_ADDR", first),
        "MASTER_PORT": environment.get("MASTER_PORT", str(_PORTS[0] + job % _PORTS[1])),
    }


def first_host(nodes: str) -> str:
    """The first host of SLURM's short form.

    Examples:
        >>> first_host("gpu[03-05,9],login"), first_host("node7"), first_host("a-1,b")
        ('gpu03', 'node7', 'a-1')
    """
    head, bracket, rest = nodes.partition("[")
    if bracket and "," not in head:
        return head + re.split(r"[-,\]]", rest)[0]
    return head.split(",")[0]


def join(on_gpu: bool) -> Group:
    """Join the processes that this one was started with, once; a process alone stays alone.

    Args:
        on_gpu: Whether networks are on GPUs.

    Raises:
        ConfigurationError: If the environment is not complete.
        ProcessLost: If the others do not come.
    """
    global _group
    if _group.world > 1 and dist.is_initialized():
        _group.allow_startup_time()
        return _group
    if dist.is_available() and dist.is_initialized():  # by the user's own script
        backend = dist.get_backend()
        local = int(os.environ.get("LOCAL_RANK", 0))
        _group = Group(dist.get_rank(), dist.get_world_size(), local, backend) if dist.get_world_size() > 1 else _alone
        return _group
    told = process_environment(os.environ)
    if int(told.get("WORLD_SIZE", 1)) < 2:
        _group = _alone
        return _group
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"  # a bank may be in main memory beside networks on GPUs
    by_srun = "RANK" not in os.environ
    os.environ.update(told)
    number, size = int(told["RANK"]), int(told["WORLD_SIZE"])
    local = int(told.get("LOCAL_RANK", number))
    if on_gpu and by_srun and torch.cuda.device_count() == 1:
        local = 0  # srun --gpus-per-task=1 shows each process its own alone
    if on_gpu and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    timeout_seconds()  # a mistake in it is told now
    waits = datetime.timedelta(seconds=_FIRST_SECONDS)
    try:
        own = store_of_attempt(size, waits)
        dist.init_process_group(backend, store=own, rank=number, world_size=size, timeout=waits)
    except (RuntimeError, ValueError) as error:
        raise ProcessLost(
            f"Rank {number} of {size} cannot join the others at {told['MASTER_ADDR']}:{told['MASTER_PORT']}.",
            received=" ".join(str(error).split())[:200],
            fix=f"Start all {size} processes, on machines that reach each other.",
        ) from error
    _group = Group(number, size, local, backend, _own=True)
    if number:
        logger.setLevel(max(logger.getEffectiveLevel(), logging.ERROR))
    return _group


def timeout_seconds() -> float:
    """Seconds to wait for the others after the first update.

    Raises:
        ConfigurationError: If the environment says something else.
    """
    said = os.environ.get(TIMEOUT, "300")
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ConfigurationError(f"`{TIMEOUT}` is out of range.", expected="seconds above 0", received=said)
    return seconds


def store_of_attempt(size: int, timeout: datetime.timedelta) -> Any:
    """Where processes that torchrun has started again find each other, apart from what the dead have left there.

    On several machines torchrun does not count attempts alike, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is needed
    (docs/scaling.md).
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if attempt is None or os.environ.get("LOCAL_WORLD_SIZE") != str(size):
        return None
    shared, _, _ = next(rendezvous("env://", timeout=timeout))
    shared.set_timeout(timeout)
    return PrefixStore(f"attempt {attempt}", shared)
