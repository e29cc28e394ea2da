"""The demo's training: a small network that learns to tell how an image was turned."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from super_selfish.cli.demo_images import Images
from super_selfish.engine.loop.run import Run
from super_selfish.pretext.rotation import RotateDataset
from super_selfish.reports import Steps
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback

WIDTH = 16
BATCH = 32
LEARNING_RATE = 4e-3


class TinyNet(nn.Module):
    """A backbone of the demo's own, as any ``nn.Module`` can be one: five convolutions, averaged over space.

    Args:
        width: Channels of the first convolution; the last has eight times as many.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in (
            (3, width, 5, 2),
            (width, 2 * width, 3, 1),
            (2 * width, 4 * width, 3, 2),
            (4 * width, 4 * width, 3, 1),
            (4 * width, 8 * width, 3, 2),
        ):
            convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, 3, height, width) to features (batch, 8 · width)."""
        maps = cast(Tensor, self.layers(x.contiguous(memory_format=torch.channels_last)))
        return maps.mean((2, 3))


class Turned:
    """Images that were not trained on, turned by every angle, and what the network says about them.

    Args:
        images: The images (count, height, width, 3).
    """

    def __init__(self, images: Images) -> None:
        exercises = RotateDataset(images)
        self.angles = exercises.rotations
        self.inputs = torch.stack([exercises[index][0] for index in range(len(exercises))])

    def answers(self, supervisor: RotateNetSupervisor) -> npt.NDArray[np.int64]:
        """Which angle the network takes each for: ids (count, angles); the right ones are 0, 1, 2, 3."""
        mode = supervisor.training
        supervisor.eval()
        with torch.no_grad():
            pieces = torch.split(self.inputs.flatten(0, 1), 256)
            said = [supervisor.model(piece.to(supervisor.device)).argmax(1).cpu() for piece in pieces]
        supervisor.train(mode)
        return torch.cat(said).reshape(len(self.inputs), -1).numpy()

    def accuracy(self, supervisor: RotateNetSupervisor) -> float:
        """The share of angles that are told right."""
        return float((self.answers(supervisor) == np.arange(len(self.angles))).mean())


class _Exam(Callback):
    """The accuracy on the turned test images, before training and after each epoch."""

    def __init__(self, turned: Turned) -> None:
        self.turned = turned
        self.accuracy: list[tuple[float, float]] = []

    def on_train_begin(self, run: Run) -> None:
        self._ask(run)

    def on_epoch_end(self, run: Run) -> None:
        self._ask(run)

    def _ask(self, run: Run) -> None:
        supervisor: Any = run.supervisor
        self.accuracy.append((float(run.finished_epochs), self.turned.accuracy(supervisor)))


class Course(NamedTuple):
    """How the training went: the loss every few steps, and the accuracy after each epoch."""

    loss: list[tuple[float, float]]
    accuracy: list[tuple[float, float]]


def untrained(images: Images, seed: int) -> RotateNetSupervisor:
    """The network with the weights that the seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RotateNetSupervisor(images, backbone=TinyNet(), crop=None, flip=0)


def train(supervisor: RotateNetSupervisor, turned: Turned, epochs: int, seed: int, name: Path) -> Course:
    """Train a fixed number of epochs and store the weights under ``name``."""
    steps, exam = Steps(every=20), _Exam(turned)
    images = len(supervisor.dataset)
    total = epochs * max(1, images // min(BATCH, images))
    supervisor.supervise(
        lr=LEARNING_RATE,
        epochs=epochs,
        batch_size=BATCH,
        name=name,
        lr_scheduler=lambda optimizer: OneCycleLR(optimizer, LEARNING_RATE, total_steps=total, pct_start=0.25),
        seed=seed,
        callbacks=[steps, exam],
        checkpoint_every=0,
    )
    return Course(steps.points, exam.accuracy)
