"""Several processes with networks on a GPU; ``SUPER_SELFISH_DEVICE=cpu`` tries the same on a CPU, NCCL aside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import super_selfish
from super_selfish.supervisors import all_supervisors

DEVICE = os.environ.get("SUPER_SELFISH_DEVICE", "cuda")
HERE = Path(__file__).parent
NAMES = [*all_supervisors(), "momentum_contrast_shuffled"]
KINDS = {"alone": ("gloo", 1), "shared": ("gloo", 2), "nccl": ("nccl", 1)}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of what processes of a kind made, each kind run once."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            backend, world = KINDS[kind]
            folder = tmp_path_factory.mktemp(kind)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
            library = str(Path(super_selfish.__file__).parents[1])
            paths = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
            shared = os.environ | place | {"PYTHONPATH": paths, "SUPER_SELFISH_DEVICE": DEVICE}
            words = [sys.executable, str(HERE / "process.py"), backend, str(folder)]
            running = []
            for rank in range(world):
                own = {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": "0"} if world > 1 else {}
                pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
                running.append(subprocess.Popen(words, env=shared | own, text=True, **pipes))
            said = [process.communicate(timeout=300)[0] for process in running]
            assert [process.returncode for process in running] == [0] * world, "\n".join(said)[-3000:]
            made[kind] = folder
        return made[kind]

    return get


@pytest.mark.parametrize("kind", ["shared", pytest.param("nccl", marks=pytest.mark.skipif(DEVICE == "cpu", reason=""))])
@pytest.mark.parametrize("name", NAMES)
def test_as_one_process(results: Callable[[str], Path], name: str, kind: str) -> None:
    """Two that share a GPU by gloo, and one that exchanges with itself by NCCL, make what one does alone."""
    alone = torch.load(results("alone") / f"{name}-batch-0.pt", map_location="cpu")
    ranks = [
        torch.load(results(kind) / f"{name}-batch-{rank}.pt", map_location="cpu") for rank in range(KINDS[kind][1])
    ]
    for key, value in alone["state"].items():
        assert all(torch.equal(ranks[0]["state"][key], other["state"][key]) for other in ranks)
        assert torch.allclose(value.double(), ranks[0]["state"][key].double(), rtol=0, atol=1e-5), key
    assert ranks[0]["losses"] == pytest.approx(alone["losses"], abs=1e-5)
