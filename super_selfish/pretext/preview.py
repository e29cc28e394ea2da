"""What a picture of an exercise consists of: images with words, before anything is drawn."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Panel(NamedTuple):
    """An image with a caption.

    Attributes:
        image: H×W[×C] array or C×H×W tensor.
        caption: A line or two.
        right: Whether an answer that the caption tells is right; None for neither.
    """

    image: Any
    caption: str = ""
    right: bool | None = None


class Exhibit(NamedTuple):
    """Rows of panels, one row an image of the data set.

    Attributes:
        title: The exercise as a question.
        note: How to read the picture, and how well the network did.
        rows: The panels.
    """

    title: str
    note: str
    rows: list[list[Panel]]


def inputs_only(name: str, data: Any) -> Exhibit:
    """The preview of an algorithm that defines none: the images of a batch."""
    fields = data if isinstance(data, tuple | list) else (data,)
    shown = [field for field in fields if isinstance(field, Tensor) and field.ndim == 4 and field.shape[1] <= 64]
    rows = [[Panel(field[index]) for field in shown] for index in range(len(shown[0]) if shown else 0)]
    return Exhibit(f"{name}: what the network sees", "", rows)
