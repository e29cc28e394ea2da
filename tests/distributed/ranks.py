"""One of two processes whose networks, optimizers or random layers differ; writes what each case gave.

usage: python ranks.py FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from worker import IMAGES

from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import MomentumContrastSupervisor, RotateNetSupervisor
from super_selfish.training import Callback

RANK = int(os.environ.get("RANK", 0))
FOLDER = Path(sys.argv[1])
RUN: dict[str, Any] = {"epochs": 1, "batch_size": 16, "watch": 0, "verbose": False, "lr": 0.01}


class Net(nn.Module):
    """Two branches, the second of which may be left out; dropout after the first."""

    def __init__(self, *, swapped: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        for name in ("b", "a") if swapped else ("a", "b"):
            setattr(self, name, nn.Conv2d(3, 4, 3, 4))
        self.unused = nn.Conv2d(3, 4, 3, 4)
        self.dropout = nn.Dropout(dropout)
        self.masks: list[list[float]] = []
        self.uses_b = True

    def forward(self, x: Tensor) -> Tensor:
        found = self.dropout(self.a(x))
        if self.training and self.dropout.p:
            self.masks.append((found.detach() == 0).float().mean((0, 2, 3)).tolist())
        if self.uses_b:
            found = found + self.b(x)
        return found.mean((2, 3))


class Reversed(RotateNetSupervisor):
    """Rank 1 passes its parameters in the opposite order."""

    def _init_data_optimizer(self, *arguments: Any) -> Any:
        loader, _, _ = super()._init_data_optimizer(*arguments)
        parameters = self.trainable_parameters()
        return loader, torch.optim.SGD(parameters[::-1] if RANK else parameters, lr=0.01), None


def train(name: str, net: Net, cls: Any = RotateNetSupervisor, **more: Any) -> Any:
    torch.manual_seed(0)
    supervisor = cls(IMAGES, backbone=net, predictor=nn.Linear(4, 4))
    return supervisor.supervise(**{**RUN, "name": FOLDER / name, **more})


def frozen() -> Net:
    net = Net()
    net.b.requires_grad_(RANK == 0)
    return net


def unused() -> Net:
    net = Net()
    net.uses_b = RANK == 0
    return net


class Interrupt(Callback):
    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == 3:
            raise KeyboardInterrupt


def masks(name: str, *, interrupted: bool = False) -> list[list[float]]:
    net = Net(dropout=0.5)
    if interrupted:
        try:
            train(name, net, epochs=2, checkpoint_every=1, callbacks=[Interrupt()])
        except KeyboardInterrupt:
            net.masks.clear()
        net = Net(dropout=0.5)
        train(name, net, epochs=2, resume=True)
        return net.masks
    train(name, net, epochs=2)
    return net.masks


def shuffled() -> float:
    """MoCo shuffles over ranks, whose global generators differ, and dropout draws from them first."""

    class WithNorm(Net):
        def __init__(self) -> None:
            super().__init__(dropout=0.5)
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(super().forward(x))

    torch.manual_seed(0)
    supervisor = MomentumContrastSupervisor(IMAGES, backbone=WithNorm(), embedding_size=4, queue_size=16)
    orders = []
    permutation = supervisor._permutation

    def recorded(count: int) -> Tensor:
        orders.append(permutation(count))
        return orders[-1]

    object.__setattr__(supervisor, "_permutation", recorded)
    supervisor.supervise(**RUN, name=FOLDER / "moco")
    return [order.tolist() for order in orders]


def unused_everywhere() -> list[str]:
    net = Net()
    before = net.unused.weight.clone()
    supervisor = train("unused_everywhere", net, optimizer=lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.5))
    return [str(torch.equal(before, net.unused.weight)), str(supervisor.train_state.step)]


CASES: dict[str, Callable[[], Any]] = {
    "order": lambda: train("order", Net(), Reversed),
    "names": lambda: train("names", Net(swapped=RANK == 1)),
    "frozen": lambda: train("frozen", frozen()),
    "unused": lambda: train("unused", unused()),
    "unused everywhere": unused_everywhere,
    "masks": lambda: masks("masks"),
    "masks again": lambda: masks("again"),
    "masks resumed": lambda: masks("resumed", interrupted=True),
    "shuffled": shuffled,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for case, run in CASES.items():
        try:
            found[case] = run()
        except ConfigurationError as error:
            found[case] = str(error)
        if not isinstance(found[case], str | list):
            found[case] = "trained"
    (FOLDER / f"ranks-{RANK}.json").write_text(json.dumps(found))
