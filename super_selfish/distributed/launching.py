"""Starting several processes on this machine."""

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
    """Run ``super-selfish`` with these words in several processes, under torchrun; all are gone when this returns.

    Args:
        argv: The command line; processes of a group take no notice of its ``--processes``.
        processes: How many, at least 2.
        restarts: How often all are started again, from the last checkpoint, after one was lost.

    Returns:
        The exit status: 143 where SIGTERM or SIGUSR1 asked to stop, which all obey after the same update.

    Raises:
        ConfigurationError: If there is nothing to start.
    """
    if processes < 2:
        raise ConfigurationError("`processes` is out of range.", expected="at least 2", received=f"{processes}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = {"OMP_NUM_THREADS": str(max(1, cores // processes)), **os.environ}
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    run += [f"--max-restarts={restarts}", "-m", "super_selfish", *argv]
    with passing_on() as (children, received), subprocess.Popen(run, env=environment) as child:
        children.append(child)
        if received:
            child.terminate()
        try:
            status = child.wait()
        except KeyboardInterrupt:  # the children got Ctrl-C too, and store what there is
            child.wait()
            raise
    return PREEMPTED if received else status


@contextlib.contextmanager
def passing_on() -> Iterator[tuple[list[subprocess.Popen[bytes]], list[int]]]:
    """Within the block, SIGTERM and SIGUSR1 reach the children in the list as SIGTERM, and are noted.

    torchrun would end itself alone by SIGUSR1, and its processes would go on.
    """
    children: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def pass_on(number: int, frame: Any) -> None:  # noqa: ARG001 - the protocol's
        received.append(number)
        for child in children:
            child.terminate()

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield children, received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
