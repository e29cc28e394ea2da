"""Launching of several processes on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from super_selfish.errors import ConfigurationError

RESTARTS = 3
PREEMPTED = 128 + signal.SIGTERM


def launch(argv: Sequence[str], processes: int, *, restarts: int = RESTARTS) -> int:
    """Run ``super-selfish`` in several processes by torchrun, and wait until all have terminated.

    Args:
        argv: Command-line arguments; ``--processes`` is ignored by the launched processes.
        processes: Number of processes, at least 2.
        restarts: Maximum number of restarts from the last checkpoint after a process was lost.

    Returns:
        The exit status: 143 after SIGTERM or SIGUSR1, which stop all processes after the same step.

    Raises:
        ConfigurationError: If ``processes`` is below 2.
    """
    if processes < 2:
        raise ConfigurationError("`processes` is out of range.", expected="at least 2", received=f"{processes}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = {"OMP_NUM_THREADS": str(max(1, cores // processes)), **os.environ}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [f"--max-restarts={restarts}", "-m", "super_selfish", *argv]
    with forwarded_signals() as (children, received), subprocess.Popen(command, env=environment) as child:
        children.append(child)
        if received:
            child.terminate()
        try:
            status = child.wait()
        except KeyboardInterrupt:  # the child processes received Ctrl-C too, and save their progress
            child.wait()
            raise
    return PREEMPTED if received else status


@contextlib.contextmanager
def forwarded_signals() -> Iterator[tuple[list[subprocess.Popen[bytes]], list[int]]]:
    """Context manager: forward SIGTERM and SIGUSR1 to child processes as SIGTERM, and record them.

    SIGUSR1 would terminate torchrun alone, without its processes.
    """
    children: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def forward(number: int, frame: Any) -> None:  # noqa: ARG001 - signature of signal handlers
        received.append(number)
        for child in children:
            child.terminate()

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield children, received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
