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
ALGORITHM_COLUMNS = (
    "", "held-out pretext task", "trivial baseline", "untrained → trained", "kNN", "linear probe", "gain of the probe",
    "gain of kNN", "fraction of the gap", "epochs", "minutes", "seeds",
)  # fmt: skip


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
    """Floors and ceiling, what the algorithms learned between them, and probes of their feature maps."""
    parts = [floor_table(rows), algorithm_table(rows, algorithms), verdict(rows, algorithms)]
    return "\n\n".join([*parts, map_table(rows, [*algorithms, "supervised"])])


def floor_table(rows: Rows) -> str:
    """Features that need no training on the images, and those of the network that was trained with labels."""
    lines = ["| | kNN | linear probe |", "|---|---|---|"]
    for name in NAMES:
        if own := of(rows, name):
            lines.append(f"| {NAMES[name]} | {spread(own, 'knn')} | {spread(own, 'probe')} |")
    return "\n".join(lines)


def algorithm_table(rows: Rows, algorithms: Sequence[str]) -> str:
    """What the algorithms learned."""
    top = statistics.mean(row["probe"] for row in own) if (own := of(rows, "supervised")) else None
    lines = [f"| {' | '.join(ALGORITHM_COLUMNS)} |", "|---" * len(ALGORITHM_COLUMNS) + "|"]
    return "\n".join([*lines, *(line(name, own, top) for name in algorithms if (own := of(rows, name)))])


def map_table(rows: Rows, names: Sequence[str]) -> str:
    """Probes of the feature map, averaged to 2×2 positions."""
    lines = ["| | linear probe of the map | gain |", "|---|---|---|"]
    for name in names:
        if own := of(rows, name):
            scores = f"{spread(own, 'map_probe_before')} → {spread(own, 'map_probe')}"
            lines.append(f"| {NAMES.get(name, f'`{name}`')} | {scores} | {gain_of(own, 'map_probe')} |")
    return "\n".join(lines)


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
        pair = [[rows[name, seed] for seed in seeds] for rows in (plain, auto)]
        ahead = [100 * (better["probe"] - row["probe"]) for row, better in zip(*pair, strict=True)]
        parts = [spread(rows, key) for rows in pair for key in ("knn", "probe")]
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


def line(name: str, rows: Sequence[Row], top: float | None) -> str:
    """A line of the table."""
    gains = {key: gain_of(rows, key) for key in ("knn", "probe")}
    before = statistics.mean(row["probe_before"] for row in rows)
    fraction = f"{gains['probe'].value / (top - before):.0f} %" if top and top > before + LEAST_GAP else ""
    parts = [f"`{name}`", rows[0]["metric"], f"{spread(rows, 'trivial')} ({rows[0]['baseline']})"]
    parts.append(f"{spread(rows, 'untrained')} → {spread(rows, 'value')}")
    parts += [f"{spread(rows, key + '_before')} → {spread(rows, key)}" for key in gains]
    parts += [str(gains["probe"]), str(gains["knn"]), fraction, str(rows[0]["epochs"])]
    minutes = f"{statistics.mean(row['minutes'] for row in rows):.1f}"
    return f"| {' | '.join([*parts, minutes, str(len(rows))])} |"


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
