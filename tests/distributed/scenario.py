"""One process of a training in which something happens.

usage: python scenario.py WHAT[:WORD...] FOLDER
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parent))
from worker import IMAGES, Losses, train

from super_selfish.distributed import gather_with_gradient, join, own_part, world
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback

RANK = int(os.environ.get("RANK", 0))


class At(Callback):
    """Does something once, after a step, in one process."""

    def __init__(self, step: int, do: Any, rank: int = 1) -> None:
        self.step, self.do, self.rank = step, do, rank

    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == self.step and self.rank == RANK:
            self.do()


class Slow(Callback):
    """Tells the step in a file, and takes its time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"step-{RANK}"

    def on_step_end(self, run: Any) -> None:
        self.path.write_text(str(run.train_state.step))
        time.sleep(0.02)


class Read(Dataset[Any]):
    """Images, and the indices that were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return IMAGES[index]


class Steps(Callback):
    """Notes which images each step took; those that were read before training are forgotten."""

    def __init__(self, data: Read) -> None:
        self.data = data
        self.taken: list[Sequence[int]] = []

    def on_train_begin(self, run: Any) -> None:
        self.data.asked.clear()

    def on_step_end(self, run: Any) -> None:
        self.taken.append(list(self.data.asked))
        self.data.asked.clear()


def order() -> list[Sequence[int]]:
    """The images of each step of two epochs, read by this process."""
    data = Read()
    noted = Steps(data)
    supervisor = RotateNetSupervisor(data, backbone=SmallResNet(width=4, norm_type="layer"))
    supervisor.supervise(epochs=2, batch_size=8, watch=0, callbacks=[noted], verbose=False, checkpoint_every=0)
    return noted.taken


def gradient() -> Tensor:
    """By this process's rows: of a loss in which each row is to find its partner among those of all processes."""
    join(on_gpu=False)
    rows = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = own_part(rows).clone().requires_grad_()
    every = functional.normalize(gather_with_gradient(own), dim=1)
    anchors = torch.arange(len(own)) + RANK * len(own)
    loss = functional.cross_entropy(every[anchors] @ every.T / 0.5, anchors ^ 1)  # rows 2i and 2i + 1 are a pair
    (found,) = torch.autograd.grad(loss / world(), own)
    return found


def full_disk(folder: Path, filled: Sequence[int]) -> Any:
    """An audit hook: the first process finds the disk full once ``filled`` has something; another one may not write."""

    def heard(event: str, values: Any) -> None:
        writes = event in {"os.mkdir", "os.rename", "os.remove", "os.link", "os.truncate"}
        writes |= event == "open" and isinstance(values[1], str) and any(mode in values[1] for mode in "wax+")
        if not writes or str(folder) not in str(values[0]):
            return
        if RANK == 0 and filled and event in {"os.mkdir", "open"}:
            raise OSError(errno.ENOSPC, "No space left on device")
        if RANK:
            raise AssertionError(f"rank {RANK} touches the disk: {event} {values[0]}")

    return heard


class Began(Callback):
    """Tells the attempt and its first step in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_step_end(self, run: Any) -> None:
        if not self.path.exists():
            self.path.write_text(f"{os.environ['TORCHELASTIC_RESTART_COUNT']} {run.train_state.step}")


def interrupt() -> None:
    raise KeyboardInterrupt


def train_long(folder: Path, *told: Callback) -> None:
    train("rotate_net", "layer", folder, epochs=1000, checkpoint_every=0, callbacks=[*told])


def nan(folder: Path) -> None:
    """The loss of the second process is not a number at the third step."""
    forward, calls = RotateNetSupervisor._forward, []

    def broken(self: Any, data: Any) -> Any:
        calls.append(1)
        return forward(self, data) * (float("nan") if RANK == 1 and len(calls) == 3 else 1.0)

    RotateNetSupervisor._forward = broken
    train("rotate_net", "layer", folder)


def restart(folder: Path) -> None:
    """The second process is killed at the fifth step of the first attempt."""
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    die = [At(5, lambda: os.kill(os.getpid(), signal.SIGKILL))] if first else [Began(folder / f"began-{RANK}")]
    supervisor, _ = train("momentum_contrast", "layer", folder, epochs=4, callbacks=die, checkpoint_every=2)
    torch.save(supervisor.state_dict(), folder / f"restarted-{RANK}.pt")


def full(folder: Path) -> None:
    """The disk of the first process is full after the third step."""
    filled: list[int] = []
    sys.addaudithook(full_disk(folder / "run", filled))
    fills = [At(3, lambda: filled.append(3), 0)]
    train("rotate_net", "layer", folder / "run", epochs=3, callbacks=fills, checkpoint_every=2)


class Activated(nn.BatchNorm2d):
    """A batch norm with an activation behind it, as timm has them."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class Strange(nn.BatchNorm2d):
    """A batch norm of which nobody knows what it does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 2


def norms(folder: Path, norm: type[nn.Module]) -> None:
    """Two steps of plain gradient descent through such norms."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), norm(8), nn.Conv2d(8, 8, 3, 2), norm(8), nn.AdaptiveAvgPool2d(1))
    supervisor = RotateNetSupervisor(IMAGES, backbone=nn.Sequential(net, nn.Flatten()), predictor=nn.Linear(8, 4))
    supervisor.supervise(
        lr=0.01, optimizer=torch.optim.SGD, epochs=1, batch_size=16, watch=0, name=folder / "run", verbose=False
    )
    torch.save(supervisor.state_dict(), folder / f"activated-{RANK}.pt")


def foreign(folder: Path) -> None:
    """A loader of the user's own, which knows nothing of processes."""

    class Own(RotateNetSupervisor):
        def _init_data_optimizer(self, *given: Any) -> Any:
            _, optimizer, scheduler = super()._init_data_optimizer(*given)
            return DataLoader(self.dataset, 4), optimizer, scheduler

    supervisor = Own(IMAGES, backbone=SmallResNet(width=4, norm_type="layer"))
    supervisor.supervise(epochs=1, batch_size=8, name=folder / "run", verbose=False)


def part(folder: Path, name: str, of: str) -> None:
    """The first part of a training, the second, or the whole."""
    stop = [At(3, interrupt, 0)] if of == "first" else []
    more: dict[str, Any] = {"epochs": 3, "checkpoint_every": 1, "callbacks": [Losses(), *stop]}
    supervisor, _ = train(name, "layer", folder, **more, resume=of == "second")
    torch.save(supervisor.state_dict(), folder / f"{of}-{RANK}.pt")


SCENARIOS: dict[str, Callable[..., object]] = {
    "nan": nan,
    "killed": lambda folder: train_long(folder, At(3, lambda: os.kill(os.getpid(), signal.SIGKILL))),
    "hangs": lambda folder, who: train_long(
        folder, Slow(folder), At(3, lambda: os.kill(os.getpid(), signal.SIGSTOP), int(who))
    ),
    "seeds": lambda folder: train("rotate_net", "layer", folder, seed=RANK),
    "activated": lambda folder: norms(folder, Activated),
    "strange": lambda folder: norms(folder, Strange),
    "foreign": foreign,
    "signal": lambda folder, workers="0": train(
        "rotate_net", "layer", folder, epochs=1000, callbacks=[Slow(folder)], num_workers=int(workers)
    ),
    "uneven": lambda folder: train("rotate_net", "layer", folder, batch_size=15),
    "restart": restart,
    "order": lambda folder: torch.save(order(), folder / f"order-{RANK}.pt"),
    "gradient": lambda folder: torch.save(gradient(), folder / f"gradient-{RANK}.pt"),
    "full": full,
    "part": part,
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    called, *words = sys.argv[1].split(":")
    SCENARIOS[called](Path(sys.argv[2]), *words)
