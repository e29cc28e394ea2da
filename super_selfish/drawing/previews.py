"""Figures of previews: one row per image, with a caption above each panel."""

from __future__ import annotations

from matplotlib.figure import Figure

from super_selfish.drawing.grids import image_grid
from super_selfish.errors import ConfigurationError, validate_keywords
from super_selfish.pretext.preview import Preview


@validate_keywords()
def preview_figure(preview: Preview, *, size: float = 1.1) -> Figure:
    """Draw a preview of a pretext task.

    Args:
        preview: The preview. All rows must have the same number of panels.
        size: Width of an image in inches.

    Raises:
        ConfigurationError: If the preview is empty, or rows differ in length.
    """
    lengths = {len(row) for row in preview.rows}
    if len(lengths) != 1 or 0 in lengths:
        raise ConfigurationError(
            "The preview cannot be drawn.",
            expected="at least one row, and the same number of panels in each",
            received=f"rows of {sorted(lengths)} panels",
        )
    panels = [panel for row in preview.rows for panel in row]
    per_row = lengths.pop()
    side_by_side = max(1, min(8 // per_row, len(preview.rows)))
    return image_grid(
        [panel.image for panel in panels],
        [panel.caption for panel in panels] if any(panel.caption for panel in panels) else None,
        right=[panel.right for panel in panels],
        columns=per_row * side_by_side,
        group=per_row,
        title=preview.title,
        subtitle=preview.note or None,
        size=size,
    )
