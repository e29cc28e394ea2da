"""What all pictures share: images made visible, colours that everybody can tell apart, and files."""

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
from super_selfish.files import write_with

Pixels = npt.NDArray[np.float32]

RIGHT = "#0072B2"
"""Blue, for what is right; always beside the sign ✓."""
WRONG = "#D55E00"
"""Vermilion, for what is wrong; always beside the sign ✗."""
PALETTE = (  # Tol, "muted", with black: ten colours that remain apart with every kind of colour vision
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#000000"),
)
_DOTS_PER_INCH = 150
_FORMATS = (".png", ".pdf", ".svg")


@validate_keywords()
def displayable(image: object) -> Pixels:
    """Any image as RGB for the eye, H×W×3 in [0, 1].

    One channel is shown in grey, three as red, green and blue. Two channels are averaged; of four or more (bands of
    a satellite, stains) the first three are shown. Integers are divided by their largest possible value. Floats are
    taken as they are in [0, 1]; where they leave it (normalised images, say), the image's own least and largest value
    become black and white.

    Args:
        image: An H×W or H×W×C array, or a C×H×W tensor.

    Raises:
        DataError: If it is no image.
    """
    if isinstance(image, Tensor):
        held = image.detach().cpu()
        image = (held.movedim(0, -1) if held.ndim == 3 else held).numpy()
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "fiub":
        raise DataError(
            "This is no image that can be shown.",
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
    """A figure that notebooks show by itself, whatever backend is set."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=90)
        return stream.getvalue()


class ImageFigure:
    """A picture that images and texts are laid on at places in inches from the top left corner.

    Args:
        width: In inches.
        height: In inches.
        title: At the top left, in bold.
        subtitle: Below the title; may have several lines.

    Attributes:
        figure: The picture.
        top: Where the room below the headings begins.
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
        self._fix()

    def _fix(self) -> None:
        self._axes.set_xlim(0, self._size[0])
        self._axes.set_ylim(self._size[1], 0)
        self._axes.set_aspect("auto")

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write a text."""
        self._axes.text(x, y, text, **style)

    def show(self, image: object, x: float, y: float, size: float, *, right: bool | None = None) -> None:
        """Draw an image, enlarged without smoothing, into a square; a frame tells right from wrong."""
        pixels = displayable(image)
        scale = size / max(pixels.shape[:2])
        high, wide = pixels.shape[0] * scale, pixels.shape[1] * scale
        left, top = x + (size - wide) / 2, y + (size - high) / 2
        place = (left, left + wide, top + high, top)
        self._axes.imshow(pixels, interpolation="nearest", vmin=0, vmax=1, extent=place)
        if right is not None:
            style: dict[str, Any] = {"fill": False, "linewidth": 2.5, "edgecolor": colour_of(right), "zorder": 3}
            self._axes.add_patch(Rectangle((left, top), wide, high, **style))
        self._fix()


def heading_height(title: str | None, subtitle: str | None) -> float:
    """The room that title and subtitle take at the top, in inches."""
    lines = 0 if not subtitle else subtitle.count("\n") + 1
    return 0.25 * bool(title) + 0.19 * lines + 0.12 * bool(title or subtitle)


def marked(text: str, right: bool | None) -> str:
    """The text with the sign of what is right or wrong, so that colour is never the only sign."""
    return text if right is None else f"{text} {'✓' if right else '✗'}".strip()


def colour_of(right: bool | None) -> str:
    """Of a text about something right, wrong or neither."""
    return "black" if right is None else RIGHT if right else WRONG


def heading(figure: Figure, title: str | None, subtitle: str | None) -> None:
    """Title and subtitle above axes that leave the room of :func:`heading_height` to them."""
    width, height = figure.get_size_inches()
    if title:
        figure.text(0.1 / width, 1 - 0.1 / height, title, fontsize=12, fontweight="bold", va="top")
    if subtitle:
        below = 0.35 if title else 0.1
        figure.text(0.1 / width, 1 - below / height, subtitle, fontsize=10, va="top", linespacing=1.25)
    room = (heading_height(title, subtitle) + 0.1) / height
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, 0, 1, 1 - room))  # type: ignore[call-arg]


@validate_keywords()
def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a picture, whole or not at all.

    Args:
        figure: The picture.
        path: Ends in .png, .pdf or .svg; parent folders are made.

    Returns:
        The path.

    Raises:
        ConfigurationError: If the ending is another.
        CheckpointError: If it cannot be written.
    """
    target = Path(path)
    if target.suffix not in _FORMATS:
        raise ConfigurationError(
            "The kind of picture is unknown.", expected=f"a path that ends in {', '.join(_FORMATS)}", received=str(path)
        )
    options: dict[str, Any] = {"format": target.suffix[1:], "dpi": _DOTS_PER_INCH, "facecolor": "white"}
    write_with(target, lambda temporary: figure.savefig(temporary, **options))
    return target
