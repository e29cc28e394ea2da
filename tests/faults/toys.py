"""What the promises of docs/reliability.md are tried on; the tests bear their numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from super_selfish.models import SmallResNet
from super_selfish.supervisors import Supervisor, all_supervisors
from super_selfish.training import Callback

SMALL: dict[str, dict[str, Any]] = {
    "contrastive_predictive_coding": {"embedding_size": 16, "patch_size": 8},
    "exemplar_net": {"n_classes": 32, "n_trans": 1},
}


def toy(
    algorithm: str = "momentum_contrast", images: Any = None, cls: type[Supervisor] | None = None, **options: Any
) -> Supervisor:
    torch.manual_seed(0)
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8)
    options = {"backbone": SmallResNet(width=4)} | SMALL.get(algorithm, {}) | options
    return (cls or all_supervisors()[algorithm])(images, **options)


def run(supervisor: Supervisor, **settings: Any) -> Supervisor:
    settings = {"epochs": 2, "batch_size": 8, "name": "store/run", "verbose": False} | settings
    return supervisor.supervise(**settings)


def digest(supervisor: Supervisor) -> str:
    """Of all that is trained and remembered, and of how far training has come."""
    total = hashlib.sha256(repr(supervisor.train_state).encode())
    for key, value in sorted(supervisor.state_dict().items()):
        total.update(key.encode() + value.contiguous().numpy().tobytes())
    return total.hexdigest()


class At(Callback):
    """Does something at the end of a step."""

    def __init__(self, step: int, do: Callable[[], object]) -> None:
        self.step = step
        self.do = do

    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == self.step:
            self.do()


def contents(folder: str = "store") -> dict[str, bytes]:
    """Every file below a folder, by path."""
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}
