"""How far is the algorithm that `compare` recommends from the best one after long trainings?

`compare` gets the training images of a set, with their labels, and a budget. The regret of its recommendation is the
accuracy of a linear probe that it misses: that of the best algorithm after the long trainings of learning.py, on test
images that `compare` never saw, minus that of the recommended one. Beside it stand other ways to choose: the
algorithm that is best on average on the other sets, the rule "RotateNet if rotations are learnable, otherwise
ExemplarNet", and an applicable algorithm at random. `compare` recommends the cheapest algorithm that is tied with the
best and at most two points behind it; a column shows what another gap, the best on the other sets, would have given.
Rows are appended to benchmarks/results/compare.jsonl; a run that was stopped goes on. The table goes into
docs/compare.md.

    python benchmarks/compare_regret.py [--data cifar10_sub.npz ...] [--seeds 2] [--one SEED] [--budget 30min] [--table]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from learning import KEPT, SHARED, TRAININGS, rows_of
from learning_docs import SETS, Set
from learning_images import read
from learning_table import Rows, correct, of
from networks import SmallNet

import super_selfish
from super_selfish.comparison.budget import cost
from super_selfish.comparison.decisions import CLOSE
from super_selfish.supervisors import all_supervisors

ROWS = KEPT / "compare.jsonl"
BUILD = Path(__file__).parents[1] / "build" / "compare"
PAGE = Path(__file__).parents[1] / "docs" / "compare.md"
DRAWS = 2000
GAPS = (CLOSE, 0.0, 0.01, 0.03, 0.05)  # of equally good ones, the first
ROTATE, EXEMPLAR = "rotate_net", "exemplar_net"


class Regret(NamedTuple):
    """Points of the linear probe that a choice misses, and the same on resampled test images (draws,)."""

    value: float
    draws: np.ndarray

    def __str__(self) -> str:
        low, high = np.quantile(self.draws, [0.025, 0.975])
        return f"{self.value:.1f} ({low:.1f} to {high:.1f})"


def compared(file: Path, seed: int, budget: str) -> dict[str, Any]:
    """What `compare` says of the training images of a set."""
    images = read(file)
    BUILD.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    found = super_selfish.compare(
        images["x_train"],
        (images["x_train"], images["y_train"]),
        budget,
        backbone=SmallNet(),
        name=BUILD / f"{file.stem}-{seed}-{budget}",
        seed=seed,
        device="cpu",
    )
    first = {row.name: row for row in found.rows if row.stage == 1}
    return {
        "recommended": found.recommended,
        "ties": found.ties,
        "standings": {each.name: round(each.score, 4) for each in found.standings},
        "first": {name: None if row.score is None else round(row.score, 4) for name, row in first.items()},
        "updates": {name: row.updates for name, row in first.items()},
        "excluded": found.excluded,
        "rotations": ROTATE in first and not first[ROTATE].at_chance,
        "minutes": round(found.seconds / 60, 2),
    }


def runs() -> dict[tuple[str, int, str], dict[str, Any]]:
    """Rows by set, seed and budget; of two the later."""
    lines = ROWS.read_text().splitlines() if ROWS.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["data"], row["seed"], row["budget"]): row for row in rows}


def hits(rows: Rows) -> dict[str, np.ndarray]:
    """How often the long trainings got each test image right (images,), by algorithm."""
    return {name: np.mean([correct(row, "probe") for row in own], 0) for name in TRAININGS if (own := of(rows, name))}


def points_missed(found: dict[str, np.ndarray], choices: Sequence[str]) -> np.ndarray:
    """What the mean of several choices, such as those of several seeds, misses on each test image (images,)."""
    best = max(found.values(), key=np.mean)
    return 100 * (best - np.mean([found[name] for name in choices], 0))


def regret(found: dict[str, np.ndarray], choices: Sequence[str]) -> Regret:
    """Of the mean over several choices."""
    missed = points_missed(found, choices)
    drawn = np.random.default_rng(0).integers(len(missed), size=(DRAWS, len(missed)))
    return Regret(float(missed.mean()), missed[drawn].mean(1))


def mean_of(regrets: Sequence[Regret]) -> Regret:
    """The mean over sets, whose test images are resampled independently."""
    rolled = [np.roll(each.draws, place) for place, each in enumerate(regrets)]
    return Regret(statistics.mean(each.value for each in regrets), np.mean(rolled, 0))


def best_elsewhere(long: dict[str, dict[str, np.ndarray]], name: str) -> str:
    """The algorithm with the least mean regret on all other sets, among those that were trained on this one."""
    others = [found for other, found in long.items() if other != name]
    names = [each for each in long[name] if all(each in found for found in others)]
    return min(names, key=lambda each: statistics.mean(points_missed(found, [each]).mean() for found in others))


def with_gap(rows: Sequence[dict[str, Any]], gap: float) -> list[str]:
    """What `compare` would recommend for another gap to the best, once per row."""
    found = []
    for row in rows:
        best = max(row["standings"].values(), default=0.0)
        close = [name for name in row["ties"] if row["standings"][name] >= best - gap]
        found += [min(close, key=lambda name: cost(all_supervisors()[name]))] if close else []
    return found


def gap_elsewhere(long: dict[str, dict[str, np.ndarray]], own: dict[str, list[dict[str, Any]]], name: str) -> float:
    """The gap with the least mean regret on all other sets."""
    others = [other for other in long if other != name]

    def mean(gap: float) -> float:
        found = [points_missed(long[other], told) for other in others if (told := with_gap(own[other], gap))]
        return round(statistics.mean(each.mean() for each in found), 6)

    return min(GAPS, key=mean)


def choices(
    name: str, long: dict[str, dict[str, np.ndarray]], rows: dict[str, list[dict[str, Any]]]
) -> dict[str, list[str]]:
    """What each way to choose says of a set, once per seed of `compare`."""
    own = rows[name]
    told = [row["recommended"] for row in own if row["recommended"] in long[name]]
    ruled = [ROTATE if row["rotations"] else EXEMPLAR for row in own]
    fixed = best_elsewhere(long, name) if len(long) > 1 else None
    return {
        "`compare`": told,
        "with the gap of the other sets": with_gap(own, gap_elsewhere(long, rows, name)) if len(long) > 1 else [],
        "best on the other sets": [fixed] if fixed else [],
        "RotateNet, else ExemplarNet": ruled,
        "at random": list(long[name]),
    }


def table(budget: str) -> str:
    """Regret by set and way to choose, and the mean and the worst of each."""
    sets = {data.file.rpartition("-")[0]: data for data in SETS}
    own = {
        name: [row for (data, _, each), row in sorted(runs().items()) if (data, each) == (name, budget)]
        for name in sets
    }
    long = {name: hits(rows_of(KEPT / f"{data.file}-auto.jsonl")) for name, data in sets.items()}
    long = {name: found for name, found in long.items() if found and own[name]}
    if not long:
        return "No set has rows of both learning.py and this script."
    found = {name: choices(name, long, own) for name in long}
    ways = list(next(iter(found.values())))
    lines = [f"| | best after long trainings | {' | '.join(ways)} |", "|---" * (len(ways) + 2) + "|"]
    regrets: dict[str, list[Regret]] = {way: [] for way in ways}
    for name, chosen in found.items():
        best = max(long[name], key=lambda each, name=name: long[name][each].mean())
        cells = [sets[name].short, f"`{best}`"]
        for way, names in chosen.items():
            missed = regret(long[name], names) if names else None
            regrets[way] += [missed] if missed else []
            told = "" if len(names) > len(own[name]) else f" {named(names)}"
            cells.append(f"{missed}{told}" if missed else "–")
        lines.append(f"| {' | '.join(cells)} |")
    means = [f"{mean_of(values)}" if values else "–" for values in regrets.values()]
    worst = [f"{max(each.value for each in values):.1f}" if values else "–" for values in regrets.values()]
    lines += [f"| {title} | | {' | '.join(cells)} |" for title, cells in (("mean", means), ("worst", worst))]
    return "\n".join(lines)


def named(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def with_table(page: str, lines: str) -> str:
    """The guide with another table of regrets."""
    begin = page.index("| | best after long trainings |")
    return page[:begin] + lines + page[page.index("\n\n", begin) :]


def file_of(data: Set) -> str:
    return f"{data.file.rpartition('-')[0]}.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", nargs="+", default=[file_of(data) for data in SETS], metavar="FILE")
    parser.add_argument("--seeds", type=int, default=2, help="how many (%(default)s)")
    parser.add_argument("--one", type=int, help="only this seed, to share the work out")
    parser.add_argument("--budget", default="30min", help="of each comparison (%(default)s)")
    parser.add_argument("--table", action="store_true", help="write the table of what is there, and run nothing")
    options = parser.parse_args()
    for seed in [] if options.table else range(options.seeds) if options.one is None else [options.one]:
        for data in options.data:
            file = Path(data) if Path(data).is_file() else SHARED / data
            if not file.is_file():
                parser.error(f"there is no {data}, neither here nor in {SHARED}; set SUPER_SELFISH_DATA")
            key = {"data": file.stem, "seed": seed, "budget": options.budget}
            if (file.stem, seed, options.budget) in runs():
                continue
            row = compared(file, seed, options.budget)
            machine = {
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "version": super_selfish.__version__,
            }
            with ROWS.open("a") as lines:
                lines.write(json.dumps(key | machine | row) + "\n")
            print(f"{file.stem}, seed {seed}: {row['recommended']}", file=sys.stderr, flush=True)
    lines = table(options.budget)
    print(lines)
    if lines.startswith("|"):
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), lines), "utf-8")


if __name__ == "__main__":
    main()
