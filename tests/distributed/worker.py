"""One process of a distributed test: trains each algorithm for a few steps, and stores weights and losses.

usage: python worker.py FOLDER layer|batch [NAME ...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from super_selfish.data import CPCTransform
from super_selfish.engine.core import base
from super_selfish.memory import bank
from super_selfish.models import Classification, SmallResNet
from super_selfish.supervisors import all_supervisors
from super_selfish.training import Callback

COARSE = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 3), np.uint8)
IMAGES = COARSE.repeat(8, 1).repeat(8, 2)  # colour patches; with noise, batch norm would divide by values close to 0
SHUFFLED = "momentum_contrast_shuffled"
DEVICE = os.environ.get("SUPER_SELFISH_DEVICE", "cpu")
BANK = {"embedding_size": 8, "n": 9, "t": 0.5}


def heads(name: str, norm: str, shuffled: bool = False) -> dict[str, Any]:
    """Constructor arguments for fast training; MoCo also with shuffled batch norm."""
    if name in ("instance_discrimination", "contrastive_multiview_coding", "pirl"):
        keywords: dict[str, Any] = {"predictor": Classification([32, 16, 8], norm_type=norm)}
        keywords |= {"predictor_g": Classification([32, 16, 8], norm_type=norm)} if name == "pirl" else {}
        kinds = {"instance_discrimination": "nce", "contrastive_multiview_coding": "info_nce", "pirl": "info_nce"}
        return BANK | keywords | {"loss_type": kinds[name], "shared_negatives": name != "pirl"}
    if name == "momentum_contrast":
        head = Classification([32, 16, 8], norm_type=norm)
        keywords = {"symmetric": True, "bn_splits": 1} if not shuffled else {"bn_splits": 4}
        return {"embedding_size": 8, "queue_size": 24, "predictor": head, "m": 0.5, "t": 0.5, **keywords}
    if name == "byol":
        head = nn.Sequential(Classification([32, 16, 8], norm_type=norm), Classification([8, 16, 8], norm_type=norm))
        return {"embedding_size": 8, "hidden_size": 16, "m": 0.5, "predictor": head}
    if name == "contrastive_predictive_coding":
        return {"half_crop_size": 6, "embedding_size": 8, "views": CPCTransform(1, elastic=0.0)}
    if name in ("rotate_net", "exemplar_net"):
        return {"predictor": Classification([32, 16, {"rotate_net": 4, "exemplar_net": 32}[name]], norm_type=norm)}
    return {}


def in_double() -> None:
    """Convert batches to float64: with batch norm, rounding errors of float32 grow to 1e-4 within a few steps.

    The library refuses networks in float64 before training, so they are converted after its checks.
    """
    torch.set_default_dtype(torch.float64)
    original = base.to_device

    def to_double(*arguments: Any, **keywords: Any) -> Any:
        return tuple(part.double() if part.is_floating_point() else part for part in original(*arguments, **keywords))

    base.to_device = to_double
    bank._TYPES[torch.float64] = np.float64
    bank.BatchedMemory.__getitem__ = lambda self, idx: self.memory[idx]
    bank.BatchedMemory.rows = lambda self: self.memory


class Losses(Callback):
    """Records the mean loss after each step of an epoch, in float64 if that is the default."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_begin(self, run: Any) -> None:
        run.supervisor.to(torch.get_default_dtype())

    def on_step_end(self, run: Any) -> None:
        self.values.append(run.mean_loss())


def train(name: str, norm: str, folder: Path, epochs: int = 2, **keywords: Any) -> Any:
    """One short training."""
    torch.manual_seed(7)
    label, shuffled = name, name == SHUFFLED
    name = "momentum_contrast" if shuffled else name
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # the constructor calls the networks with float32 images
    own = {} if name == "jigsaw_net" else heads(name, norm, shuffled)
    supervisor = all_supervisors()[name](IMAGES, backbone=SmallResNet(width=4, norm_type=norm), **own).to(DEVICE)
    torch.set_default_dtype(default)
    losses = Losses()
    settings: dict[str, Any] = {"lr": 0.005, "optimizer": torch.optim.SGD, "batch_size": 16, "clip_grad": 1.0}
    supervisor.supervise(
        **({"callbacks": [losses]} | settings | keywords), epochs=epochs, name=folder / f"{label}-{norm}", verbose=False
    )
    return supervisor, losses.values


def train_all(folder: Path, norm: str, names: Sequence[str] = ()) -> None:
    """Train the given or all algorithms, and store weights and losses of this process."""
    torch.set_num_threads(1)
    if norm == "batch":
        in_double()
    number = os.environ.get("RANK", "0")
    for name in names or [*all_supervisors(), SHUFFLED]:
        supervisor, losses = train(name, norm, folder)
        torch.save({"state": supervisor.state_dict(), "losses": losses}, folder / f"{name}-{norm}-{number}.pt")


if __name__ == "__main__":
    train_all(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
