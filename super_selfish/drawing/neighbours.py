"""Nearest neighbours of images in feature space."""

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
_BLOCK_GAP = 0.3  # inches between blocks


@validate_keywords()
def nearest(queries: Features, features: Features, k: int = 5) -> Places:
    """Indices of the nearest neighbours by cosine similarity, the most similar first.

    Args:
        queries: Features (queries, dim).
        features: Features to search (images, dim).
        k: Number of neighbours; reduced to the number of images if that is smaller.

    Returns:
        Indices into ``features`` (queries, k).

    Examples:
        >>> nearest([[1.0, 0.1]], [[0.0, 1.0], [1.0, 0.0]], k=2)
        array([[1, 0]])
    """
    searched, query_rows = as_pair(features, queries)
    similarity = _normalised(query_rows) @ _normalised(searched).T
    indices: Places = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return indices


def _normalised(rows: Any) -> npt.NDArray[np.float64]:
    array = rows.cpu().numpy().astype(np.float64)
    norm = np.linalg.norm(array, axis=1, keepdims=True)
    normalised: npt.NDArray[np.float64] = array / np.where(norm > 0, norm, 1.0)
    return normalised


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
    """Draw queries in the first column and their nearest neighbours to the right, one block for each network.

    Args:
        queries: Images of any number of channels (see :func:`~super_selfish.reports.displayable`).
        images: The images that were searched.
        found: For each name of a network, indices into ``images`` (queries, k), as returned by :func:`nearest`.
        labels: Class labels of ``images``. With ``query_labels``, neighbours of the query's class are marked ✓, others
            ✗.
        query_labels: Class labels of ``queries``.
        title: Title of the figure.
        subtitle: Line below the title.
        size: Width of an image in inches.

    Raises:
        ConfigurationError: If there are no queries or networks, or ``found`` does not have one row for each query.
    """
    if not found or not len(queries) or any(len(places) != len(queries) for places in found.values()):
        raise ConfigurationError(
            "`found` does not match `queries`.",
            expected="at least one network and one query, and for each network one row of indices per query",
            received=f"{len(queries)} queries; rows per network: {[len(places) for places in found.values()]}",
        )
    rows, step = len(queries), size + _GAP
    widths = [size + _BLOCK_GAP, *(places.shape[1] * step + _BLOCK_GAP for places in found.values())]
    canvas = ImageFigure(sum(widths) + 0.1, rows * step + 0.35, title, subtitle)
    top = canvas.top + 0.25
    canvas.text(0.1, top - 0.06, "query", fontsize=10, va="bottom")
    for row in range(rows):
        canvas.show(queries[row], 0.1, top + row * step, size)
    left = 0.1 + widths[0]
    for (name, places), width in zip(found.items(), widths[1:], strict=True):
        canvas.text(left, top - 0.06, name, fontsize=10, va="bottom")
        for row, column in np.ndindex(*places.shape):
            place = int(places[row, column])
            correct = None
            if labels is not None and query_labels is not None:
                correct = bool(labels[place] == query_labels[row])
            x, y = left + column * step, top + row * step
            canvas.show(images[place], x, y, size, right=correct)
            _draw_mark(canvas, x + size, y, correct)
        left += width
    return canvas.figure


def _draw_mark(canvas: ImageFigure, x: float, y: float, correct: bool | None) -> None:
    """Draw ✓ or ✗ on a white background in the upper right corner of an image."""
    if correct is not None:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "boxstyle": "square,pad=0.1"}
        style: dict[str, Any] = {"ha": "right", "va": "top", "fontsize": 8, "fontweight": "bold", "bbox": box}
        canvas.text(x - 0.04, y + 0.05, "✓" if correct else "✗", color=colour_of(correct), zorder=4, **style)
