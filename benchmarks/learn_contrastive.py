"""Do the contrastive algorithms learn? Five minutes each on two cores: 10,000 images of 32 px and one small network.

Each seed draws its own initial weights; the features are scored before and after training by kNN (k = 20, t = .07) and
by a linear probe, both fitted on the 10,000 labelled training images and tested on 2,000 others.

    python benchmarks/learn_contrastive.py [--only byol pirl] [--seeds 0 1 2] [--epochs N] [--set t=0.1]
"""

from __future__ import annotations

import argparse
import ast
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from networks import SmallNet, scores
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from super_selfish.data import CPCRecipe, MoCoRecipe, PIRLColours
from super_selfish.losses import CPCLoss
from super_selfish.models import LayerNorm2d
from super_selfish.supervisors import all_supervisors

DATA = Path(os.environ.get("SUPER_SELFISH_DATA", Path(__file__).parents[2] / "shared" / "data")) / "cifar10_sub.npz"


class Training(NamedTuple):
    """How one algorithm is trained here: its arguments, and what ``supervise`` gets."""

    epochs: int
    arguments: Mapping[str, Any] = MappingProxyType({})
    lr: float = 3e-3
    batch_size: int = 64
    clip_grad: float | None = None
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d


SHARP = MoCoRecipe(blur=0.0)  # as authors do at 32 px
TRAININGS = {
    "momentum_contrast": Training(22, {"queue_size": 2048, "m": 0.99, "views": SHARP}),
    "instance_discrimination": Training(30, {"n": 2048, "t": 0.1, "bank_init": "forward", "views": SHARP}),
    "byol": Training(16, {"m": 0.97, "hidden_size": 512, "views": (SHARP, SHARP)}),
    "contrastive_multiview_coding": Training(
        10, {"n": 2048, "t": 0.1, "memory_m": 1.0, "bank_init": "forward"}, lr=4e-4
    ),
    "contrastive_predictive_coding": Training(
        3,
        {
            "half_crop_size": 6,
            "patch_size": 12,
            "embedding_size": 64,
            "loss": CPCLoss(scale=1.0),
            "views": CPCRecipe(1, elastic=0.0),
        },
        lr=2e-3,
        batch_size=32,
        clip_grad=0.01,
        norm=LayerNorm2d,  # batch norm would let patches tell of each other
    ),
    "pirl": Training(
        11,
        {
            "n": 2048,
            "t": 0.1,
            "bank_init": "forward",
            "views": SHARP,
            "patch_views": PIRLColours((0.4, 0.4, 0.4, 0.1), photometric=0.0),
        },
    ),
}


def train(name: str, seed: int, how: Training, images: dict[str, np.ndarray]) -> tuple[float, ...]:
    """KNN and probe before, kNN and probe after, minutes."""
    torch.manual_seed(seed)
    supervisor = all_supervisors()[name](images["x_train"], backbone=SmallNet(how.norm), **how.arguments)
    before = scores(supervisor.get_backbone(), images)
    steps = how.epochs * (len(images["x_train"]) // how.batch_size)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        supervisor.supervise(
            lr=how.lr,
            optimizer=partial(torch.optim.AdamW, weight_decay=1e-4),
            lr_scheduler=lambda optimizer: OneCycleLR(optimizer, how.lr, total_steps=steps, pct_start=0.2),
            epochs=how.epochs,
            batch_size=how.batch_size,
            clip_grad=how.clip_grad,
            seed=seed,
            name=Path(folder, name),
        )
    minutes = (time.perf_counter() - begin) / 60
    after = scores(supervisor.get_backbone(), images)
    losses = [entry["loss"] for entry in supervisor.history]
    print(f"{name}: losses {' '.join(f'{loss:.3f}' for loss in losses)}", file=sys.stderr)
    if os.environ.get("SUPER_SELFISH_PREVIEWS"):
        supervisor.preview(path=Path(os.environ["SUPER_SELFISH_PREVIEWS"], f"{name}.png"))
    return (*before, *after, minutes)


def row(name: str, seed: str, columns: tuple[float, ...], epochs: int) -> str:
    """A line of the table."""
    knn, probe, knn_after, probe_after, minutes = columns
    return (
        f"| `{name}` | {seed} | {knn:.3f} → {knn_after:.3f} ({100 * (knn_after - knn):+.1f}) "
        f"| {probe:.3f} → {probe_after:.3f} ({100 * (probe_after - probe):+.1f}) | {epochs} | {minutes:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=sorted(TRAININGS), default=list(TRAININGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="in place of those that take five minutes")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="arguments in place of those here")
    options = parser.parse_args()
    if not DATA.is_file():
        sys.exit(f"Skipped: there is no {DATA}. Set SUPER_SELFISH_DATA to the folder that holds cifar10_sub.npz.")
    images = dict(np.load(DATA))
    given = {name: ast.literal_eval(value) for name, _, value in (pair.partition("=") for pair in options.set)}
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__} {given or ''}\n")
    print("| | seed | kNN untrained → trained | linear probe untrained → trained | epochs | minutes |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in options.only:
        how = TRAININGS[name]
        changed = {key: given[key] for key in given.keys() & set(Training._fields)}
        own = {key: value for key, value in given.items() if key not in changed}
        how = how._replace(**changed, arguments={**how.arguments, **own})
        how = how._replace(epochs=options.epochs or how.epochs)
        gains = []
        for seed in options.seeds:
            columns = train(name, seed, how, images)
            gains.append((columns[2] - columns[0], columns[3] - columns[1]))
            print(row(name, str(seed), columns, how.epochs), flush=True)
        if len(gains) > 1:
            parts = [
                f"{100 * statistics.mean(g):+.1f} ± {100 * statistics.stdev(g):.1f}" for g in zip(*gains, strict=True)
            ]
            print(f"| `{name}` | mean ± sd | {parts[0]} | {parts[1]} | | |", flush=True)


if __name__ == "__main__":
    main()
