"""The course of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from super_selfish.drawing.figures import RIGHT, WRONG, DisplayableFigure, heading, heading_height
from super_selfish.errors import ConfigurationError, validate_keywords


@validate_keywords()
def loss_curve(
    history: Sequence[Mapping[str, Any]],
    *,
    points: Sequence[tuple[float, float]] = (),
    chance: float | None = None,
    accuracy: Sequence[tuple[float, float]] = (),
    accuracy_chance: float | None = None,
    accuracy_name: str = "accuracy on images that were not trained on",
    title: str | None = None,
    subtitle: str | None = None,
) -> Figure:
    """The loss over the epochs, and below it an accuracy where one was measured.

    Args:
        history: Entries with ``loss``, one an epoch, as in ``supervisor.history``.
        points: A finer course: pairs of epoch and loss, such as ``Steps().points``.
        chance: The loss of guessing, drawn as a line.
        accuracy: Pairs of epoch and accuracy in [0, 1].
        accuracy_chance: The accuracy of guessing.
        accuracy_name: What the accuracy is of.
        title: Of the whole picture.
        subtitle: A line below the title.

    Raises:
        ConfigurationError: If there is neither an epoch nor a point.
    """
    if not history and not points:
        raise ConfigurationError("There is no loss to draw.", fix="Call supervise() first; each epoch is an entry.")
    panels = 2 if accuracy else 1
    figure = DisplayableFigure(
        figsize=(7.5, 0.2 + heading_height(title, subtitle) + 2.9 * panels), layout="constrained"
    )
    cells = figure.subplots(panels, 1, sharex=True, squeeze=False).ravel()
    epochs = [(float(place), float(entry["loss"])) for place, entry in enumerate(history, start=1)]
    if points:
        cells[0].plot(*zip(*points, strict=True), color="#88BBDD", linewidth=1.2, label="every few steps")
    if epochs:
        # the mean over an epoch stands in its middle
        middles = [(epoch - 0.5, loss) for epoch, loss in epochs]
        cells[0].plot(*zip(*middles, strict=True), "o-", color=RIGHT, label="mean of an epoch")
    _chance_line(cells[0], chance, "guessing: {:.2f}")
    cells[0].set_ylabel("training loss")
    highest = max([loss for _, loss in [*points, *epochs]] + ([] if chance is None else [chance]))
    cells[0].set_ylim(0, 1.08 * highest)
    if accuracy:
        cells[1].plot(*zip(*accuracy, strict=True), "s-", color=RIGHT, label=accuracy_name)
        _chance_line(cells[1], accuracy_chance, "guessing: {:.0%}")
        cells[1].set_ylim(0, 1.02)
        cells[1].set_ylabel("accuracy")
        cells[1].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for axes in cells:
        axes.grid(visible=True, color="#E5E5E5")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    cells[-1].set_xlabel("epoch")
    cells[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    cells[-1].set_xlim(left=0)
    heading(figure, title, subtitle)
    return figure


def _chance_line(axes: Axes, value: float | None, text: str) -> None:
    if value is not None:
        axes.axhline(value, color=WRONG, linestyle="--", linewidth=1.5, label=text.format(value))
