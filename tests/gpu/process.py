"""A process of a training on one GPU: trains every algorithm a few steps, as tests/distributed/worker.py does.

usage: python process.py gloo|nccl FOLDER

NCCL takes one process a GPU. With ``nccl`` a process alone takes itself for several, so that all that several would
exchange goes through NCCL; with ``gloo`` as many as are started share the GPU.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1] / "distributed"))
from worker import train_all

from super_selfish.distributed import group


class Several(int):
    """A one that compares as if it were more."""

    def __eq__(self, _: object) -> bool:
        return False

    def __gt__(self, _: int) -> bool:
        return True

    def __lt__(self, _: int) -> bool:
        return False

    __hash__ = int.__hash__


def main() -> None:
    backend, folder = sys.argv[1], Path(sys.argv[2])
    if backend == "gloo" and "RANK" in os.environ:
        dist.init_process_group("gloo")
    if backend == "nccl":
        torch.cuda.set_device(0)
        os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
        dist.init_process_group("cpu:gloo,cuda:nccl")
        group._group = group.Group(0, Several(1), 0, dist.get_backend())
    train_all(folder, "batch")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
