"""Pretrain without labels where it is cheap, at 96 px, fine-tune with labels at 224 px, compare with no pretraining.

usage: python examples/fine_tune.py UNLABELLED LABELLED [--smoke]

A fifth of the labelled images is held out. Two networks are judged on it: the pretrained one, and the same one from
scratch, which gets the same labels for as many epochs. Where LABELLED lies in UNLABELLED, the pretraining has seen the
held-out images too, without their labels.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
from torch import nn

from super_selfish.data import open_source
from super_selfish.evaluation import split, test
from super_selfish.models import CombinedNet
from super_selfish.supervisors import LabelSupervisor, MomentumContrastSupervisor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("unlabelled", nargs="?", default="dataset")
parser.add_argument("labelled", nargs="?", default="dataset", help="a folder with a subfolder for each class")
parser.add_argument("--small", type=int, default=96)
parser.add_argument("--large", type=int, default=224)
parser.add_argument("--epochs", type=int, default=50, help="without labels")
parser.add_argument("--tuning", type=int, default=20, help="epochs with labels")
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--smoke", action="store_true", help="random images instead of folders")
given = parser.parse_args()
if given.smoke:
    given.epochs, given.tuning, given.batch, given.small, given.large = 1, 1, 8, 32, 64
    given.unlabelled = images = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), np.uint8)
    labels = np.arange(24) % 2
else:
    source = open_source(given.labelled)
    images = np.array([str(Path(given.labelled, source.name(index))) for index in range(len(source))])
    labels = np.array([source.label(index) for index in range(len(source))])
kept, held_out = split(labels, test=0.2)

supervisor = MomentumContrastSupervisor(
    given.unlabelled, resolution=given.small, backbone="resnet18", queue_size=512, m=0.9 if given.smoke else 0.99
)
fresh = copy.deepcopy(supervisor.get_backbone())
supervisor.supervise(recipe="auto", epochs=given.epochs, batch_size=given.batch, name="store/pretrained")

# A backbone that averages its map takes images of any size; larger ones show it the same things larger. Trained weights
# get a low rate, fresh ones the recipe's own: a low one would hold them back.
starts = {"fine_tuned": (supervisor.get_backbone(), {"lr": 1e-4}), "from_scratch": (fresh, {})}
print(f"Accuracy on images that were held out, after {given.tuning} epochs with {len(kept)} labels:")
for start, (backbone, rate) in starts.items():
    net = CombinedNet(backbone, nn.Linear(512, 1 + int(labels.max())))
    tuned = LabelSupervisor(net, (images[kept], labels[kept]), resolution=given.large, finetune=True)
    tuned.supervise(recipe="auto", epochs=given.tuning, batch_size=given.batch, name=f"store/{start}", **rate)
    tuned.get_backbone()  # which from now on says that images are to be that large
    print(f"{start}: {test(net, (images[held_out], labels[held_out]), verbose=False)}")
