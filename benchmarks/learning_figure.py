"""A figure of gains per set of images: kNN and linear probe, trained over untrained, with 95 % intervals.

python benchmarks/learning_figure.py [--images 100000] [--folder docs/results]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from learning import KEPT, TRAININGS, rows_of
from learning_table import Rows, gain_of, of

MEASURES = (("probe", "linear probe", "#1f5fa8", 0.14), ("knn", "kNN", "#d9822b", -0.14))


def draw(rows: Rows, title: str, target: Path) -> None:
    """One line per algorithm, sorted by the gain of the probe; filled where the interval excludes zero."""
    names = [name for name in TRAININGS if of(rows, name)]
    names.sort(key=lambda name: gain_of(of(rows, name), "probe").value)
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.36 * len(names)), layout="constrained")
    axes.axvline(0, color="#888888", linewidth=1)
    for key, label, colour, shift in MEASURES:
        for place, name in enumerate(names):
            gain = gain_of(of(rows, name), key)
            axes.errorbar(
                gain.value, place + shift, xerr=gain.half, fmt="o", color=colour, capsize=3, markersize=5,
                markerfacecolor=colour if gain.is_gain else "white", label=label if place == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("gain over the untrained network, percentage points")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, help="only rows of trainings that saw so many")
    parser.add_argument("--folder", type=Path, default=Path("docs", "results"), help="%(default)s")
    options = parser.parse_args()
    for path in sorted(KEPT.glob(f"*-{options.images or '*'}-auto.jsonl")):
        data, images, _ = path.stem.rsplit("-", 2)
        rows = rows_of(path)
        if any(of(rows, name) for name in TRAININGS):
            target = options.folder / f"{data}.png"
            draw(rows, f"{data}, {int(images):,} images seen", target)
            print(target)


if __name__ == "__main__":
    main()
