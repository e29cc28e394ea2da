"""Does it help? Few labels, on features of an untrained and of a trained network, several draws each.

usage: python examples/transfer.py UNLABELLED LABELLED [--smoke]
"""

import argparse

import numpy as np

from super_selfish.evaluation import extract_features, knn, linear_probe, quality, split
from super_selfish.supervisors import RotateNetSupervisor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("unlabelled", nargs="?", default="dataset")
parser.add_argument("labelled", nargs="?", default="dataset", help="a folder with a subfolder for each class")
parser.add_argument("--epochs", type=int, default=50)
parser.add_argument("--smoke", action="store_true", help="random images instead of folders")
given = parser.parse_args()
unlabelled, labelled, epochs = given.unlabelled, given.labelled, given.epochs
if given.smoke:
    unlabelled = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    labelled, epochs = (unlabelled, np.arange(40) % 2), 1

supervisor = RotateNetSupervisor(unlabelled, backbone="small_resnet")
before = extract_features(supervisor.get_backbone(), labelled)
supervisor.supervise(lr=1e-3, epochs=epochs, batch_size=32, name="store/transfer")
after = extract_features(supervisor.get_backbone(), labelled)

for when, (x, y) in (("untrained", before), ("trained", after)):
    probes = []
    for seed in range(3):
        train, test = split(y, test=0.5, seed=seed)
        probes.append(linear_probe(x[train], y[train], x[test], y[test], seed=seed))
    print(f"{when}: linear probe {np.mean(probes):.3f} ± {np.std(probes):.3f}, {probes[0].protocol}")
    print(f"{when}: {knn(x, y)}")
    print(f"{when}: {quality(x)}")
