"""The tables of what was learned, from the rows that are kept."""

from __future__ import annotations

import base64
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Row = Mapping[str, Any]
Rows = Mapping[tuple[str, int], Row]
LEAST_GAP = 0.02  # between untrained and trained with labels, to speak of a fraction of it
NAMES = {
    "pixels": "pixels, averaged to 16×16",
    "pca": "128 principal components of the pixels",
    "hog": "histograms of oriented gradients",
    "imagenet": "EfficientNet-Lite0 trained on ImageNet, frozen, at 128 px",
    "supervised": "the same network, trained with labels",
}
GAIN_COLUMNS = (
    "", "gain of the probe", "gain of kNN", "gain on the map", "linear probe", "kNN", "fraction of the gap", "seeds",
)  # fmt: skip
PRETEXT_COLUMNS = ("", "held-out pretext task", "trivial baseline", "untrained → trained", "epochs")


class Gain(NamedTuple):
    """Mean gain over the seeds in percentage points, with half the length of its 95 % interval."""

    value: float
    half: float

    @property
    def is_gain(self) -> bool:
        return self.value > self.half

    def __str__(self) -> str:
        text = f"{self.value:+.1f} ± {self.half:.1f}"
        return f"**{text}**" if self.is_gain else text


def table(rows: Rows, algorithms: Sequence[str]) -> str:
    """What the algorithms learned, their pretext tasks, and the floors and the ceiling beside them."""
    parts = [gain_table(rows, algorithms), verdict(rows, algorithms), pretext_table(rows, algorithms)]
    return "\n\n".join([*parts, floor_table(rows)])


def floor_table(rows: Rows) -> str:
    """Features that need no training on the images, and those of the network that was trained with labels."""
    lines = ["| | kNN | linear probe |", "|---|---|---|"]
    for name in NAMES:
        if own := of(rows, name):
            lines.append(f"| {NAMES[name]} | {spread(own, 'knn')} | {spread(own, 'probe')} |")
    return "\n".join(lines)


def gain_table(rows: Rows, algorithms: Sequence[str]) -> str:
    """What features gained: kNN, a probe of pooled features, and one of the feature map averaged to 2×2 positions."""
    top = statistics.mean(row["probe"] for row in own) if (own := of(rows, "supervised")) else None
    lines = [f"| {' | '.join(GAIN_COLUMNS)} |", "|---" * len(GAIN_COLUMNS) + "|"]
    for name in algorithms:
        if own := of(rows, name):
            gains = [gain_of(own, key) for key in ("probe", "knn", "map_probe")]
            cells = [f"`{name}`", *map(str, gains), *(pair(own, key) for key in ("probe", "knn"))]
            lines.append(f"| {' | '.join([*cells, fraction(own, top), str(len(own))])} |")
    return "\n".join(lines)


def pretext_table(rows: Rows, algorithms: Sequence[str]) -> str:
    """The pretext task of each algorithm on held-out images."""
    lines = [f"| {' | '.join(PRETEXT_COLUMNS)} |", "|---" * len(PRETEXT_COLUMNS) + "|"]
    for name in algorithms:
        if own := of(rows, name):
            cells = [f"`{name}`", *pretext_cells(own), str(own[0]["epochs"])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def pretext_cells(rows: Sequence[Row]) -> list[str]:
    """The pretext task, its trivial baseline, and its score before and after training."""
    trivial = f"{spread(rows, 'trivial')} ({rows[0]['baseline']})"
    return [rows[0]["metric"], trivial, f"{spread(rows, 'untrained')} → {spread(rows, 'value')}"]


def pair(rows: Sequence[Row], key: str) -> str:
    """A score before and after training."""
    return f"{spread(rows, f'{key}_before')} → {spread(rows, key)}"


def fraction(rows: Sequence[Row], top: float | None) -> str:
    """The gain of the probe as a part of what training with labels gains."""
    before = statistics.mean(row["probe_before"] for row in rows)
    if top is None or top <= before + LEAST_GAP:
        return ""
    return f"{gain_of(rows, 'probe').value / (top - before):.0f} %"


def gain_of(rows: Sequence[Row], key: str) -> Gain:
    """Gain of a score, trained over untrained, with an interval over test images and seeds.

    The test images are the same for all seeds, so each image counts once, with its mean over the seeds. The variance
    between seeds is added where there are several.
    """
    differences = np.stack([correct(row, key) - correct(row, f"{key}_before") for row in rows])
    images = differences.shape[1]
    variance = differences.mean(0).var() / images
    if len(rows) > 1:
        variance += differences.mean(1).var(ddof=1) / len(rows)
    return Gain(100 * float(differences.mean()), 196 * math.sqrt(variance))


def correct(row: Row, key: str) -> np.ndarray:
    """Which test images were right: 0.0 or 1.0 (images,)."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(row[f"{key}_correct"]), np.uint8))
    return bits[: row["test_images"]].astype(np.float64)


def against(plain: Rows, auto: Rows, algorithms: Sequence[str]) -> str:
    """What the defaults of ``supervise()`` and ``recipe="auto"`` learned, where both have the same seeds."""
    lines = ["| | defaults: kNN | linear probe | auto: kNN | linear probe | gain by auto | seeds |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in algorithms:
        seeds = [seed for own, seed in sorted(plain) if own == name and (name, seed) in auto]
        if not seeds:
            continue
        both = [[rows[name, seed] for seed in seeds] for rows in (plain, auto)]
        ahead = [100 * (better["probe"] - row["probe"]) for row, better in zip(*both, strict=True)]
        parts = [spread(rows, key) for rows in both for key in ("knn", "probe")]
        lines.append(f"| `{name}` | {' | '.join(parts)} | **{statistics.mean(ahead):+.1f}** | {len(seeds)} |")
    return "\n".join(lines)


def made_with(rows: Rows) -> str:
    """Where rows were made."""
    found = {(row.get("device"), row.get("threads"), row.get("torch", "unknown")) for row in rows.values()}
    machines = [f"{device}, threads: {threads}, torch {version}" for device, threads, version in sorted(found, key=str)]
    return "; ".join(machines) or "nothing yet"


def of(rows: Rows, name: str) -> list[Row]:
    """An algorithm's rows, one per seed."""
    return [row for (own, _), row in sorted(rows.items()) if own == name]


def spread(rows: Sequence[Row], key: str) -> str:
    """Mean, and the standard deviation if there are several."""
    values = [row[key] for row in rows]
    deviation = f" ± {number(statistics.stdev(values))}" if len(values) > 1 else ""
    return number(statistics.mean(values)) + deviation


def number(value: float) -> str:
    """Three decimals, without a leading zero."""
    return f"{value:.3f}".removeprefix("0")


def verdict(rows: Rows, algorithms: Sequence[str]) -> str:
    """How many beat their trivial baseline and their untrained network, and whether all numbers are finite."""
    names = [name for name in algorithms if of(rows, name)]
    means = {
        name: {key: statistics.mean(row[key] for row in of(rows, name)) for key in ("value", "trivial")}
        for name in names
    }
    higher = {name: of(rows, name)[0]["higher_is_better"] for name in names}
    beaten = [name for name in names if (means[name]["value"] > means[name]["trivial"]) is higher[name]]
    gained = {key: [name for name in names if gain_of(of(rows, name), key).is_gain] for key in ("knn", "probe")}
    finite = all(row.get("finite", True) for row in rows.values())
    told = [
        f"{len(gained[key])} of {len(names)}"
        + (f" (not {', '.join(left)})" if (left := without(names, gained[key])) else "")
        for key in gained
    ]
    return (
        f"{len(beaten)} of {len(names)} beat the trivial baseline. Gains whose 95 % interval is above zero: "
        f"kNN {told[0]}, linear probe {told[1]}. {'All' if finite else 'Not all'} losses are finite."
    )


def without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    return [name for name in names if name not in others]
