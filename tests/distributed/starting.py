"""Launch the processes of a training as torchrun does, and wait for them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path


def environment(**more: object) -> dict[str, str]:
    spec = sys.modules["super_selfish"].__file__
    assert spec is not None
    paths = os.pathsep.join(filter(None, [str(Path(spec).parents[1]), os.environ.get("PYTHONPATH")]))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RANK", "WORLD", "MASTER"))}
    return kept | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | {key: str(value) for key, value in more.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(world: int, *arguments: object, timeout: int = 120, **more: object) -> list[subprocess.Popen[str]]:
    """Start ``world`` processes with the environment variables of torchrun and those in ``more``."""
    port, processes = free_port(), []
    for rank in range(world):
        own: dict[str, object] = {"SUPER_SELFISH_TIMEOUT": timeout}
        if world > 1:
            own |= {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
            own |= {"MASTER_PORT": port}
        processes.append(
            subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                env=environment(**(own | more)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return processes


def finished(processes: list[subprocess.Popen[str]], timeout: float = 300) -> list[str]:
    """Wait for processes to terminate with exit status 0, and return their output."""
    output = [process.communicate(timeout=timeout)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(output)[-3000:]
    return output
