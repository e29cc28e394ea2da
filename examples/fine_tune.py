"""Pretrain without labels where it is cheap, at 96 px, and fine-tune with labels at 224 px.

usage: python examples/fine_tune.py UNLABELLED LABELLED [--smoke]
"""

import argparse

import numpy as np
from torch import nn

from super_selfish.models import CombinedNet
from super_selfish.supervisors import LabelSupervisor, MomentumContrastSupervisor
from super_selfish.utils import test

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("unlabelled", nargs="?", default="dataset")
parser.add_argument("labelled", nargs="?", default="dataset", help="a folder with a subfolder for each class")
parser.add_argument("--classes", type=int, default=10)
parser.add_argument("--small", type=int, default=96)
parser.add_argument("--large", type=int, default=224)
parser.add_argument("--epochs", type=int, default=50)
parser.add_argument("--smoke", action="store_true", help="random images instead of folders")
given = parser.parse_args()
unlabelled, labelled, epochs, batch = given.unlabelled, given.labelled, given.epochs, 64
small, large = given.small, given.large
if given.smoke:
    unlabelled = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), np.uint8)
    labelled, epochs, batch, small, large = (unlabelled, np.arange(24) % given.classes), 1, 8, 32, 64

supervisor = MomentumContrastSupervisor(
    unlabelled, resolution=small, backbone="resnet18", queue_size=512, m=0.9 if given.smoke else 0.99
)
supervisor.supervise(recipe="auto", epochs=epochs, batch_size=batch, name="store/pretrained")

# A backbone that averages its map takes images of any size; larger ones show it the same things larger.
net = CombinedNet(supervisor.get_backbone(), nn.Linear(512, given.classes))
tuned = LabelSupervisor(net, labelled, resolution=large, finetune=True)
tuned.supervise(recipe="auto", lr=1e-4, epochs=max(1, epochs // 5), batch_size=batch, name="store/tuned")
print(f"accuracy on the images that it was tuned on: {test(net, labelled):.3f}")
