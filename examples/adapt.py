"""Adapt a network that was trained with labels to images of another kind, without labels of these.

usage: python examples/adapt.py LABELLED OTHERS [--smoke]
       python examples/adapt.py cifar10_sub.npz clothing10_48.npz --resolution 48    (x_train and y_train of each)

Trains a small network on the classes of LABELLED, goes on from its weights on OTHERS by MoCo v2 with recipe="adapt",
and compares on OTHERS, whose folders are used as classes for the scores alone: the network as it was, adapted, and
trained on OTHERS from scratch.
"""

import argparse

import numpy as np
from torch import nn

from super_selfish.evaluation import extract_features, knn, linear_probe, split
from super_selfish.models import CombinedNet, named_backbone
from super_selfish.supervisors import LabelSupervisor, MomentumContrastSupervisor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("labelled", nargs="?", default="dataset", help="a folder with a subfolder for each class, or .npz")
parser.add_argument("others", nargs="?", default="others", help="another one")
parser.add_argument("--classes", type=int, default=10, help="of the labelled images")
parser.add_argument("--resolution", type=int, default=96)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--smoke", action="store_true", help="random images instead of folders")
given = parser.parse_args()


def opened(name):
    """A folder as it is; of a file, images and labels."""
    if not name.endswith(".npz"):
        return name
    arrays = np.load(name)
    return arrays["x_train"], arrays["y_train"]


epochs, size, batch = given.epochs, given.resolution, 64
if given.smoke:
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    labelled, others = (images, np.arange(40) % given.classes), (images[..., 0], np.arange(40) % 2)
    epochs, size, batch = 1, 32, 8
else:
    labelled, others = opened(given.labelled), opened(given.others)

net = CombinedNet(named_backbone("small_resnet"), nn.Linear(256, given.classes))
teacher = LabelSupervisor(net, labelled, finetune=True, resolution=size)
teacher.supervise(recipe="auto", epochs=epochs, batch_size=batch, name="store/teacher")

unlabelled = others if isinstance(others, str) else others[0]
common = {"backbone": "small_resnet", "resolution": size, "queue_size": 512, "m": 0.99}
adapted = MomentumContrastSupervisor(unlabelled, weights="store/teacher", **common)  # the stem follows the channels
before = extract_features(adapted.get_backbone(), others)
adapted.supervise(recipe="adapt", epochs=epochs, batch_size=batch, name="store/adapted")
fresh = MomentumContrastSupervisor(unlabelled, **common)
fresh.supervise(recipe="auto", epochs=epochs, batch_size=batch, name="store/fresh")

rows = {
    "as it was": before,
    "adapted": extract_features(adapted.get_backbone(), others),
    "from scratch": extract_features(fresh.get_backbone(), others),
}
for name, (x, y) in rows.items():
    train, test = split(y, test=0.5, seed=0)
    probe = linear_probe(x[train], y[train], x[test], y[test], seed=0)
    print(f"{name:>12}: linear probe {probe:.3f}, {knn(x, y)}")
