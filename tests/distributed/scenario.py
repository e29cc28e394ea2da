"""One process of a training in which an event occurs.

usage: python scenario.py SCENARIO[:ARGUMENT...] FOLDER
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
from worker import IMAGES, Losses, heads, in_double, train

from super_selfish.distributed import gather_with_gradient, join, own_part, world
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor, all_supervisors
from super_selfish.training import Callback

RANK = int(os.environ.get("RANK", 0))


class At(Callback):
    """Calls a function once, after a step, in one process."""

    def __init__(self, step: int, do: Any, rank: int = 1) -> None:
        self.step, self.do, self.rank = step, do, rank

    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == self.step and self.rank == RANK:
            self.do()


class Slow(Callback):
    """Writes the step to a file, and sleeps."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"step-{RANK}"

    def on_step_end(self, run: Any) -> None:
        self.path.write_text(str(run.train_state.step))
        time.sleep(0.02)


class RecordingDataset(Dataset[Any]):
    """A data set that records the indices of the images that are read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return IMAGES[index]


class Steps(Callback):
    """Records the images of each step; images that were read before training are discarded."""

    def __init__(self, data: RecordingDataset) -> None:
        self.data = data
        self.indices: list[Sequence[int]] = []

    def on_train_begin(self, run: Any) -> None:
        self.data.read.clear()

    def on_step_end(self, run: Any) -> None:
        self.indices.append(list(self.data.read))
        self.data.read.clear()


def order() -> list[Sequence[int]]:
    """Indices of the images that this process reads in each step of two epochs."""
    data = RecordingDataset()
    recorder = Steps(data)
    supervisor = RotateNetSupervisor(data, backbone=SmallResNet(width=4, norm_type="layer"))
    supervisor.supervise(epochs=2, batch_size=8, watch=0, callbacks=[recorder], verbose=False, checkpoint_every=0)
    return recorder.indices


def gradient() -> Tensor:
    """Gradient of a contrastive loss over the rows of all processes, with respect to the rows of this process."""
    join(on_gpu=False)
    rows = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = own_part(rows).clone().requires_grad_()
    every = functional.normalize(gather_with_gradient(own), dim=1)
    anchors = torch.arange(len(own)) + RANK * len(own)
    positives = anchors ^ 1  # rows 2i and 2i + 1 are a positive pair
    loss = functional.cross_entropy(every[anchors] @ every.T / 0.5, positives)
    (found,) = torch.autograd.grad(loss / world(), own)
    return found


def full_disk(folder: Path, filled: Sequence[int]) -> Any:
    """An audit hook: the disk is full for rank 0 once ``filled`` is not empty; other ranks must not write."""

    def hook(event: str, values: Any) -> None:
        writes = event in {"os.mkdir", "os.rename", "os.remove", "os.link", "os.truncate"}
        writes |= event == "open" and isinstance(values[1], str) and any(mode in values[1] for mode in "wax+")
        if not writes or str(folder) not in str(values[0]):
            return
        if RANK == 0 and filled and event in {"os.mkdir", "open"}:
            raise OSError(errno.ENOSPC, "No space left on device")
        if RANK:
            raise AssertionError(f"rank {RANK} writes to the disk: {event} {values[0]}")

    return hook


class FirstStep(Callback):
    """Writes the restart attempt and its first step to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_step_end(self, run: Any) -> None:
        if not self.path.exists():
            self.path.write_text(f"{os.environ['TORCHELASTIC_RESTART_COUNT']} {run.train_state.step}")


def interrupt() -> None:
    raise KeyboardInterrupt


def train_long(folder: Path, *callbacks: Callback) -> None:
    train("rotate_net", "layer", folder, epochs=1000, checkpoint_every=0, callbacks=[*callbacks])


def nan(folder: Path) -> None:
    """The loss of rank 1 is NaN at the third step."""
    forward, calls = RotateNetSupervisor._forward, []

    def broken(self: Any, data: Any) -> Any:
        calls.append(1)
        return forward(self, data) * (float("nan") if RANK == 1 and len(calls) == 3 else 1.0)

    RotateNetSupervisor._forward = broken
    train("rotate_net", "layer", folder)


def restart(folder: Path) -> None:
    """Rank 1 is killed at the fifth step of the first attempt."""
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    callbacks = (
        [At(5, lambda: os.kill(os.getpid(), signal.SIGKILL))] if first else [FirstStep(folder / f"began-{RANK}")]
    )
    supervisor, _ = train("momentum_contrast", "layer", folder, epochs=4, callbacks=callbacks, checkpoint_every=2)
    torch.save(supervisor.state_dict(), folder / f"restarted-{RANK}.pt")


def full(folder: Path) -> None:
    """The disk is full for rank 0 after the third step."""
    filled: list[int] = []
    sys.addaudithook(full_disk(folder / "run", filled))
    callbacks = [At(3, lambda: filled.append(3), 0)]
    train("rotate_net", "layer", folder / "run", epochs=3, callbacks=callbacks, checkpoint_every=2)


class Activated(nn.BatchNorm2d):
    """A batch norm followed by an activation, as in timm."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class Strange(nn.BatchNorm2d):
    """A batch norm that overrides forward()."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 2


def norms(folder: Path, norm: type[nn.Module]) -> None:
    """Two steps of SGD with a type of batch norm."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), norm(8), nn.Conv2d(8, 8, 3, 2), norm(8), nn.AdaptiveAvgPool2d(1))
    supervisor = RotateNetSupervisor(IMAGES, backbone=nn.Sequential(net, nn.Flatten()), predictor=nn.Linear(8, 4))
    supervisor.supervise(
        lr=0.01, optimizer=torch.optim.SGD, epochs=1, batch_size=16, watch=0, name=folder / "run", verbose=False
    )
    torch.save(supervisor.state_dict(), folder / f"activated-{RANK}.pt")


def custom_loader(folder: Path) -> None:
    """A custom DataLoader without sharding over processes."""

    class CustomLoader(RotateNetSupervisor):
        def _init_data_optimizer(self, *arguments: Any) -> Any:
            _, optimizer, scheduler = super()._init_data_optimizer(*arguments)
            return DataLoader(self.dataset, 4), optimizer, scheduler

    supervisor = CustomLoader(IMAGES, backbone=SmallResNet(width=4, norm_type="layer"))
    supervisor.supervise(epochs=1, batch_size=8, name=folder / "run", verbose=False)


def by_hand(folder: Path, name: str, synchronises: str) -> None:
    """Two epochs of updates by hand, in float64."""

    class ByHand(all_supervisors()[name]):  # type: ignore[misc]
        def _update(self, loss: Tensor, optimizer: Any, lr_scheduler: Any) -> None:
            loss.backward()
            if synchronises == "yes":
                self.sync_gradients()
            with torch.no_grad():
                for weight in self.trainable_parameters():
                    if weight.grad is not None:  # not linear: updates of single processes have another mean
                        weight -= 0.01 * weight.grad / (1 + weight.grad.norm())
            self.stepped()

    torch.manual_seed(7)
    own = {} if name == "jigsaw_net" else heads(name, "layer")
    supervisor = ByHand(IMAGES, backbone=SmallResNet(width=4, norm_type="layer"), **own)
    in_double()  # the constructor calls the networks with float32 images
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 16, "watch": 0, "verbose": False, "callbacks": [Losses()]}
    supervisor.supervise(optimizer=torch.optim.SGD, name=folder / "run", **settings)
    losses = [entry["loss"] for entry in supervisor.history]
    torch.save({"state": supervisor.state_dict(), "losses": losses}, folder / f"hand-{world()}-{RANK}.pt")


def part(folder: Path, name: str, of: str) -> None:
    """The first part, the second part or all of a training."""
    stop = [At(3, interrupt, 0)] if of == "first" else []
    more: dict[str, Any] = {"epochs": 3, "checkpoint_every": 1, "callbacks": [Losses(), *stop]}
    supervisor, _ = train(name, "layer", folder, **more, resume=of == "second")
    torch.save(supervisor.state_dict(), folder / f"{of}-{RANK}.pt")


SCENARIOS: dict[str, Callable[..., object]] = {
    "nan": nan,
    "killed": lambda folder: train_long(folder, At(3, lambda: os.kill(os.getpid(), signal.SIGKILL))),
    "hangs": lambda folder, rank: train_long(
        folder, Slow(folder), At(3, lambda: os.kill(os.getpid(), signal.SIGSTOP), int(rank))
    ),
    "seeds": lambda folder: train("rotate_net", "layer", folder, seed=RANK),
    "activated": lambda folder: norms(folder, Activated),
    "strange": lambda folder: norms(folder, Strange),
    "custom_loader": custom_loader,
    "signal": lambda folder, workers="0": train(
        "rotate_net", "layer", folder, epochs=1000, callbacks=[Slow(folder)], num_workers=int(workers)
    ),
    "uneven": lambda folder: train("rotate_net", "layer", folder, batch_size=15),
    "restart": restart,
    "order": lambda folder: torch.save(order(), folder / f"order-{RANK}.pt"),
    "gradient": lambda folder: torch.save(gradient(), folder / f"gradient-{RANK}.pt"),
    "full": full,
    "part": part,
    "by_hand": by_hand,
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    scenario, *arguments = sys.argv[1].split(":")
    SCENARIOS[scenario](Path(sys.argv[2]), *arguments)
