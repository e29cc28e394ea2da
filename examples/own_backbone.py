"""A network of your own as the backbone, a schedule, and a callback.

usage: python examples/own_backbone.py [FOLDER] [--smoke]
"""

import argparse

import numpy as np
import torch
from torch import nn

import super_selfish
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback


class MyNet(nn.Module):
    """Anything that takes (batch, channels, height, width) and returns a vector or a map."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 7, stride=4, padding=3),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.layers(x).mean((2, 3))


class BestEpoch(Callback):
    """Remember which epoch had the lowest loss."""

    def on_epoch_end(self, run):
        self.entry = min(run.supervisor.history, key=lambda entry: entry["loss"])


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", nargs="?", default="dataset")
parser.add_argument("--smoke", action="store_true", help="random images instead of a folder")
given = parser.parse_args()
images = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), np.uint8) if given.smoke else given.folder
epochs, batch_size = (2, 8) if given.smoke else (30, 64)

supervisor = RotateNetSupervisor(images, backbone=MyNet())
steps = epochs * (len(supervisor.dataset) // batch_size)
best = BestEpoch()
supervisor.supervise(
    lr=0.1,
    optimizer=lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=5e-4, nesterov=True),
    lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
    epochs=epochs,
    batch_size=batch_size,
    clip_grad=5.0,
    callbacks=[best],
    name="store/own_backbone",
)
print(f"lowest loss: {best.entry['loss']:.3f} in epoch {best.entry['epoch']}")

again = super_selfish.load("store/own_backbone", backbone=MyNet())  # the file has the weights, you have the class
print(again)
