"""Train one algorithm on unlabelled images, put a linear head on its frozen backbone, and test that.

usage: python test.py rotate_net --data photos/ [--labelled DIR] [--test DIR] [--epochs 2] [--smoke]

Without --labelled only the first step is done. The folders of labelled images have a subfolder for each class.
"""

import argparse

import numpy as np
from torch import nn

from super_selfish.data import open_source
from super_selfish.models import CombinedNet
from super_selfish.supervisors import LabelSupervisor, all_supervisors
from super_selfish.utils import test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("algorithm", choices=sorted(all_supervisors()))
    parser.add_argument("--data", default="dataset", help="folder of unlabelled images (default: dataset)")
    parser.add_argument("--labelled", help="folder of labelled images to train the head on")
    parser.add_argument("--test", help="folder of labelled images to test on (default: that of --labelled)")
    parser.add_argument("--backbone", help="name of a backbone (default: EfficientNet-B0 with a bottleneck)")
    parser.add_argument("--resolution", type=int, help="side in px (default: 225)")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    parser.add_argument("--smoke", action="store_true", help="a few random images instead of folders")
    given = parser.parse_args()
    data, labelled, tested = given.data, given.labelled, given.test or given.labelled
    if given.smoke:
        images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
        data, labelled, tested = images, (images, np.arange(16) % 4), (images, np.arange(16) % 4)

    name = f"store/base_{given.algorithm}"
    supervisor = all_supervisors()[given.algorithm](data, backbone=given.backbone, resolution=given.resolution)
    if given.device is not None:
        supervisor.to(given.device)
    supervisor.supervise(lr=given.lr, epochs=given.epochs, batch_size=given.batch_size, name=name)
    if labelled is None:
        return
    source = open_source(labelled)
    labels = {source.label(index) for index in range(len(source))}
    if None in labels:
        parser.error(f"--labelled {labelled}: a subfolder for each class is needed")
    classes = 1 + max(labels)
    net = CombinedNet(supervisor.get_backbone(), nn.Linear(supervisor.feature_dim, classes))
    LabelSupervisor(net, labelled).supervise(lr=1e-3, epochs=given.epochs, name=f"{name}_head")
    test(net, tested)  # prints the accuracy


if __name__ == "__main__":
    main()
