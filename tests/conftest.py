"""What every test gets: a seed, an empty working folder, no network, and a way to start another Python."""

from __future__ import annotations

import importlib.util
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # the networks are tiny; other processes want the cores
os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib; child processes inherit it


@pytest.fixture(autouse=True)
def _seeded_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise RuntimeError(
                f"A test tried to reach {address[0]}; the library uses no network unless it is asked to."
            )
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start another Python in the test's own folder, on the same copy of the library as the test."""
    spec = importlib.util.find_spec("super_selfish")
    assert spec is not None
    assert spec.origin is not None
    library = str(Path(spec.origin).parents[1])

    def run(*arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": library} | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
