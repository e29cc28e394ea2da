"""Starting several processes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from super_selfish.errors import ConfigurationError

RESTARTS = 3


def launch(words: Sequence[str], processes: int, *, restarts: int = RESTARTS) -> int:
    """Run ``super-selfish`` with these words in several processes, under torchrun; all are gone when this returns.

    Args:
        words: The command line, without ``--processes``.
        processes: How many, at least 2.
        restarts: How often all are started again, from the last checkpoint, after one was lost.

    Returns:
        The exit status.

    Raises:
        ConfigurationError: If there is nothing to start.
    """
    if processes < 2:
        raise ConfigurationError("`processes` is out of range.", expected="at least 2", received=f"{processes}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = {"OMP_NUM_THREADS": str(max(1, cores // processes)), **os.environ}
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    run += [f"--max-restarts={restarts}", "-m", "super_selfish", *words]
    with subprocess.Popen(run, env=environment) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the children got Ctrl-C too, and store what there is
            return child.wait()
