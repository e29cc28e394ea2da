"""Common parts of figures: conversion of images to RGB, colour-blind safe colours, and file output."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from super_selfish.errors import ConfigurationError, DataError, validate_keywords
from super_selfish.files import write_figure

Pixels = npt.NDArray[np.float32]

RIGHT = "#0072B2"
"""Blue, for correct predictions; always combined with the mark ✓."""
WRONG = "#D55E00"
"""Vermilion, for wrong predictions; always combined with the mark ✗."""
PALETTE = (  # Tol, "muted", with black: ten colours that are distinct for all types of colour vision
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#000000"),
)
_DOTS_PER_INCH = 150
_FORMATS = (".png", ".pdf", ".svg")


@validate_keywords()
def displayable(image: object) -> Pixels:
    """Convert an image to RGB, H×W×3 in [0, 1], for display.

    One channel is shown as greyscale, three as red, green and blue. Two channels are averaged; of four or more (such as
    satellite bands or stains), the first three are shown. Integers are divided by the maximum of their dtype. Floats in
    [0, 1] are unchanged; images with values outside of it (such as normalised images) are min-max scaled.

    Args:
        image: An H×W or H×W×C array, or a C×H×W tensor.

    Raises:
        DataError: If the argument is not an image.
    """
    if isinstance(image, Tensor):
        tensor = image.detach().cpu()
        image = (tensor.movedim(0, -1) if tensor.ndim == 3 else tensor).numpy()
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "fiub":
        raise DataError(
            "The argument is not a displayable image.",
            expected="an H×W or H×W×C array, or a C×H×W tensor",
            received=f"{array.dtype} of shape {array.shape}",
        )
    pixels = array[:, :, :3].astype(np.float32) if array.shape[2] != 2 else array.mean(axis=2, keepdims=True)
    if array.dtype.kind in "iu":
        pixels = pixels / np.float32(np.iinfo(array.dtype).max)
    pixels = np.nan_to_num(pixels.astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        pixels = (pixels - low) / max(high - low, 1e-12)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


class DisplayableFigure(Figure):
    """A figure that notebooks display without pyplot, with any backend."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=90)
        return stream.getvalue()


class ImageFigure:
    """A figure with images and texts at positions in inches from the top left corner.

    Args:
        width: Width in inches.
        height: Height in inches, without the heading.
        title: Title at the top left, in bold.
        subtitle: Text below the title, of one or more lines.

    Attributes:
        figure: The matplotlib figure.
        top: Lower end of the heading, in inches.
    """

    def __init__(self, width: float, height: float, title: str | None = None, subtitle: str | None = None) -> None:
        self.top = 0.1 + heading_height(title, subtitle)
        height += self.top
        self.figure = DisplayableFigure(figsize=(width, height))
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        if title:
            self.text(0.1, 0.1, title, fontsize=12, fontweight="bold", va="top")
        if subtitle:
            self.text(0.1, 0.35 if title else 0.1, subtitle, fontsize=10, va="top", linespacing=1.25)
        self._size = (width, height)
        self._reset_limits()

    def _reset_limits(self) -> None:
        self._axes.set_xlim(0, self._size[0])
        self._axes.set_ylim(self._size[1], 0)
        self._axes.set_aspect("auto")

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Draw a text."""
        self._axes.text(x, y, text, **style)

    def show(self, image: object, x: float, y: float, size: float, *, right: bool | None = None) -> None:
        """Draw an image into a square, by nearest neighbour interpolation; ``right`` sets the colour of a frame."""
        pixels = displayable(image)
        scale = size / max(pixels.shape[:2])
        height, width = pixels.shape[0] * scale, pixels.shape[1] * scale
        left, top = x + (size - width) / 2, y + (size - height) / 2
        extent = (left, left + width, top + height, top)
        self._axes.imshow(pixels, interpolation="nearest", vmin=0, vmax=1, extent=extent)
        if right is not None:
            style: dict[str, Any] = {"fill": False, "linewidth": 2.5, "edgecolor": colour_of(right), "zorder": 3}
            self._axes.add_patch(Rectangle((left, top), width, height, **style))
        self._reset_limits()


def heading_height(title: str | None, subtitle: str | None) -> float:
    """Height of title and subtitle in inches."""
    lines = 0 if not subtitle else subtitle.count("\n") + 1
    return 0.25 * bool(title) + 0.19 * lines + 0.12 * bool(title or subtitle)


def marked(text: str, right: bool | None) -> str:
    """Append ✓ or ✗ to a text, so that correctness is not shown by colour alone."""
    return text if right is None else f"{text} {'✓' if right else '✗'}".strip()


def colour_of(right: bool | None) -> str:
    """Colour of a correct, wrong or unrated item."""
    return "black" if right is None else RIGHT if right else WRONG


def heading(figure: Figure, title: str | None, subtitle: str | None) -> None:
    """Draw title and subtitle, and reserve :func:`heading_height` above the axes for them."""
    width, height = figure.get_size_inches()
    if title:
        figure.text(0.1 / width, 1 - 0.1 / height, title, fontsize=12, fontweight="bold", va="top")
    if subtitle:
        below = 0.35 if title else 0.1
        figure.text(0.1 / width, 1 - below / height, subtitle, fontsize=10, va="top", linespacing=1.25)
    reserved = (heading_height(title, subtitle) + 0.1) / height
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, 0, 1, 1 - reserved))  # type: ignore[call-arg]


@validate_keywords()
def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Save a figure atomically.

    Args:
        figure: The figure.
        path: Path with the suffix .png, .pdf or .svg; missing parent folders are created.

    Returns:
        The path.

    Raises:
        ConfigurationError: If the suffix is not supported.
        CheckpointError: If the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in _FORMATS:
        raise ConfigurationError(
            "The image format is not supported.",
            expected=f"a path that ends in {' or '.join(_FORMATS)}",
            received=str(path),
        )
    options: dict[str, Any] = {"format": target.suffix[1:], "dpi": _DOTS_PER_INCH, "facecolor": "white"}
    write_figure(target, lambda temporary: figure.savefig(temporary, **options))
    return target
