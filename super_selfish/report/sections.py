"""The sections of a report without images: diagnostics, scores, training curves, settings and versions."""

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
    """A table. With ``numeric``, all columns except the first are right-aligned."""

    head: list[str]
    rows: list[list[str]]
    numeric: bool = False


class Scores(NamedTuple):
    """Scores of the features.

    Attributes:
        notes: Evaluation protocol, or how to compute the scores.
        table: One row for each type of features; None if the features were not evaluated.
    """

    notes: list[str]
    table: Table | None = None


class Curve(NamedTuple):
    """A metric over the epochs, in coordinates of the plot.

    Attributes:
        measure: The history column that is plotted.
        last: Formatted last value.
        high: Label of the upper end of the y axis.
        low: Label of the lower end of the y axis.
        epochs: The first and the last epoch.
        points: x, y, epoch and formatted value of each epoch.
        chance: y and formatted value of the chance level; None: no chance level.
    """

    measure: Column
    last: str
    high: str
    low: str
    epochs: tuple[int, int]
    points: list[tuple[float, float, int, str]]
    chance: tuple[float, str] | None


def summary(supervisor: Supervisor) -> str:
    """Duration of the training, format of the images and dimension of the features."""
    train_state = supervisor.train_state
    epochs = "1 epoch" if train_state.epoch == 1 else f"{train_state.epoch:,} epochs"
    return (
        f"{epochs}, {train_state.step:,} steps, {train_state.samples:,} images seen. "
        f"Images: {supervisor.preprocessing.describe()}. Feature dimension: {supervisor.feature_dim:,}."
    )


def diagnosis(supervisor: Supervisor, stored: Mapping[str, Any]) -> list[Diagnostic]:
    """Verdicts of ``super-selfish evaluate`` for these weights, and diagnostics of the training and of its images."""
    compared = stored.get("verdicts", []) if stored.get("weights") == supervisor.stored.get("sha256") else []
    lines = [Diagnostic(verdict["text"], not verdict["better"]) for verdict in compared]
    images = supervisor.train_state.samples // max(1, supervisor.train_state.epoch)
    lines += diagnostics(supervisor.history, supervisor._expected_loss(), images)
    if supervisor.skipped:
        lines.append(Diagnostic(f"{len(supervisor.skipped)} images could not be read and were skipped.", True))
    return lines


def scores(stored: Mapping[str, Any], supervisor: Supervisor) -> Scores:
    """Scores stored by ``super-selfish evaluate``, or those that were logged during training."""
    if stored and stored.get("weights") != supervisor.stored.get("sha256"):
        return Scores(
            ["The stored scores are of other weights. Run super-selfish evaluate NAME DATA again to update them."]
        )
    if not stored:
        last = supervisor.history[-1] if supervisor.history else {}
        logged = [f"{column.title} {column.format(last[key])}" for key, column in Probe.columns.items() if key in last]
        if logged:
            return Scores([f"After the last epoch: {', '.join(logged)}, measured during training."])
        return Scores(["Not evaluated. Run super-selfish evaluate NAME DATA, with one subfolder per class in DATA."])
    rows = []
    for name, row in stored["scores"].items():
        cells = [f"{100 * row[key]['mean']:.1f} % ± {100 * row[key]['sd']:.1f}" for key in ("knn", "probe")]
        rows.append([name, *cells, f"{row['quality']['effective_rank']:.1f} of {row['quality']['dimensions']}"])
    protocols = [stored["scores"]["trained"][key]["protocol"] for key in ("knn", "probe")]
    head = ["features", "kNN accuracy", "linear probe accuracy", "effective rank"]
    return Scores([stored["protocol"], *protocols], Table(head, rows, numeric=True))


def curves(supervisor: Supervisor) -> list[Curve]:
    """One curve for each metric in the history."""
    curves_by_column = []
    for key, column in columns_of(supervisor.history, supervisor.stored.get("columns")).items():
        points = [(entry["epoch"], float(entry[key])) for entry in supervisor.history if entry.get(key) is not None]
        points = [(epoch, value) for epoch, value in points if math.isfinite(value)]
        if points:
            curves_by_column.append(
                curve(column, points, supervisor._expected_loss().chance if key == "loss" else None)
            )
    return curves_by_column


def curve(measure: Column, points: list[tuple[int, float]], chance: float | None = None) -> Curve:
    """The curve of a metric, with its chance level."""
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
    """Arguments of the constructor, of ``supervise`` (training) and of the command line."""
    named = {key: value for key, value in supervisor.user_arguments.items() if isinstance(value, str)}
    rows = list((supervisor.hyperparameters() | named).items())
    training = supervisor.stored.get("training") or {}
    trained = dict(training.get("settings") or {})
    used = training["samples"] / training["steps"] if training.get("steps") else trained.get("batch_size")
    if used != trained.get("batch_size"):  # there are fewer images
        trained["batch_size"] = f"{trained.get('batch_size')} (trained with {used:g} images per step)"
    rows += [(f"training: {key}", value) for key, value in trained.items()]
    rows += [(f"command line: {key}", config[key]) for key in ("data", "device") if key in config]
    return Table(
        ["setting", "value"],
        [[key, f"{value:g}" if isinstance(value, float) else str(value)] for key, value in rows],
    )


def versions(supervisor: Supervisor, name: str) -> Table:
    """Versions of the libraries used for the training and for the report, run ID and weights file."""
    rows = [[f"trained with {key}", str(value)] for key, value in (supervisor.stored.get("versions") or {}).items()]
    published = supervisor.stored.get("published_weights") or {}
    rows += [[f"initial weights: {key}", str(published[key])] for key in ("name", "source", "licence") if published]
    rows += [
        ["report written by", f"super_selfish {__version__}"],
        ["run ID", str(supervisor.run_id)],
        ["weights file", f"{name}.safetensors"],
    ]
    return Table(["item", "value"], rows)
