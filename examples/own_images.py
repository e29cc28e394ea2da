"""Train on a folder of photographs, then look up which of them are alike.

usage: python examples/own_images.py photos/ [--epochs 50] [--smoke]
"""

import argparse

import numpy as np

from super_selfish.supervisors import RotateNetSupervisor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", nargs="?", default="dataset")
parser.add_argument("--epochs", type=int, default=50)
parser.add_argument("--smoke", action="store_true", help="random images instead of a folder")
given = parser.parse_args()

images, backbone, epochs = given.folder, "resnet18", given.epochs
if given.smoke:
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    backbone, epochs = "small_resnet", 1

supervisor = RotateNetSupervisor(images, backbone=backbone)
supervisor.supervise(lr=1e-3, epochs=epochs, batch_size=32, name="store/own_images")

features, names = supervisor.extract(images)
features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-9
alike = features @ features.T
np.fill_diagonal(alike, -1)
for index in range(min(5, len(names))):
    print(f"{names[index]} looks most like {names[alike[index].argmax()]}")
