"""Images side by side, each with a line that says what it is."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from super_selfish.drawing.figures import ImageFigure, colour_of, marked
from super_selfish.errors import ConfigurationError, validate_keywords

_LINE = 0.17  # inches: the height of a line of text, the gap between images, and the least width of a picture
_GAP = 0.1
_BETWEEN = 0.25  # what a gap between groups is wider
_LEAST = 6.0


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
    """Images in rows, from left to right.

    Args:
        images: At least one image: H×W or H×W×C arrays, or C×H×W tensors, of any number of channels (see
            :func:`~super_selfish.reports.displayable`).
        titles: A text above each image.
        right: Whether the text is right: blue with ✓, or vermilion with ✗; None for neither.
        columns: Images a row.
        group: Leave a wider gap after as many images; None: all gaps are alike.
        title: Of the whole picture.
        subtitle: A line below the title.
        size: Width of an image in inches.

    Raises:
        ConfigurationError: If there are no images, or not one text and verdict for each.
    """
    count = len(images)
    for name, given in (("titles", titles), ("right", right)):
        if given is not None and len(given) != count:
            raise ConfigurationError(f"`{name}` does not fit.", expected=f"{count}", received=f"{len(given)}")
    if count < 1 or columns < 1:
        raise ConfigurationError("A grid needs images.", received=f"{count} images in {columns} columns")
    columns = min(columns, count)
    rows = -(-count // columns)
    lines = 0 if titles is None else max(text.count("\n") + 1 for text in titles)
    step = (size + _GAP, size + lines * _LINE + 1.5 * _GAP)
    together = columns if group is None else group
    wide = columns * step[0] + (columns - 1) // together * _BETWEEN + _GAP
    sheet = ImageFigure(max(_LEAST, wide), rows * step[1] + _GAP, title, subtitle)
    for place, image in enumerate(images):
        column = place % columns
        x, y = _GAP + column * step[0] + column // together * _BETWEEN, sheet.top + place // columns * step[1]
        verdict = None if right is None else right[place]
        if titles is not None:
            style = {"fontsize": 9, "color": colour_of(verdict), "ha": "center", "va": "bottom"}
            sheet.text(x + size / 2, y + lines * _LINE - 0.04, marked(titles[place], verdict), **style)
        sheet.show(image, x, y + lines * _LINE, size, right=verdict)
    return sheet.figure
