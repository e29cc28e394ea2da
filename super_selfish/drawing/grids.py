"""Grids of images with captions."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from super_selfish.drawing.figures import ImageFigure, colour_of, marked
from super_selfish.errors import ConfigurationError, validate_keywords

_LINE = 0.17  # height of a line of text, in inches as all of these
_GAP = 0.1  # gap between images
_GROUP_GAP = 0.25  # additional gap between groups
_MIN_WIDTH = 6.0  # of the figure


@validate_keywords()
def image_grid(
    images: Sequence[object],
    titles: Sequence[str] | None = None,
    *,
    right: Sequence[bool | None] | None = None,
    columns: int = 8,
    group: int | None = None,
    title: str | None = None,
    subtitle: str | None = None,
    size: float = 1.1,
) -> Figure:
    """Draw a grid of images, row by row.

    Args:
        images: At least one image: H×W or H×W×C arrays, or C×H×W tensors, of any number of channels (see
            :func:`~super_selfish.reports.displayable`).
        titles: Caption above each image.
        right: Whether each image is a correct prediction: True is drawn blue with ✓, False vermilion with ✗, None
            without a mark.
        columns: Number of images per row.
        group: Number of images after which a wider gap follows; None: equal gaps.
        title: Title of the figure.
        subtitle: Line below the title.
        size: Width of an image in inches.

    Raises:
        ConfigurationError: If there are no images, or ``titles`` or ``right`` differ from ``images`` in length.
    """
    count = len(images)
    for name, values in (("titles", titles), ("right", right)):
        if values is not None and len(values) != count:
            raise ConfigurationError(f"`{name}` has the wrong length.", expected=f"{count}", received=f"{len(values)}")
    if count < 1 or columns < 1:
        raise ConfigurationError(
            "A grid needs at least one image and one column.", received=f"{count} images in {columns} columns"
        )
    columns = min(columns, count)
    rows = -(-count // columns)
    lines = 0 if titles is None else max(text.count("\n") + 1 for text in titles)
    step = (size + _GAP, size + lines * _LINE + 1.5 * _GAP)
    group_size = columns if group is None else group
    width = columns * step[0] + (columns - 1) // group_size * _GROUP_GAP + _GAP
    canvas = ImageFigure(max(_MIN_WIDTH, width), rows * step[1] + _GAP, title, subtitle)
    for place, image in enumerate(images):
        column = place % columns
        x, y = _GAP + column * step[0] + column // group_size * _GROUP_GAP, canvas.top + place // columns * step[1]
        correct = None if right is None else right[place]
        if titles is not None:
            style = {"fontsize": 9, "color": colour_of(correct), "ha": "center", "va": "bottom"}
            canvas.text(x + size / 2, y + lines * _LINE - 0.04, marked(titles[place], correct), **style)
        canvas.show(image, x, y + lines * _LINE, size, right=correct)
    return canvas.figure
