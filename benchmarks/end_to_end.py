"""Whole training steps of MoCo v2 and BYOL: ``supervise()`` and the plain loop that lightly's documentation shows.

Both train torchvision's ResNet-18 with the same heads (lightly's), optimizer (SGD), batch, queue, momentum and number
of processes that read, from the same images in memory. Rounds alternate; in each, a side does some untimed steps and
then the timed ones, and stops in the middle of an epoch, so that reading ahead never comes to its end.

    python benchmarks/end_to_end.py [--rounds 3] [--sizes 32 96 224] [--workers 0] [--steps N] [--batch N]

lightly's heads are passed as the ``nn.Sequential`` in them: modules of other classes are called on one group after the
other, because their code may recompute layers, which costs time at 32 px.

As it comes, our MoCo v2 normalises in groups of 32 images at most, which lightly's loop does not do and which costs
time: ``--algorithms "MoCo v2, one group"`` leaves it out. ``--profile [SIZE]`` tells where the time of a MoCo v2 step
goes, on one core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from peers import run_with

run_with("lightly")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from lightly_side import (  # noqa: E402
    Follower,
    byol_heads,
    byol_loop,
    byol_views,
    loader_of,
    moco_head,
    moco_loop,
    moco_views,
)
from profiling import profile  # noqa: E402
from timing import Spread, introduce, parser, ratios, table, table_row, take_turns, write  # noqa: E402
from torch import nn  # noqa: E402
from views import MEAN, STD, images_for  # noqa: E402

from super_selfish.images.functional import fit  # noqa: E402
from super_selfish.supervisors import BYOLSupervisor, MomentumContrastSupervisor, Supervisor  # noqa: E402
from super_selfish.training import Callback  # noqa: E402

UNTIMED, SPARE = 2, 6  # steps before the timed ones, and batches behind them that may be read ahead
LR, M, T, QUEUE = 0.06, 0.996, 0.2, 4096
ONE_GROUP = "MoCo v2, one group"


class Plan(NamedTuple):
    """Batch and timed steps of a round; three rounds have at least 20 of them."""

    batch: int
    steps: int


PLANS = {32: Plan(64, 20), 96: Plan(32, 10), 224: Plan(16, 7)}


class Enough(Exception):
    """Ends a training in the middle."""


class Times(Callback):
    """Notes when each step ended, and ends the training after a number of them."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.ends: list[float] = []

    def on_step_end(self, run: Any) -> None:  # noqa: ARG002 - the protocol's
        self.ends.append(time.perf_counter())
        if len(self.ends) == self.steps:
            raise Enough

    def seconds(self) -> float:
        return self.ends[-1] - self.ends[UNTIMED - 1]


def images_of(size: int, count: int) -> np.ndarray:
    """Square images, a little larger than the views where those are large, repeated up to a number of them."""
    side = 256 if size > 128 else size
    images = [np.ascontiguousarray(fit(image, side, side)) for image in images_for(size)]
    return np.stack([images[number % len(images)] for number in range(count)])


def our_supervisor(algorithm: str, images: np.ndarray, size: int) -> Supervisor:
    shared: dict[str, Any] = {"backbone": "resnet18", "view_size": size, "m": M, "normalize": (MEAN, STD)}
    if algorithm != "BYOL":
        shared |= {"t": T, "queue_size": QUEUE, "bn_splits": 1 if algorithm == ONE_GROUP else "auto"}
        return MomentumContrastSupervisor(images, predictor=moco_head(512).layers, **shared)
    heads = nn.Sequential(*(head.layers for head in byol_heads(512)))
    return BYOLSupervisor(images, predictor=heads, embedding_size=256, **shared)


def train(supervisor: Supervisor, batch: int, workers: int, callback: Callback) -> None:
    with tempfile.TemporaryDirectory() as folder:
        supervisor.supervise(
            lr=LR,
            optimizer=torch.optim.SGD,
            epochs=1,
            batch_size=batch,
            num_workers=workers,
            callbacks=[callback],
            checkpoint_every=0,
            verbose=False,
            name=Path(folder, "base"),
        )


def ours(algorithm: str, images: np.ndarray, size: int, plan: Plan, workers: int) -> Callable[[], float]:
    supervisor = our_supervisor(algorithm, images, size)

    def images_per_second() -> float:
        times = Times(UNTIMED + plan.steps)
        try:
            train(supervisor, plan.batch, workers, times)
        except Enough:
            return plan.batch * plan.steps / times.seconds()
        raise RuntimeError("There were too few images for all steps.")

    return images_per_second


def theirs(algorithm: str, images: np.ndarray, size: int, plan: Plan, workers: int) -> Callable[[], float]:
    backbone = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
    if algorithm != "BYOL":
        network, loop, views = Follower(backbone, moco_head(512)), moco_loop(M, T, QUEUE), moco_views(size)
    else:
        network, loop, views = Follower(backbone, *byol_heads(512)), byol_loop(M), byol_views(size)
    loader = loader_of(images, views, plan.batch, workers)

    def images_per_second() -> float:
        network.train()
        ends = []
        for _ in loop(network, loader, torch.optim.SGD(network.parameters(), lr=LR)):
            ends.append(time.perf_counter())
            if len(ends) == UNTIMED + plan.steps:
                break
        return plan.batch * plan.steps / (ends[-1] - ends[UNTIMED - 1])

    return images_per_second


def compare(options: argparse.Namespace) -> None:
    introduce("lightly")
    header = ("", "px", "batch", "timed steps", "super_selfish", "lightly", "ratio (quartiles)")
    print(f"Images a second, {options.workers} processes that read, {options.rounds} rounds.\n\n{table(header, [])}")
    figures, results = {}, []
    name = "end_to_end" + (f"_workers{options.workers}" if options.workers else "")
    for size in options.sizes:
        plan = PLANS[size]
        plan = Plan(options.batch or plan.batch, options.steps or plan.steps)
        images = images_of(size, plan.batch * (UNTIMED + plan.steps + SPARE))
        for algorithm in options.algorithms:
            settings = (algorithm, images, size, plan, options.workers)
            speeds = take_turns({"super_selfish": ours(*settings), "lightly": theirs(*settings)}, options.rounds)
            gains = ratios(speeds["super_selfish"], speeds["lightly"])
            figures[f"{algorithm} {size} px"] = gains
            cells = [f"{Spread.of(speeds[side]).median:.1f}" for side in ("super_selfish", "lightly")]
            steps = plan.steps * options.rounds
            gain = f"**{Spread.of(gains).show()}**"
            print(table_row((algorithm, size, plan.batch, steps, *cells, gain)), flush=True)
            results.append({"algorithm": algorithm, "size": size, "plan": plan._asdict(), "images_per_second": speeds})
            write(name, figures, results, "lightly")


def main() -> None:
    options = parser(__doc__, 3)
    options.add_argument("--sizes", type=int, nargs="+", default=list(PLANS), choices=PLANS)
    known = ("MoCo v2", "BYOL", ONE_GROUP)
    options.add_argument("--algorithms", nargs="+", default=known[:2], choices=known)
    options.add_argument("--workers", type=int, default=0, help="processes that read, on both sides")
    options.add_argument("--steps", type=int, help="timed steps a round")
    options.add_argument("--batch", type=int, help="images a step")
    options.add_argument("--profile", type=int, nargs="?", const=224, choices=PLANS, help="where the time of MoCo goes")
    chosen = options.parse_args()
    size = chosen.profile
    if size is None:
        compare(chosen)
        return
    plan = Plan(chosen.batch or PLANS[size].batch, chosen.steps or 20)
    supervisor = our_supervisor("MoCo v2", images_of(size, plan.batch * (UNTIMED + plan.steps)), size)
    name = "profile" if size == 224 else f"profile_{size}"
    profile(lambda callback: train(supervisor, plan.batch, 0, callback), UNTIMED, name)


if __name__ == "__main__":
    main()
