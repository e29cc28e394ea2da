"""The process group of a training, initialized once from the environment variables of torchrun or srun."""

from __future__ import annotations

import atexit
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
"""Environment variable: timeout of communication between processes after the first step, in s; default 300."""

_STARTUP_SECONDS = 1800.0  # timeout until the first step: one process may prepare the images for all
_FIRST_PORT, _PORTS = 20_000, 20_000  # range of the port that is derived from the SLURM job ID
_ALIVE = "super_selfish/alive/"  # prefix of the keys in the store
_RESPONSE_SECONDS = 2.0


@dataclass
class Group:
    """The process group of a training, as seen by this process.

    Attributes:
        rank: Rank of this process, from 0.
        world: Number of processes (world size).
        local_rank: Rank of this process on its machine, which is the index of its GPU.
        backend: Backend of ``torch.distributed``: ``"cpu:gloo,cuda:nccl"`` for training on GPUs, otherwise ``"gloo"``;
            empty for a single process.
        step: Number of completed steps.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    backend: str = ""
    step: int = 0
    _initialized_here: bool = False  # if not, the timeout is up to the user
    _timeout: float = _STARTUP_SECONDS
    _lost: bool = False  # another process terminated or does not respond

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the only process that writes files and logs."""
        return self.rank == 0

    def heartbeat(self, step: int) -> None:
        """Record a completed step. From the first step on, the timeout is :func:`timeout_seconds`."""
        self.step = step
        self.wait_for(timeout_seconds())

    def allow_startup_time(self) -> None:
        """Set the timeout to that of the start-up phase."""
        self.wait_for(max(_STARTUP_SECONDS, timeout_seconds()))

    def wait_for(self, seconds: float) -> None:
        """Set the timeout of communication with other processes, in s."""
        if self._initialized_here and seconds != self._timeout:
            self._timeout = seconds
            # the function has another name in torch 2.6
            set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
            set_timeout(datetime.timedelta(seconds=seconds))

    @contextlib.contextmanager
    def monitored(self) -> Iterator[None]:
        """Context manager: report which process terminated or does not respond.

        Raises:
            ProcessLost: In place of the errors that torch raises.
        """
        try:
            yield
        except dist.DistError as error:
            raise self._process_lost(error) from error
        except RuntimeError as error:
            if self.world == 1 or not re.search(_COMMUNICATION_ERRORS, str(error)):
                raise
            raise self._process_lost(error) from error

    def leave(self) -> None:
        """Destroy the process group; otherwise, threads of its backend may abort the interpreter when it exits."""
        if dist.is_initialized() and not self._lost:  # without the others, it might wait for them
            dist.destroy_process_group()

    def _process_lost(self, error: BaseException) -> ProcessLost:
        self._lost = True
        unresponsive: list[int] | None = None

        def probe() -> None:
            nonlocal unresponsive
            with contextlib.suppress(Exception):  # the store may have terminated with rank 0
                store().set(f"{_ALIVE}{self.rank}", "")
                time.sleep(_RESPONSE_SECONDS)
                unresponsive = [other for other in range(self.world) if not store().check([f"{_ALIVE}{other}"])]

        thread = threading.Thread(target=probe, daemon=True)  # the store does not respond if rank 0 hangs
        thread.start()
        thread.join(2 * _RESPONSE_SECONDS)
        if unresponsive is None:
            unresponsive = [] if self.is_first else [0]
        ranks = ", ".join(map(str, unresponsive))
        return ProcessLost(
            f"Rank {self.rank} of {self.world}, step {self.step}: another process terminated or does not respond: "
            + (f"no response from rank {ranks}." if unresponsive else "all ranks respond, so a connection was lost."),
            received=" ".join(str(error).split())[:200],
            fix="Check the output of that process. torchrun --max-restarts=3 restarts all from the last checkpoint.",
        )


_COMMUNICATION_ERRORS = (
    "(?i)connection (closed|reset|refused)|timed? ?out|broken pipe|peer|socket|gloo|nccl|ProcessGroup"
)
_single = Group()
_group = _single


def current() -> Group:
    """The group of this process; a group of one process before :func:`join`."""
    return _group


def rank() -> int:
    """Rank of this process, from 0. Before training, it is read from the environment of torchrun or srun."""
    return _group.rank if _group.world > 1 else int(process_environment(os.environ).get("RANK", 0))


def world() -> int:
    """Number of processes. Before training, it is read from the environment of torchrun or srun."""
    return _group.world if _group.world > 1 else int(process_environment(os.environ).get("WORLD_SIZE", 1))


def store() -> Any:
    """The key-value store of the process group."""
    return dist.distributed_c10d._get_default_store()


def process_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of torchrun, or their values derived from those of srun; empty for a single process.

    Raises:
        ConfigurationError: If some of the variables are not set.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        missing = [name for name in names if not environment.get(name)]
        if missing and environment.get("WORLD_SIZE") != "1":
            raise ConfigurationError(
                f"The environment variables of distributed training are incomplete: {', '.join(missing)} not set.",
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
        "MASTER_PORT": environment.get("MASTER_PORT", str(_FIRST_PORT + job % _PORTS)),
    }


def first_host(nodes: str) -> str:
    """The first host of a SLURM node list.

    Examples:
        >>> first_host("gpu[03-05,9],login"), first_host("node7"), first_host("a-1,b")
        ('gpu03', 'node7', 'a-1')
    """
    head, bracket, rest = nodes.partition("[")
    if bracket and "," not in head:
        return head + re.split(r"[-,\]]", rest)[0]
    return head.split(",")[0]


def join(on_gpu: bool) -> Group:
    """Initialize the process group, once. Without distributed training, the group has one process.

    Args:
        on_gpu: Whether networks are on GPUs.

    Raises:
        ConfigurationError: If the environment variables are incomplete.
        ProcessLost: If the other processes do not join.
    """
    global _group
    if _group.world > 1 and dist.is_initialized():
        _group.allow_startup_time()
        return _group
    if dist.is_available() and dist.is_initialized():  # by the user
        backend = dist.get_backend()
        local = int(os.environ.get("LOCAL_RANK", 0))
        _group = Group(dist.get_rank(), dist.get_world_size(), local, backend) if dist.get_world_size() > 1 else _single
        return _group
    variables = process_environment(os.environ)
    if int(variables.get("WORLD_SIZE", 1)) < 2:
        _group = _single
        return _group
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"  # a bank may be in CPU memory while networks are on GPUs
    by_srun = "RANK" not in os.environ
    os.environ.update(variables)
    number, size = int(variables["RANK"]), int(variables["WORLD_SIZE"])
    local = int(variables.get("LOCAL_RANK", number))
    if on_gpu and by_srun and torch.cuda.device_count() == 1:
        local = 0  # with srun --gpus-per-task=1, each process sees only its own GPU
    if on_gpu and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    timeout_seconds()  # raises now if the variable is invalid
    timeout = datetime.timedelta(seconds=_STARTUP_SECONDS)
    try:
        attempt_store = store_of_attempt(size, timeout)
        dist.init_process_group(backend, store=attempt_store, rank=number, world_size=size, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        address = f"{variables['MASTER_ADDR']}:{variables['MASTER_PORT']}"
        raise ProcessLost(
            f"Rank {number} of {size} cannot join the process group at {address}.",
            received=" ".join(str(error).split())[:200],
            fix=f"Start all {size} processes, on machines that can connect to each other.",
        ) from error
    _group = Group(number, size, local, backend, _initialized_here=True)
    atexit.register(_group.leave)
    if number:
        logger.setLevel(max(logger.getEffectiveLevel(), logging.ERROR))
    return _group


def timeout_seconds() -> float:
    """Timeout of communication with other processes after the first step, in s.

    Raises:
        ConfigurationError: If the environment variable is not a positive number.
    """
    value = os.environ.get(TIMEOUT, "300")
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ConfigurationError(
            f"`{TIMEOUT}` is out of range.", expected="a number of seconds above 0", received=value
        )
    return seconds


def store_of_attempt(size: int, timeout: datetime.timedelta) -> Any:
    """Store for processes that torchrun restarted, without the keys of previous attempts; None: the default store.

    On several machines, the attempt numbers of torchrun differ, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is required
    (docs/scaling.md).
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if attempt is None or os.environ.get("LOCAL_WORLD_SIZE") != str(size):
        return None
    shared, _, _ = next(rendezvous("env://", timeout=timeout))
    shared.set_timeout(timeout)
    return PrefixStore(f"attempt {attempt}", shared)
