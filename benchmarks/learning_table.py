"""The tables of what was learned, from the rows that are kept."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Mapping[tuple[str, int], Mapping[str, Any]]
LEAST_GAP = 0.02  # between untrained and trained with labels, to speak of a share of it
WORDS = {
    "pixels": "pixels, averaged to 16×16",
    "pca": "128 principal components of the pixels",
    "hog": "histograms of oriented gradients",
    "supervised": "the same network, trained with labels",
}


def table(rows: Rows, algorithms: Sequence[str]) -> str:
    """Floors and ceiling, and what the algorithms learned between them."""
    names = list(dict.fromkeys(name for name, _ in rows))
    outside = [name for name in WORDS if name in names]
    lines = ["| without self-supervision | kNN | linear probe |", "|---|---|---|"]
    for name in outside:
        own = of(rows, name)
        lines.append(f"| {WORDS[name]} | {spread(own, 'knn')} | {spread(own, 'probe')} |")
    lines += ["", "| | held-out pretext task | trivial baseline | untrained → trained | kNN | linear probe |"]
    lines[-1] += " gain of the probe | share of the gap | epochs | minutes | seeds |"
    lines.append("|---|---|---|---|---|---|---|---|---|---|---|")
    top = statistics.mean(row["probe"] for row in of(rows, "supervised")) if "supervised" in names else None
    lines += [line(name, of(rows, name), top) for name in algorithms if name in names]
    return "\n".join([*lines, "", verdict(rows, algorithms)])


def against(plain: Rows, auto: Rows, algorithms: Sequence[str]) -> str:
    """What the defaults of ``supervise()`` and ``recipe="auto"`` learned, where both have the same seeds."""
    lines = ["| | defaults: kNN | linear probe | auto: kNN | linear probe | auto is ahead by | seeds |"]
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
    """Where rows were made, in words."""
    found = {(row.get("device"), row.get("threads"), row.get("torch", "unknown")) for row in rows.values()}
    words = [f"{device}, threads: {threads}, torch {version}" for device, threads, version in sorted(found, key=str)]
    return "; ".join(words) or "nothing yet"


def of(rows: Rows, name: str) -> list[Mapping[str, Any]]:
    """An algorithm's rows, a seed each."""
    return [row for (own, _), row in sorted(rows.items()) if own == name]


def spread(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Mean, and the standard deviation if there are several."""
    values = [row[key] for row in rows]
    deviation = f" ± {number(statistics.stdev(values))}" if len(values) > 1 else ""
    return number(statistics.mean(values)) + deviation


def number(value: float) -> str:
    """Three decimals, without a leading zero."""
    return f"{value:.3f}".removeprefix("0")


def line(name: str, rows: Sequence[Mapping[str, Any]], top: float | None) -> str:
    """A line of the table."""
    gains = [100 * (row["probe"] - row["probe_before"]) for row in rows]
    gain = f"**{statistics.mean(gains):+.1f}**" + (f" ± {statistics.stdev(gains):.1f}" if len(gains) > 1 else "")
    before = statistics.mean(row["probe_before"] for row in rows)
    share = f"{statistics.mean(gains) / (top - before):.0f} %" if top and top > before + LEAST_GAP else ""
    metric, baseline = rows[0]["metric"], rows[0]["baseline"]
    parts = [f"`{name}`", metric, f"{spread(rows, 'trivial')} ({baseline})"]
    parts.append(f"{spread(rows, 'untrained')} → **{spread(rows, 'value')}**")
    parts += [f"{spread(rows, key + '_before')} → {spread(rows, key)}" for key in ("knn", "probe")]
    minutes = f"{statistics.mean(row['minutes'] for row in rows):.1f}"
    return f"| {' | '.join([*parts, gain, share, str(rows[0]['epochs']), minutes, str(len(rows))])} |"


def verdict(rows: Rows, algorithms: Sequence[str]) -> str:
    """How many beat their trivial baseline, how many their untrained network, and whether all numbers are finite."""
    names = [name for name in algorithms if of(rows, name)]
    mean = {
        name: {key: statistics.mean(row[key] for row in of(rows, name)) for key in ("value", "trivial", "probe")}
        | {"before": statistics.mean(row["probe_before"] for row in of(rows, name))}
        for name in names
    }
    higher = {name: of(rows, name)[0]["higher_is_better"] for name in names}
    beaten = [name for name in names if (mean[name]["value"] > mean[name]["trivial"]) is higher[name]]
    above = [name for name in names if mean[name]["probe"] > mean[name]["before"]]
    five = [name for name in names if mean[name]["probe"] >= mean[name]["before"] + 0.05]
    finite = all(row.get("finite", True) for row in rows.values())
    return (
        f"{len(beaten)} of {len(names)} beat the trivial baseline; the linear probe is above the untrained network's "
        f"for {len(above)}, by at least 5 points for {len(five)} ({', '.join(five)}). "
        f"{'All losses are finite.' if finite else 'Some losses are not finite.'}"
    )
