"""The sections of a report that need no images: diagnosis, scores, training curves, settings, versions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from super_selfish.engine.callbacks.diagnostics import Diagnostic, diagnostics
from super_selfish.engine.callbacks.monitors import Probe
from super_selfish.engine.core.callback import Column, columns_of
from super_selfish.supervisors import Supervisor
from super_selfish.version import __version__

_LEFT, _TOP, _RIGHT, _BOTTOM = 58, 14, 308, 136  # of the axes, within 320 × 170


class Table(NamedTuple):
    """A table; with ``numeric``, all columns but the first are aligned to the right."""

    head: list[str]
    rows: list[list[str]]
    numeric: bool = False


class Scores(NamedTuple):
    """Scores of the features, or how to get them.

    Attributes:
        notes: The protocol, or why there is no table.
        table: One row for each kind of features.
    """

    notes: list[str]
    table: Table | None = None


class Curve(NamedTuple):
    """A measure over the epochs, in the coordinates of the plot.

    Attributes:
        measure: What is plotted.
        last: The last value.
        high: Label of the upper end of the axis.
        low: Label of the lower end.
        epochs: The first epoch, and the last.
        points: For each epoch its x, y, epoch and value.
        chance: y of the chance level and its value; None: there is none.
    """

    measure: Column
    last: str
    high: str
    low: str
    epochs: tuple[int, int]
    points: list[tuple[float, float, int, str]]
    chance: tuple[float, str] | None


def summary(supervisor: Supervisor) -> str:
    """What was trained on what, for how long."""
    train_state = supervisor.train_state
    epochs = "1 epoch" if train_state.epoch == 1 else f"{train_state.epoch:,} epochs"
    return (
        f"{epochs}, {train_state.step:,} steps, {train_state.samples:,} images seen. "
        f"Images: {supervisor.preprocessing.describe()}. Features: {supervisor.feature_dim:,}."
    )


def diagnosis(supervisor: Supervisor) -> list[Diagnostic]:
    """Findings on the course of the training, and on its images."""
    lines = diagnostics(supervisor.history, supervisor._expected_loss())
    if supervisor.skipped:
        lines.append(Diagnostic(f"{len(supervisor.skipped)} images could not be read and were left out.", True))
    return lines


def scores(stored: Mapping[str, Any], supervisor: Supervisor) -> Scores:
    """Scores as ``super-selfish evaluate`` stored them; without any, those that were logged in training."""
    if stored and stored.get("weights") != supervisor.stored.get("sha256"):
        return Scores(["The stored scores are of other weights. Run super-selfish evaluate NAME DATA again."])
    if not stored:
        last = supervisor.history[-1] if supervisor.history else {}
        logged = [f"{column.title} {column.format(last[key])}" for key, column in Probe.columns.items() if key in last]
        if logged:
            return Scores([f"After the last epoch: {', '.join(logged)}, as measured by supervise(evaluate=...)."])
        return Scores(["Not evaluated. Run super-selfish evaluate NAME DATA on a folder with one subfolder per class."])
    rows = []
    for name, row in stored["scores"].items():
        cells = [f"{100 * row[key]['mean']:.1f} % ± {100 * row[key]['sd']:.1f}" for key in ("knn", "probe")]
        rows.append([name, *cells, f"{row['quality']['effective_rank']:.1f} of {row['quality']['dimensions']}"])
    protocols = [stored["scores"]["trained"][key]["protocol"] for key in ("knn", "probe")]
    head = ["features", "kNN", "linear probe", "effective rank"]
    return Scores([stored["protocol"], *protocols], Table(head, rows, numeric=True))


def curves(supervisor: Supervisor) -> list[Curve]:
    """Every measure that the history holds."""
    drawn = []
    for key, column in columns_of(supervisor.history, supervisor.stored.get("columns")).items():
        points = [(entry["epoch"], float(entry[key])) for entry in supervisor.history if entry.get(key) is not None]
        points = [(epoch, value) for epoch, value in points if math.isfinite(value)]
        if points:
            drawn.append(curve(column, points, supervisor._expected_loss().chance if key == "loss" else None))
    return drawn


def curve(measure: Column, points: list[tuple[int, float]], chance: float | None = None) -> Curve:
    """A measure over the epochs, with its chance level."""
    values = [value for _, value in points] + ([] if chance is None else [chance])
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    ends = (points[0][0], points[-1][0])

    def height(value: float) -> float:
        return _BOTTOM - (value - low) / (high - low) * (_BOTTOM - _TOP)

    span = max(ends[1] - ends[0], 1)
    start = (_LEFT + _RIGHT) / 2 if ends[0] == ends[1] else _LEFT
    marks = [
        (start + (epoch - ends[0]) / span * (_RIGHT - _LEFT), height(value), epoch, measure.format(value))
        for epoch, value in points
    ]
    line = None if chance is None else (height(chance), measure.format(chance))
    return Curve(measure, marks[-1][3], measure.format(high, 3), measure.format(low, 3), ends, marks, line)


def settings(supervisor: Supervisor, config: Mapping[str, Any]) -> Table:
    """Arguments of the constructor, of ``supervise`` and of the command line."""
    named = {key: value for key, value in supervisor.user_arguments.items() if isinstance(value, str)}
    rows = list((supervisor.hyperparameters() | named).items())
    trained = (supervisor.stored.get("training") or {}).get("settings") or {}
    rows += [(f"supervise: {key}", value) for key, value in trained.items()]
    rows += [(f"command: {key}", config[key]) for key in ("data", "device") if key in config]
    return Table(
        ["setting", "value"],
        [[key, f"{value:g}" if isinstance(value, float) else str(value)] for key, value in rows],
    )


def versions(supervisor: Supervisor, name: str) -> Table:
    """Versions of the libraries that trained the weights, and of the one that wrote the report."""
    rows = [[f"trained with {key}", str(value)] for key, value in (supervisor.stored.get("versions") or {}).items()]
    rows += [
        ["report written by", f"super_selfish {__version__}"],
        ["run", str(supervisor.run_id)],
        ["weights", f"{name}.safetensors"],
    ]
    return Table(["what", "which"], rows)
