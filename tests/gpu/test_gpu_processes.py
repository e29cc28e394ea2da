"""Several processes with networks on a GPU; ``SUPER_SELFISH_DEVICE=cpu`` tries the same on a CPU, NCCL aside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from starting import finished, free_port, started

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
            more = {"SUPER_SELFISH_DEVICE": DEVICE, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
            words = (HERE / "process.py", backend, folder)
            finished(started(world, *words, **more, MASTER_PORT=free_port()))
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
