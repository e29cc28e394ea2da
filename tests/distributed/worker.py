"""What each process of a test does: trains every algorithm a few steps, and writes down what came of it.

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
IMAGES = COARSE.repeat(8, 1).repeat(8, 2)  # patches of colour: noise would have batch norm divide by next to nothing
SHUFFLED = "momentum_contrast_shuffled"
DEVICE = os.environ.get("SUPER_SELFISH_DEVICE", "cpu")
BANK = {"embedding_size": 8, "n": 9, "t": 0.5}


def heads(name: str, norm: str, shuffled: bool = False) -> dict[str, Any]:
    """Small networks, and what else makes an algorithm quick; MoCo also with shuffled batch norm."""
    if name in ("instance_discrimination", "contrastive_multiview_coding", "pirl"):
        more: dict[str, Any] = {"predictor": Classification([32, 16, 8], norm_type=norm)}
        more |= {"predictor_g": Classification([32, 16, 8], norm_type=norm)} if name == "pirl" else {}
        kinds = {"instance_discrimination": "nce", "contrastive_multiview_coding": "info_nce", "pirl": "info_nce"}
        return BANK | more | {"loss_type": kinds[name], "shared_negatives": name != "pirl"}
    if name == "momentum_contrast":
        head = Classification([32, 16, 8], norm_type=norm)
        more = {"symmetric": True, "bn_splits": 1} if not shuffled else {"bn_splits": 4}
        return {"embedding_size": 8, "queue_size": 24, "predictor": head, "m": 0.5, "t": 0.5, **more}
    if name == "byol":
        head = nn.Sequential(Classification([32, 16, 8], norm_type=norm), Classification([8, 16, 8], norm_type=norm))
        return {"embedding_size": 8, "hidden_size": 16, "m": 0.5, "predictor": head}
    if name == "contrastive_predictive_coding":
        return {"half_crop_size": 6, "embedding_size": 8, "views": CPCTransform(1, elastic=0.0)}
    if name in ("rotate_net", "exemplar_net"):
        return {"predictor": Classification([32, 16, {"rotate_net": 4, "exemplar_net": 32}[name]], norm_type=norm)}
    return {}


def in_double() -> None:
    """Let batches be float64: batch norm makes rounding errors of float32 grow to 1e-4 within a few steps."""
    torch.set_default_dtype(torch.float64)
    plain = base.to_device

    def to_double(*given: Any, **more: Any) -> Any:
        return tuple(part.double() if part.is_floating_point() else part for part in plain(*given, **more))

    base.to_device = to_double
    bank._TYPES[torch.float64] = np.float64
    bank.BatchedMemory.__getitem__ = lambda self, idx: self.memory[idx]
    bank.BatchedMemory.rows = lambda self: self.memory


class Losses(Callback):
    """Keeps the mean loss after each step of an epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_step_end(self, run: Any) -> None:
        self.seen.append(run.mean_loss())


def train(name: str, norm: str, folder: Path, epochs: int = 2, **more: Any) -> Any:
    """One short training."""
    torch.manual_seed(7)
    called, shuffled = name, name == SHUFFLED
    name = "momentum_contrast" if shuffled else name
    own = {} if name == "jigsaw_net" else heads(name, norm, shuffled)
    supervisor = all_supervisors()[name](IMAGES, backbone=SmallResNet(width=4, norm_type=norm), **own).to(DEVICE)
    if norm == "batch":
        supervisor.double()
    told = Losses()
    settings: dict[str, Any] = {"lr": 0.005, "optimizer": torch.optim.SGD, "batch_size": 16, "clip_grad": 1.0}
    supervisor.supervise(
        **({"callbacks": [told]} | settings | more), epochs=epochs, name=folder / f"{called}-{norm}", verbose=False
    )
    return supervisor, told.seen


def train_all(folder: Path, norm: str, names: Sequence[str] = ()) -> None:
    """Train those algorithms, or all, and store weights and losses of this process."""
    torch.set_num_threads(1)
    if norm == "batch":
        in_double()
    number = os.environ.get("RANK", "0")
    for name in names or [*all_supervisors(), SHUFFLED]:
        supervisor, losses = train(name, norm, folder)
        torch.save({"state": supervisor.state_dict(), "losses": losses}, folder / f"{name}-{norm}-{number}.pt")


if __name__ == "__main__":
    train_all(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
