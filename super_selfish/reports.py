"""Figures of images, features and training curves. Importing this loads matplotlib, but not pyplot: no global state."""

from super_selfish.drawing.curves import loss_curve
from super_selfish.drawing.figures import displayable, save
from super_selfish.drawing.grids import image_grid
from super_selfish.drawing.maps import feature_map, project
from super_selfish.drawing.neighbours import nearest, neighbours
from super_selfish.drawing.previews import preview_figure
from super_selfish.engine.callbacks.losses import Steps
from super_selfish.report.report import report

exhibit_sheet = preview_figure  # the name in 0.1.0

__all__ = [
    "Steps",
    "displayable",
    "exhibit_sheet",
    "feature_map",
    "image_grid",
    "loss_curve",
    "nearest",
    "neighbours",
    "preview_figure",
    "project",
    "report",
    "save",
]


def __dir__() -> list[str]:
    return sorted(__all__)
