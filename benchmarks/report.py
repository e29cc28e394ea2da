"""One table of all figures that there are goals for, from the files in ``build/benchmarks``.

A file is what ``timing.write`` makes: ``figures`` by name, a number a round. A figure that no file holds is told as not
measured, with the script that would.

    python benchmarks/report.py        # writes build/benchmarks/benchmarks.md
"""

from __future__ import annotations

import json
import operator
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

from timing import RESULTS, ROOT, Spread, table

LEAST, MOST = "≥", "≤"
HOLDS: dict[str, Callable[[float, float], bool]] = {LEAST: operator.ge, MOST: operator.le}


class Goal(NamedTuple):
    """A figure, and what it must reach.

    Attributes:
        what: Is measured.
        peer: It is compared with.
        script: That measures it, which is the name of the file of results.
        figure: Its name there.
        sign: Of the goal; empty where there is none.
        goal: The number.
        unit: Behind numbers.
        mean: Whether the mean counts, not the median.
    """

    what: str
    peer: str
    script: str
    figure: str
    sign: str = ""
    goal: float = 0.0
    unit: str = "×"
    mean: bool = False


def views(recipe: str, size: int, goal: float) -> list[Goal]:
    what = f"views a second and core, {recipe}, {size} px"
    own = Goal(what, "lightly", "views", f"{recipe} {size} px, lightly", LEAST if goal else "", goal)
    return [own, *(Goal(what, peer, "views", f"{recipe} {size} px, {peer}") for peer in ("torchvision v2", "kornia"))]


RECIPES = ("MoCo v2", "BYOL")
SMALL, RESNET = "small network, 32 px, batches of 64", "ResNet-18, 96 px, batches of 16"
KNN = "time_to_accuracy"
FILE = "files to batches of two 224 px views"
CACHE = 'the same from `cache="resized"`, time over that of'
GOALS = [
    *[
        row
        for recipe in RECIPES
        for size, goal in ((32, 15.0), (96, 0.0), (224, 12.0))
        for row in views(recipe, size, goal)
    ],
    Goal("CPC recipe with elastic, 225 px, 49 patches", "the same in torchvision v2", "recipes", "CPC", LEAST, 10),
    *[
        Goal(f"{name} end to end, {size} px, images/s", "lightly", "end_to_end", f"{name} {size} px", LEAST, goal)
        for name in RECIPES
        for size, goal in ((32, 1.3), (96, 1.1), (224, 1.1))  # of the larger, the network is nearly the whole step
    ],
    *[
        Goal(f"default backbone{kind}, {size} px, speed", "fastest other", "backbones", f"{name} {size} px", sign, goal)
        for size in (225, 64)
        for kind, name, sign, goal in (
            ("", "super_selfish", LEAST, 0.95),
            (" without its bottleneck", "super_selfish, without bottleneck", "", 0.0),
        )
    ],
    *[
        Goal(
            f"layer norm, {size} px, time",
            "batch norm",
            "backbones",
            f"layer norm over batch norm {size} px",
            MOST,
            1.25,
        )
        for size in (225, 64)
    ],
    *[
        Goal(f"loop overhead, {case}", "bare loop", "overhead", f"loop: {case}", MOST, 3, " %")
        for case in (SMALL, RESNET)
    ],
    Goal("step of a bank method, time, 10⁶ rows", "10⁴ rows", "bank", "10⁶ over 10⁴ rows", MOST, 1.2),
    Goal("memory of a bank, peak", "its table", "bank_memory", "memory of a bank", MOST, 1.1),
    Goal(f"{FILE}, short side 256", "lightly", "files", "256", LEAST, 9),
    Goal(f"{FILE}, 1600×1200", "lightly", "files", "1600×1200", LEAST, 8),
    Goal(CACHE, "arrays in memory", "files", "cache over arrays", MOST, 1.1),
    Goal("wall time to lightly's kNN", "lightly", KNN, "time to lightly's kNN", MOST, 0.75, mean=True),
    Goal("kNN after equal epochs", "lightly", KNN, "points of kNN", unit=" points", mean=True),
    Goal("standard error of that", "", KNN, "standard error of points", unit=" points"),
    Goal("lower bound of its 95 % interval", "lightly", KNN, "lower bound of points", LEAST, -1, " points"),
    Goal("2 processes × 1 thread, throughput", "1 process × 2 threads", "", "", LEAST, 0.9),
    Goal(
        "checkpoint each epoch, share of its time", "none", "overhead", "checkpoints: written each epoch", MOST, 1, " %"
    ),
    Goal("largest part of ours in a step", "the step", "profile", "largest part of ours", MOST, 3, " %"),
]


def figures_of(script: str) -> dict[str, list[float]]:
    """The figures of one file; none if there is no such file."""
    path = RESULTS / f"{script}.json"
    if not path.is_file():
        return {}
    told: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return told.get("figures", {})


def row(goal: Goal) -> tuple[str, ...]:
    wanted = f"{goal.sign} {goal.goal:g}{goal.unit}" if goal.sign else "–"
    values = figures_of(goal.script).get(goal.figure) if goal.script else None
    if not values:
        missing = f"not measured: `benchmarks/{goal.script}.py`" if goal.script else "waits for several processes"
        return (goal.what, goal.peer, missing, wanted, "")
    counted = statistics.mean(values) if goal.mean else Spread.of(values).median
    spread = Spread.of(values)
    around = f" ({spread.low:.2f} – {spread.high:.2f})" if len(values) > 1 else ""
    met = "" if not goal.sign else "met" if HOLDS[goal.sign](counted, goal.goal) else "**not met**"
    return (goal.what, goal.peer, f"{counted:.2f}{around}{goal.unit}", wanted, met)


def origins() -> list[str]:
    """For each file of results: how, on what and with what it was measured."""
    lines = []
    for path in sorted(RESULTS.glob("*.json")):
        told = json.loads(path.read_text("utf-8"))
        parts = [f"{key} {value}" for part in ("machine", "versions") for key, value in told.get(part, {}).items()]
        lines.append(f"- `{told.get('command', path.stem)}`: {', '.join(parts)}")
    return lines


def main() -> None:
    header = ("figure", "compared with", "median (quartiles)", "goal", "")
    text = "\n".join([table(header, map(row, GOALS)), "", *origins(), ""])
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "benchmarks.md"
    path.write_text(text, "utf-8")
    print(f"{text}\nWritten to {path.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
