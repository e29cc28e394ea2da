"""The plot and the HTML page of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from super_selfish.comparison.page import write_files
from super_selfish.drawing.figures import DisplayableFigure, heading, heading_height
from super_selfish.studies.cohort import ALL
from super_selfish.studies.records import ADAPTED, PRETRAINED, PROBE, PUBLISHED, SHOWN, TUNED, UNTRAINED
from super_selfish.studies.result import Study, tuned_name

_COLOURS = {UNTRAINED: "#777777", PUBLISHED: "#CC79A7", PRETRAINED: "#0072B2", ADAPTED: "#D55E00"}
_MARKS = {UNTRAINED: "s", PUBLISHED: "^", PRETRAINED: "o", ADAPTED: "D"}


def figure(found: Study) -> Figure:
    """Plot accuracy by labels per class: a line with its 95 % interval for each arm, fine-tuning dashed.

    Args:
        found: The study.
    """
    title = f"Did pretraining help? {found.outcome[:1].upper()}{found.outcome[1:]}"
    subtitle = f"{found.algorithm}: accuracy on {found.test:,} test images, 95 % intervals"
    plot = DisplayableFigure(figsize=(7.0, 4.4 + heading_height(title, subtitle)), layout="constrained")
    axes, curves = plot.subplots(), found.curves
    for method, counts in ((PROBE, curves.counts), (TUNED, curves.tuned)):
        for arm in curves.arms(method):
            places = [found.labels[count] for count in counts]
            values = [curves.accuracy(arm, count, method).difference for count in counts]
            colour, mark = _COLOURS[arm], _MARKS[arm]
            low, high = ([100 * getattr(each, end) for each in values] for end in ("low", "high"))
            heights = [100 * each.value for each in values]
            if method == PROBE:
                axes.plot(places, heights, f"{mark}-", color=colour, label=f"{SHOWN[arm]}: linear probe")
                axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
            else:
                reach = [[a - b for a, b in zip(heights, low, strict=True)]]
                reach += [[b - a for a, b in zip(heights, high, strict=True)]]
                style: dict[str, Any] = {"fmt": f"{mark}--", "color": colour, "mfc": "white", "capsize": 3, "lw": 1}
                axes.errorbar(places, heights, reach, label=tuned_name(arm), **style)
    axes.set_xscale("log")
    ticks = [found.labels[count] for count in curves.counts]
    shown = [f"all\n({found.labels[ALL]:.0f})" if count == ALL else str(count) for count in curves.counts]
    axes.set_xticks(ticks, shown)
    axes.minorticks_off()
    axes.set_xlabel("labels per class")
    axes.set_ylabel("accuracy, %")
    axes.grid(visible=True, color="#E5E5E5")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    heading(plot, title, subtitle)
    return plot


def write(found: Study, base: Path) -> list[Path]:
    """Write ``<base>.png``, ``<base>.html`` and ``<base>.json``, and return their paths.

    Raises:
        CheckpointError: If they cannot be written.
    """
    return write_files(
        found,
        base,
        figure(found),
        title=f"Study: {base.name}",
        alternative="Accuracy by number of labels per class; the table has the same numbers",
        excluded=[],
        notes=[*found.conditions(), *(f"{SHOWN[arm]}: {hours:.3f} hours" for arm, hours in found.hours.items())],
    )
