"""Does recipe="adapt" help? From a network trained with labels on one set to the other, beside training from scratch.

For each direction the small network of the learning benchmark is trained with the source's labels. On the target's
images, without their labels, an algorithm then trains it further by recipe="adapt", or a fresh one by recipe="auto",
for as many images seen. Scores are those of the learning benchmark, on the target.

    python benchmarks/learning_adapt.py [--images 60000] [--seeds 2] [--only momentum_contrast rotate_net]
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from learning import SHARED, TRAININGS, Budget, Training, labelled, supervise
from learning_images import read
from networks import SmallNet, scores

from super_selfish.supervisors import all_supervisors

SETS = ("cifar10_sub", "clothing10_48")


def teacher(images: dict[str, np.ndarray], budget: Budget) -> SmallNet:
    """The network, trained with labels."""
    supervisor = labelled(images, budget.seed)
    supervise(supervisor, Training(), budget)
    return supervisor.model.backbone


def row(name: str, images: dict[str, np.ndarray], weights: SmallNet, budget: Budget) -> list[tuple[float, float]]:
    """Scores as it was, adapted, and from scratch."""
    how, found = TRAININGS[name], [scores(weights, images)]
    own = how.arguments(images["x_train"].shape[1])
    for recipe in ("adapt", "auto"):
        torch.manual_seed(budget.seed)
        more: dict[str, Any] = {"weights": weights} if recipe == "adapt" else {}
        supervisor = all_supervisors()[name](images["x_train"], backbone=how.network(), **own, **more)
        supervise(supervisor, how, budget._replace(recipe=recipe))
        found.append(scores(supervisor.get_backbone(), images))
    return found


def told(pairs: list[tuple[float, float]]) -> str:
    """KNN and probe, mean over seeds, with the deviation of the probe."""
    near, probe = (statistics.mean(values) for values in zip(*pairs, strict=True))
    deviation = f" ± {statistics.stdev(value for _, value in pairs):.3f}" if len(pairs) > 1 else ""
    return f"{near:.3f} / **{probe:.3f}**{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where networks are trained (%(default)s)")
    chosen = ["momentum_contrast", "rotate_net"]
    parser.add_argument("--only", nargs="+", choices=list(TRAININGS), default=chosen, metavar="NAME")
    options = parser.parse_args()
    if not all((SHARED / f"{name}.npz").is_file() for name in SETS):
        print(f"Skipped: {SHARED} has no {' and '.join(SETS)}. Set SUPER_SELFISH_DATA.")
        return
    sets = {name: read(SHARED / f"{name}.npz") for name in SETS}
    print("| from → to | | as it was | adapted | from scratch |\n|---|---|---|---|---|")
    for source, target in (SETS, SETS[::-1]):
        for name in options.only:
            columns: list[list[tuple[float, float]]] = [[], [], []]
            for seed in range(options.seeds):
                budget = Budget(options.images, "auto", seed, options.device)
                weights = teacher(sets[source], budget)
                for column, pair in zip(columns, row(name, sets[target], weights, budget), strict=True):
                    column.append(pair)
            print(f"| {source} → {target} | `{name}` | {' | '.join(map(told, columns))} |", flush=True)


if __name__ == "__main__":
    main()
