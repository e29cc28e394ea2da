"""Training curves."""

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
    accuracy_name: str = "held-out accuracy",
    title: str | None = None,
    subtitle: str | None = None,
) -> Figure:
    """Plot the training loss over the epochs and, if measured, an accuracy below it.

    Args:
        history: One entry with ``loss`` per epoch, as in ``supervisor.history``.
        points: Loss at a finer resolution: pairs of epoch and loss, such as ``Steps().points``.
        chance: Loss at chance level, drawn as a dashed line; None: no line.
        accuracy: Pairs of epoch and accuracy in [0, 1].
        accuracy_chance: Accuracy at chance level, drawn as a dashed line; None: no line.
        accuracy_name: Legend entry of the accuracy.
        title: Title of the figure.
        subtitle: Line below the title.

    Raises:
        ConfigurationError: If ``history`` and ``points`` are empty.
    """
    if not history and not points:
        raise ConfigurationError(
            "`history` and `points` are empty: there is no loss to plot.", fix="Call supervise() first."
        )
    rows = 2 if accuracy else 1
    figure = DisplayableFigure(figsize=(7.5, 0.2 + heading_height(title, subtitle) + 2.9 * rows), layout="constrained")
    axes_list = figure.subplots(rows, 1, sharex=True, squeeze=False).ravel()
    epochs = [(float(place), float(entry["loss"])) for place, entry in enumerate(history, start=1)]
    if points:
        axes_list[0].plot(*zip(*points, strict=True), color="#88BBDD", linewidth=1.2, label="mean of a few steps")
    if epochs:
        # the mean over an epoch is plotted at the middle of the epoch
        middles = [(epoch - 0.5, loss) for epoch, loss in epochs]
        axes_list[0].plot(*zip(*middles, strict=True), "o-", color=RIGHT, label="mean of an epoch")
    _chance_line(axes_list[0], chance, "chance level: {:.2f}")
    axes_list[0].set_ylabel("training loss")
    highest = max([loss for _, loss in [*points, *epochs]] + ([] if chance is None else [chance]))
    axes_list[0].set_ylim(0, 1.08 * highest)
    if accuracy:
        axes_list[1].plot(*zip(*accuracy, strict=True), "s-", color=RIGHT, label=accuracy_name)
        _chance_line(axes_list[1], accuracy_chance, "chance level: {:.0%}")
        axes_list[1].set_ylim(0, 1.02)
        axes_list[1].set_ylabel("accuracy")
        axes_list[1].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for axes in axes_list:
        axes.grid(visible=True, color="#E5E5E5")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    axes_list[-1].set_xlabel("epoch")
    axes_list[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes_list[-1].set_xlim(left=0)
    heading(figure, title, subtitle)
    return figure


def _chance_line(axes: Axes, value: float | None, text: str) -> None:
    if value is not None:
        axes.axhline(value, color=WRONG, linestyle="--", linewidth=1.5, label=text.format(value))
