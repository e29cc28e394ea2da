"""Does MoCo v2 learn? Ten minutes on two cores: 10,000 images of 32 px, a small network, three seeds.

Each seed draws its own initial weights; the features are scored before and after training by kNN (k = 20, t = .07) and
by a linear probe, both fitted on the 10,000 labelled training images and tested on 2,000 others.

    python benchmarks/learn_momentum_contrast.py [--seeds 0 1 2] [--epochs 18]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from networks import SmallNet, scores
from torch.optim.lr_scheduler import OneCycleLR

from super_selfish.data import MoCoRecipe
from super_selfish.supervisors import MomentumContrastSupervisor

DATA = Path(os.environ.get("SUPER_SELFISH_DATA", Path(__file__).parents[2] / "shared" / "data")) / "cifar10_sub.npz"
BATCH, LR = 64, 3e-3


def train(seed: int, epochs: int, images: dict[str, np.ndarray]) -> dict[str, float]:
    torch.manual_seed(seed)
    supervisor = MomentumContrastSupervisor(
        images["x_train"],
        backbone=SmallNet(),
        queue_size=2048,
        m=0.99,
        views=MoCoRecipe(blur=0.0),  # as the authors do at 32 px
    )
    before = scores(supervisor.get_backbone(), images)
    steps = epochs * (len(images["x_train"]) // BATCH)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        supervisor.supervise(
            lr=LR,
            optimizer=partial(torch.optim.AdamW, weight_decay=1e-4),
            lr_scheduler=lambda optimizer: OneCycleLR(optimizer, LR, total_steps=steps, pct_start=0.2),
            epochs=epochs,
            batch_size=BATCH,
            seed=seed,
            name=Path(folder, "moco"),
        )
    seconds = time.perf_counter() - begin
    after = scores(supervisor.get_backbone(), images)
    return dict(
        zip(
            ("knn before", "probe before", "knn after", "probe after", "seconds"),
            (*before, *after, seconds),
            strict=True,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=18)
    options = parser.parse_args()
    if not DATA.is_file():
        sys.exit(f"Skipped: there is no {DATA}. Set SUPER_SELFISH_DATA to the folder that holds cifar10_sub.npz.")
    images = dict(np.load(DATA))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.epochs} epochs\n")
    print("| seed | kNN untrained → trained | linear probe untrained → trained | minutes |")
    print("|---|---|---|---|")
    gains = []
    for seed in options.seeds:
        row = train(seed, options.epochs, images)
        gains.append((row["knn after"] - row["knn before"], row["probe after"] - row["probe before"]))
        print(
            f"| {seed} | {row['knn before']:.3f} → {row['knn after']:.3f} (+{100 * gains[-1][0]:.1f}) "
            f"| {row['probe before']:.3f} → {row['probe after']:.3f} (+{100 * gains[-1][1]:.1f}) "
            f"| {row['seconds'] / 60:.1f} |",
            flush=True,
        )
    if len(gains) > 1:
        means = [statistics.mean(column) for column in zip(*gains, strict=True)]
        spreads = [statistics.stdev(column) for column in zip(*gains, strict=True)]
        parts = [f"+{100 * mean:.1f} ± {100 * spread:.1f}" for mean, spread in zip(means, spreads, strict=True)]
        print(f"| mean ± sd | {parts[0]} | {parts[1]} | |")


if __name__ == "__main__":
    main()
