"""The figure and the HTML page of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from super_selfish.comparison.records import REFERENCE
from super_selfish.comparison.result import Comparison
from super_selfish.comparison.verdict import headline
from super_selfish.drawing.figures import RIGHT, WRONG, DisplayableFigure, heading, heading_height, save
from super_selfish.engine.callbacks.progress import duration
from super_selfish.files import with_suffix, write_text
from super_selfish.report.gallery import figure_uri

TEMPLATE = Path(__file__).with_name("page.html")


class Result(Protocol):
    """What the page of a comparison or a study shows."""

    verdict: list[str]
    seconds: float
    budget: float
    files: list[Path]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of the table."""

    def to_json(self) -> str:
        """The result as JSON."""


def figure(found: Comparison) -> Figure:
    """Plot scores with 95 % intervals, scores of stage 1 and references; without labels, effective ranks.

    Args:
        found: The comparison.
    """
    labelled = bool(found.labelled)
    first = {row.name: row for row in found.rows if row.stage == 1}
    final = {each.name: each for each in found.standings}
    references = [row for row in found.rows if row.stage == REFERENCE and (row.score is not None or row.quality)]
    others = [name for name, row in first.items() if name not in final and (labelled or row.quality)]
    names = [*final, *sorted(others, key=lambda name: -(first[name].score or 0.0))]
    rows = [*names, *(f"reference: {row.name}" for row in sorted(references, key=lambda row: -(row.score or 0.0)))]
    title = headline(found)
    subtitle = "Comparison of algorithms: accuracy of frozen features in cross-validation"
    if not labelled:
        subtitle = "Comparison of algorithms: effective rank, an indication only"
    size = (7.5, 1.0 + heading_height(title, subtitle) + 0.28 * len(rows))
    plot = DisplayableFigure(figsize=size, layout="constrained")
    axes = plot.subplots()
    places = {name: -place for place, name in enumerate(rows)}
    if labelled:
        for name, each in final.items():
            spread = [[100 * (each.score - each.low)], [100 * (each.high - each.score)]]
            axes.errorbar([100 * each.score], [places[name]], xerr=spread, fmt="o", color=RIGHT, capsize=3)
        scored = [(100 * row.score, places[name]) for name, row in first.items() if row.score is not None]
        axes.plot(
            *(zip(*scored, strict=True) if scored else ([], [])), "o", mfc="none", color="#777777", label="stage 1"
        )
        axes.plot([], [], "o-", color=RIGHT, label="last stage, with 95 % interval")
        values = [(100 * (row.score or 0.0), places[f"reference: {row.name}"]) for row in references]
        axes.plot(*(zip(*values, strict=True) if values else ([], [])), "s", color=WRONG, label="reference")
        axes.legend(frameon=False, fontsize=9)
        axes.set_xlabel("accuracy, %")
    else:
        ranks = [(first[name].quality["effective_rank"], places[name]) for name in names]
        axes.plot(*(zip(*ranks, strict=True) if ranks else ([], [])), "o", mfc="none", color="#777777", label="stage 1")
        values = [(row.quality["effective_rank"], places[f"reference: {row.name}"]) for row in references]
        axes.plot(*(zip(*values, strict=True) if values else ([], [])), "s", color=WRONG, label="reference")
        axes.legend(frameon=False, fontsize=9)
        axes.set_xlabel("effective rank")
    axes.set_yticks(list(places.values()), list(places))
    axes.grid(visible=True, axis="x", color="#E5E5E5")
    axes.spines[["top", "right"]].set_visible(False)
    heading(plot, title, subtitle)
    return plot


def rendered(**content: Any) -> str:
    """The page, which needs no other files.

    Args:
        **content: ``title``, ``verdict``, ``figure`` as a URI, its ``alternative`` text, ``head`` and ``body`` of the
            table, ``excluded`` pairs of name and reason, ``notes``, and the ``time`` that was used.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**content)


def write(found: Comparison, base: Path) -> list[Path]:
    """Write ``<base>.png``, ``<base>.html`` and ``<base>.json``, and return their paths.

    Raises:
        CheckpointError: If they cannot be written.
    """
    return write_files(
        found,
        base,
        figure(found),
        title=f"Comparison: {base.name}",
        alternative="Scores of the algorithms; the table has the same numbers",
        excluded=sorted(found.excluded.items()),
        notes=[*found.conditions, *found.notes],
    )


def write_files(found: Result, base: Path, plot: Figure, **content: Any) -> list[Path]:
    """Write figure, page and JSON of a result, and set ``found.files``.

    Args:
        found: The result.
        base: Path of the files, without suffix.
        plot: The figure.
        **content: ``title``, ``alternative``, ``excluded`` and ``notes`` of the page; see :func:`rendered`.
    """
    picture, page, data = (with_suffix(base, suffix) for suffix in (".png", ".html", ".json"))
    found.files = [picture, page, data, with_suffix(base, ".runs.jsonl")]
    save(plot, picture)
    head, body = found.table()
    time = f"{duration(found.seconds)} of {duration(found.budget)}"
    shown = rendered(verdict=found.verdict, figure=figure_uri(plot), head=head, body=body, time=time, **content)
    write_text(page, shown)
    write_text(data, found.to_json())
    return found.files
