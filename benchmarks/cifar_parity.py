"""MoCo v2 and BYOL on CIFAR-10 by the protocol for which lightly publishes kNN accuracies of .838 and .869.

The protocol: ResNet-18 with a 3×3 stem without max pooling, 32 px, 200 epochs, batches of 128, SGD with a learning rate
of 0.06, momentum 0.9 and weight decay 5e-4 under a cosine schedule, views without blur, kNN with k = 200 and t = 0.1.
Meant for a GPU, where 200 epochs take hours; a training that was stopped continues. Accuracies are printed every ten
epochs, and written to build/benchmarks/cifar_parity.json at the end.

    python benchmarks/cifar_parity.py [--data cifar10_sub.npz | --cifar FOLDER] [--epochs 200] [--only byol]
                                      [--device cuda] [--precision bf16] [--seed 0]

CIFAR is the folder of torchvision's CIFAR10 data set, which is not downloaded. With fewer than its 50,000 images,
accuracies cannot be compared with the published ones, and the output says so.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning import SHARED
from learning_images import read
from torch import nn
from torchvision.datasets import CIFAR10
from torchvision.models import resnet18

from super_selfish.data import MoCoTransform
from super_selfish.evaluation import extract_features, knn
from super_selfish.models import Classification
from super_selfish.supervisors import BYOLSupervisor, MomentumContrastSupervisor, Supervisor
from super_selfish.training import Callback

ROOT = Path(__file__).parents[1]
PUBLISHED = {"momentum_contrast": 0.838, "byol": 0.869}
FULL = 50_000  # training images of CIFAR-10
VIEWS = MoCoTransform(scale=(0.08, 1.0), blur=0.0)
OPTIMIZER = functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=5e-4)
Images = dict[str, np.ndarray]


def small_resnet18() -> nn.Module:
    """ResNet-18 for 32 px: (batch, 3, 32, 32) to (batch, 512)."""
    network = resnet18()
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool, network.fc = nn.Identity(), nn.Identity()
    return network


def supervisor_of(name: str, images: np.ndarray) -> Supervisor:
    if name == "byol":
        return BYOLSupervisor(images, backbone=small_resnet18(), embedding_size=256, hidden_size=1024, views=VIEWS)
    head = Classification([512, 512, 128], activation=nn.ReLU, batchnorm=False)
    return MomentumContrastSupervisor(
        images, backbone=small_resnet18(), predictor=head, queue_size=4096, m=0.99, t=0.1, symmetric=True, views=VIEWS
    )


def accuracy(network: nn.Module, images: Images) -> float:
    x, y = extract_features(network, (images["x_train"], images["y_train"]))
    test_x, test_y = extract_features(network, (images["x_test"], images["y_test"]))
    return float(knn(x, y, test_x, test_y, k=200, t=0.1))


class Report(Callback):
    """Print the kNN accuracy every ten epochs."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def on_epoch_end(self, run: Any) -> None:
        if (epochs := len(run.supervisor.history)) % 10 == 0:
            print(f"epoch {epochs}: kNN {accuracy(run.supervisor.get_backbone(), self.images):.4f}", flush=True)


def measure(name: str, images: Images, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(options.seed)
    supervisor = supervisor_of(name, images["x_train"]).to(options.device)
    begin = time.perf_counter()
    supervisor.supervise(
        lr=0.06, optimizer=OPTIMIZER, lr_scheduler="cosine", epochs=options.epochs, batch_size=128, seed=options.seed,
        precision=options.precision, num_workers=options.workers, resume="auto", callbacks=[Report(images)],
        name=options.folder / f"{name}-{len(images['x_train'])}-{options.epochs}-{options.seed}",
    )  # fmt: skip
    minutes = (time.perf_counter() - begin) / 60
    row = {"algorithm": name, "images": len(images["x_train"]), "epochs": options.epochs, "seed": options.seed}
    return row | {"knn": accuracy(supervisor.get_backbone(), images), "minutes": minutes, "device": options.device}


def cifar(folder: Path) -> Images:
    """The images of torchvision's data set."""
    images: Images = {}
    for part, train in (("train", True), ("test", False)):
        data = CIFAR10(folder, train=train)
        images |= {f"x_{part}": data.data, f"y_{part}": np.array(data.targets)}
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="cifar10_sub.npz", help="x_train, y_train, x_test, y_test (%(default)s)")
    parser.add_argument("--cifar", type=Path, help="folder of torchvision's CIFAR10, in place of --data")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="32", choices=["32", "bf16", "16"])
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "cifar_parity", help="of the trainings")
    parser.add_argument("--only", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    options = parser.parse_args()
    file = Path(options.data) if Path(options.data).is_file() else SHARED / options.data
    if options.cifar is None and not file.is_file():
        print(f"Skipped: there is no {file}. Pass --cifar or --data, or set SUPER_SELFISH_DATA.")
        return
    images = read(file) if options.cifar is None else cifar(options.cifar)
    rows = [measure(name, images, options) for name in options.only]
    comparable = len(images["x_train"]) == FULL and options.epochs == 200
    print(f"\n{len(images['x_train']):,} images, {options.epochs} epochs, seed {options.seed}, {options.device}\n")
    print("| algorithm | kNN | published by lightly | minutes |\n|---|---|---|---|")
    for row in rows:
        published = f"{PUBLISHED[row['algorithm']]:.3f}"
        print(f"| {row['algorithm']} | {row['knn']:.4f} | {published} | {row['minutes']:.1f} |")
    if not comparable:
        print(f"\nNot comparable with the published accuracies: those are of {FULL:,} images and 200 epochs.")
    target = ROOT / "build" / "benchmarks" / "cifar_parity.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"torch": torch.__version__, "results": rows}, indent=1))


if __name__ == "__main__":
    main()
