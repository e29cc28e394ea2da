"""Training on two machines, simulated by two network namespaces with a virtual cable."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from starting import environment, finished, started

HERE = Path(__file__).parent
FIRST = "10.203.17.1"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Two network namespaces that are connected to each other only."""
    if shutil.which("ip") is None:
        pytest.skip("The command `ip` is not installed.")
    mark = uuid.uuid4().hex[:6]
    names = [f"selfish-{mark}-{number}" for number in range(2)]
    created: list[str] = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                created.append(name)
            ends = [f"s{mark}{number}" for number in range(2)]
            ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
                ip("link", "set", end, "netns", name, "name", "cable")
                ip("-n", name, "address", "add", f"10.203.17.{number}/24", "dev", "cable")
                ip("-n", name, "link", "set", "cable", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"Network namespaces are not permitted: {error.stderr.strip()}")
        yield names
    finally:
        for name in created:
            ip("netns", "delete", name)


@pytest.mark.faults
@pytest.mark.promise(12)
def test_two_machines_match_a_single_process(machines: list[str], tmp_path: Path) -> None:
    """MoCo v2, with layer norm and with shuffled batch norm."""
    names = {"layer": "momentum_contrast", "batch": "momentum_contrast_shuffled"}
    for norm, name in names.items():
        running = []
        for number, machine in enumerate(machines):
            run = ["-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={number}", "--nproc-per-node=1"]
            run += [f"--master-addr={FIRST}", "--master-port=29400"]
            command = [sys.executable, *run, str(HERE / "worker.py"), str(tmp_path), norm, name]
            running.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", machine, *command],
                    env=environment(GLOO_SOCKET_IFNAME="cable"),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        finished(running)
        (tmp_path / "alone").mkdir(exist_ok=True)
        finished(started(1, HERE / "worker.py", tmp_path / "alone", norm, name))
        alone = torch.load(tmp_path / "alone" / f"{name}-{norm}-0.pt")
        ranks = [torch.load(tmp_path / f"{name}-{norm}-{rank}.pt") for rank in range(2)]
        for key, value in alone["state"].items():
            assert torch.equal(ranks[0]["state"][key], ranks[1]["state"][key]), key
            assert float((ranks[0]["state"][key].double() - value.double()).abs().max()) < 1e-5, key
        assert ranks[0]["losses"] == pytest.approx(alone["losses"], abs=1e-5)
