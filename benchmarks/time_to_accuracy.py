"""How long does MoCo v2 take to lightly's accuracy? Images of 32 px, one small network, one seed after the other.

Both sides see the same arrays (lightly as PIL images, made beforehand) and have the same network, initial weights,
head, queue, momentum, temperature, AdamW, batch, views without blur (as authors use at 32 px) and normalisation. Batch
norm is as each library has it: ours in groups of 32 images, lightly's over the batch. lightly reads with as many
processes as are fastest for it, of 0 and 2, tried beforehand; ours with none. Clocks stop while features are scored:
kNN (k = 20, t = .07), leave-one-out, over all images, after each epoch. lightly trains for E epochs; ours for E, and if
it has not reached lightly's last score by then, for up to half as many more.

    python benchmarks/time_to_accuracy.py [--seeds 0 1 2 3 4] [--epochs 8] [--batch 64] [--images 12000]

A seed that is in ``build/benchmarks/time_to_accuracy.json`` is not trained again, if the settings are the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import run_with

run_with("lightly")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from lightly_side import Follower, loader_of, moco_head, moco_loop, moco_views  # noqa: E402
from networks import SmallNet  # noqa: E402
from timing import DATA, RESULTS, Spread, introduce, parser, say, table, write  # noqa: E402
from torch import nn  # noqa: E402
from views import MEAN, STD  # noqa: E402

from super_selfish.data import MoCoTransform  # noqa: E402
from super_selfish.evaluation import knn  # noqa: E402
from super_selfish.supervisors import MomentumContrastSupervisor  # noqa: E402
from super_selfish.training import Callback  # noqa: E402

M, T, QUEUE, FEATURES = 0.99, 0.2, 2048, 256
TRIED = 30  # steps with each number of processes
SETTINGS = ("epochs", "batch", "images", "lr")

Curve = list[tuple[float, float]]  # seconds of training and kNN, an entry an epoch, the untrained network first


class Enough(Exception):
    """Ends a training that has got where it should."""


class Images:
    """Arrays and labels, and how features are scored."""

    def __init__(self, count: int) -> None:
        stored = np.load(DATA / "cifar10_sub.npz")
        self.arrays = np.concatenate([stored["x_train"], stored["x_test"]])[:count]
        self.labels = np.concatenate([stored["y_train"], stored["y_test"]])[:count]
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        self.tensors = (torch.from_numpy(self.arrays).permute(0, 3, 1, 2) / 255 - mean) / std

    @torch.no_grad()
    def score(self, backbone: nn.Module) -> float:
        training = backbone.training
        backbone.eval()
        features = torch.cat([backbone(part) for part in self.tensors.split(500)])
        backbone.train(training)
        return float(knn(features, self.labels, k=20, t=0.07))


def networks(seed: int) -> tuple[nn.Module, nn.Module]:
    """Backbone and head: a function of the seed."""
    torch.manual_seed(seed)
    return SmallNet(), moco_head(FEATURES)


def optimizer_of(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-4)


class Scores(Callback):
    """Scores the backbone after each epoch, off the clock; ends the training when it has got where it should.

    Args:
        images: With what is scored.
        epochs: That are trained in any case.
        goal: The score to be reached.
    """

    def __init__(self, images: Images, epochs: int, goal: float) -> None:
        self.images = images
        self.epochs = epochs
        self.goal = goal
        self.curve: Curve = []
        self.trained = 0.0
        self.since = 0.0

    def note(self, backbone: nn.Module) -> None:
        self.curve.append((self.trained, self.images.score(backbone)))
        self.since = time.perf_counter()

    def on_train_begin(self, run: Any) -> None:
        self.note(run.supervisor.model.backbone)

    def on_epoch_end(self, run: Any) -> None:
        self.trained += time.perf_counter() - self.since
        self.note(run.supervisor.model.backbone)
        if len(self.curve) > self.epochs and max(score for _, score in self.curve) >= self.goal:
            raise Enough


def ours(seed: int, images: Images, options: argparse.Namespace, goal: float) -> Curve:
    backbone, head = networks(seed)
    supervisor = MomentumContrastSupervisor(
        images.arrays,
        backbone=backbone,
        predictor=head,
        m=M,
        t=T,
        queue_size=QUEUE,
        views=MoCoTransform(blur=0.0),
        normalize=(MEAN, STD),
    )
    scores = Scores(images, options.epochs, goal)
    with tempfile.TemporaryDirectory() as folder:
        try:
            supervisor.supervise(
                lr=options.lr,
                optimizer=optimizer_of,
                epochs=math.ceil(1.5 * options.epochs),
                batch_size=options.batch,
                seed=seed,
                callbacks=[scores],
                checkpoint_every=0,
                verbose=False,
                name=Path(folder, "base"),
            )
        except Enough:
            say(f"super_selfish stopped after {len(scores.curve) - 1} epochs.")
    return scores.curve


def theirs(seed: int, images: Images, options: argparse.Namespace, workers: int) -> Curve:
    network = Follower(*networks(seed))
    loop = moco_loop(M, T, QUEUE)
    optimizer = optimizer_of([*network.backbone.parameters(), *network.head.parameters()], options.lr)
    loader = loader_of(images.arrays, moco_views(32, gaussian_blur=0.0), options.batch, workers)
    curve = [(0.0, images.score(network.backbone))]
    for _ in range(options.epochs):
        begin = time.perf_counter()
        network.train()
        for _loss in loop(network, loader, optimizer):
            pass
        curve.append((curve[-1][0] + time.perf_counter() - begin, images.score(network.backbone)))
    return curve


def best_workers(images: Images, batch: int) -> int:
    """The number of processes with which lightly's loop is fastest, of 0 and 2."""
    seconds = {}
    for workers in (0, 2, 2, 0):
        network = Follower(*networks(0))
        loader = loader_of(images.arrays, moco_views(32, gaussian_blur=0.0), batch, workers)
        ends = []
        for _ in moco_loop(M, T, QUEUE)(network, loader, optimizer_of(network.parameters(), 1e-3)):
            ends.append(time.perf_counter())
            if len(ends) > TRIED:
                break
        seconds.setdefault(workers, []).append((ends[-1] - ends[0]) / (len(ends) - 1))
    mean = {workers: statistics.mean(values) for workers, values in seconds.items()}
    say("lightly: " + ", ".join(f"{1e3 * value:.0f} ms a step with {n} processes" for n, value in mean.items()))
    return min(mean, key=lambda workers: mean[workers])


def reached(curve: Curve, goal: float) -> float:
    """Seconds of training at which a score is first reached, on straight lines between epochs; or infinity.

    A score that the untrained network has already counts as reached after the first epoch.
    """
    for (before, low), (after, high) in itertools.pairwise(curve):
        if high >= goal:
            return after if low >= goal else before + (after - before) * (goal - low) / (high - low)
    return math.inf


def summary(seeds: dict[str, dict[str, Curve]], epochs: int) -> dict[str, list[float]]:
    """The figures: shares of lightly's time, and points of kNN after equal epochs with their mean's interval."""
    shares, more = [], []
    for curves in seeds.values():
        goal = curves["lightly"][epochs][1]
        shares.append(reached(curves["super_selfish"], goal) / reached(curves["lightly"], goal))
        more.append(100 * (curves["super_selfish"][epochs][1] - goal))
    figures = {"time to lightly's kNN": shares, "points of kNN": more}
    if len(more) > 1:
        from scipy.stats import t as student

        error = statistics.stdev(more) / math.sqrt(len(more))
        margin = float(student.ppf(0.975, len(more) - 1)) * error
        figures["standard error of points"] = [error]
        figures["lower bound of points"] = [statistics.mean(more) - margin]
    return figures


def report(seeds: dict[str, dict[str, Curve]], epochs: int, figures: dict[str, list[float]]) -> None:
    rows = []
    for number, (seed, curves) in enumerate(seeds.items()):
        (their_time, their_score), (our_time, our_score) = (
            curves[name][epochs] for name in ("lightly", "super_selfish")
        )
        share, points = figures["time to lightly's kNN"][number], figures["points of kNN"][number]
        cells = [f"{their_time / epochs:.1f}", f"{our_time / epochs:.1f}", f"{their_score:.3f}", f"{our_score:.3f}"]
        rows.append((seed, *cells, f"{points:+.1f}", f"{share:.2f}"))
    header = ("seed", "lightly, s an epoch", "ours, s an epoch", "lightly, kNN", "ours, kNN", "points", "share of time")
    print(table(header, rows))
    shares = figures["time to lightly's kNN"]
    print(
        f"\nTime to lightly's kNN over lightly's time: mean {statistics.mean(shares):.2f}, {Spread.of(shares).show()}."
    )
    if "lower bound of points" in figures:
        mean, error = statistics.mean(figures["points of kNN"]), figures["standard error of points"][0]
        bound = figures["lower bound of points"][0]
        print(f"kNN after {epochs} epochs: {mean:+.2f} points, standard error {error:.2f}; 95 % above {bound:+.2f}.")


def stored(settings: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call with these settings has done."""
    path = RESULTS / "time_to_accuracy.json"
    results = json.loads(path.read_text("utf-8"))["results"] if path.is_file() else {}
    return results if results.get("settings") == settings else {"settings": settings, "seeds": {}}


def main() -> None:
    options = parser(__doc__, 5)
    options.add_argument("--seeds", type=int, nargs="+", help="in place of as many as there are rounds, from 0 on")
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--images", type=int, default=12_000)
    options.add_argument("--lr", type=float, default=1e-3)
    chosen = options.parse_args()
    if not (DATA / "cifar10_sub.npz").is_file():
        say(f"Skipped: there is no cifar10_sub.npz in {DATA}. Set SUPER_SELFISH_DATA to the folder that holds it.")
        return
    introduce("lightly")
    images = Images(chosen.images)
    results = stored({name: getattr(chosen, name) for name in SETTINGS} | {"threads": torch.get_num_threads()})
    wanted = chosen.seeds or list(range(chosen.rounds))
    if any(str(seed) not in results["seeds"] for seed in wanted) and "workers" not in results:
        results["workers"] = best_workers(images, chosen.batch)
    for number, seed in enumerate(wanted):
        if str(seed) in results["seeds"]:
            continue
        lightly = theirs(seed, images, chosen, results["workers"])
        curves = {"lightly": lightly, "super_selfish": ours(seed, images, chosen, lightly[-1][1])}
        results["seeds"][str(seed)] = curves
        figures = summary(results["seeds"], chosen.epochs)
        write("time_to_accuracy", figures, results, "lightly")
        say(f"Seed {seed} is done, {len(wanted) - number - 1} are left.")
    report(results["seeds"], chosen.epochs, summary(results["seeds"], chosen.epochs))


if __name__ == "__main__":
    main()
