"""Which images a network finds alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from super_selfish.drawing.figures import ImageFigure, colour_of
from super_selfish.errors import ConfigurationError, validate_keywords
from super_selfish.evaluation.score import Features, as_pair

Places = npt.NDArray[np.int64]
_GAP = 0.06  # inches between images
_SPACE = 0.3  # between blocks


@validate_keywords()
def nearest(queries: Features, features: Features, k: int = 5) -> Places:
    """The places of the most similar rows by cosine, the most similar first.

    Args:
        queries: Features (queries, dim).
        features: Features to search (images, dim).
        k: How many; at most as many as there are.

    Returns:
        Rows of ``features`` (queries, k).

    Examples:
        >>> nearest([[1.0, 0.1]], [[0.0, 1.0], [1.0, 0.0]], k=2)
        array([[1, 0]])
    """
    bank, asked = as_pair(features, queries)
    similarity = _unit(asked) @ _unit(bank).T
    places: Places = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return places


def _unit(rows: Any) -> npt.NDArray[np.float64]:
    table = rows.cpu().numpy().astype(np.float64)
    length = np.linalg.norm(table, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = table / np.where(length > 0, length, 1.0)
    return unit


@validate_keywords()
def neighbours(
    queries: Sequence[object],
    images: Sequence[object],
    found: Mapping[str, Places],
    *,
    labels: Sequence[int] | None = None,
    query_labels: Sequence[int] | None = None,
    title: str | None = None,
    subtitle: str | None = None,
    size: float = 0.85,
) -> Figure:
    """Queries in the first column, and to the right their neighbours, one block for each network.

    Args:
        queries: Images of any number of channels (see :func:`~super_selfish.reports.displayable`).
        images: The images that were searched.
        found: By the name of the network, places in ``images`` (queries, k), as :func:`nearest` gives them.
        labels: Of the searched images; with ``query_labels`` each neighbour is marked ✓ (the query's class) or ✗.
        query_labels: Of the queries.
        title: Of the whole picture.
        subtitle: A line below the title.
        size: Width of an image in inches.

    Raises:
        ConfigurationError: If there are no queries or networks, or the places do not fit.
    """
    if not found or not len(queries) or any(len(places) != len(queries) for places in found.values()):
        raise ConfigurationError(
            "The neighbours do not fit the queries.",
            expected="for each network one row of places for each query, and at least one of both",
            received=f"{len(queries)} queries, rows {[len(places) for places in found.values()]}",
        )
    rows, step = len(queries), size + _GAP
    widths = [size + _SPACE, *(places.shape[1] * step + _SPACE for places in found.values())]
    sheet = ImageFigure(sum(widths) + 0.1, rows * step + 0.35, title, subtitle)
    top = sheet.top + 0.25
    sheet.text(0.1, top - 0.06, "query", fontsize=10, va="bottom")
    for row in range(rows):
        sheet.show(queries[row], 0.1, top + row * step, size)
    left = 0.1 + widths[0]
    for (name, places), width in zip(found.items(), widths[1:], strict=True):
        sheet.text(left, top - 0.06, name, fontsize=10, va="bottom")
        for row, column in np.ndindex(*places.shape):
            place = int(places[row, column])
            right = None
            if labels is not None and query_labels is not None:
                right = bool(labels[place] == query_labels[row])
            x, y = left + column * step, top + row * step
            sheet.show(images[place], x, y, size, right=right)
            _sign(sheet, x + size, y, right)
        left += width
    return sheet.figure


def _sign(sheet: ImageFigure, x: float, y: float, right: bool | None) -> None:
    """✓ or ✗ on a white patch in the upper right corner of an image."""
    if right is not None:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "boxstyle": "square,pad=0.1"}
        style: dict[str, Any] = {"ha": "right", "va": "top", "fontsize": 8, "fontweight": "bold", "bbox": box}
        sheet.text(x - 0.04, y + 0.05, "✓" if right else "✗", color=colour_of(right), zorder=4, **style)
