"""What every test gets: a seed, an empty working folder, no network, and a way to start another Python."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # the networks are tiny; other processes want the cores
os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib; child processes inherit it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of promises are faults too; those that are not marked so themselves run every day as well."""
    for item in items:
        if item.get_closest_marker("promise") and not item.get_closest_marker("faults"):
            item.add_marker("faults")
            item.add_marker("daily")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Tell the report which promises its test is of."""
    report = yield
    report.promises = [number for marker in item.iter_markers("promise") for number in marker.args]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the promises, if faults were asked for."""
    if "faults" not in (config.option.markexpr or "").replace("not faults", ""):
        return
    outcomes: dict[int, list[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for number in getattr(report, "promises", []):
                outcomes.setdefault(number, []).append(outcome)
    terminalreporter.section("promises of docs/reliability.md")
    for number, found in sorted(outcomes.items()):
        kept = "kept" if set(found) == {"passed"} else ", ".join(f"{found.count(kind)} {kind}" for kind in set(found))
        terminalreporter.line(f"{number:3}  {kept} ({len(found)} tests)")


@pytest.fixture(autouse=True)
def _seeded_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Handle Ctrl-C, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _no_gpu_unless_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on the CPU on every machine; tests marked ``gpu`` choose their device."""
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr("super_selfish.distributed.placement.available_gpu", lambda: None)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # of child processes


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
