"""What a preview of a pretext task consists of: images with captions, before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from super_selfish.renamed import old_names


class CaptionedImage(NamedTuple):
    """An image with a caption.

    Attributes:
        image: H×W[×C] array or C×H×W tensor.
        caption: A line or two.
        right: Whether the prediction in the caption is correct; None: it holds none.
    """

    image: Any
    caption: str = ""
    right: bool | None = None


class Preview(NamedTuple):
    """Rows of panels, one row an image of the data set.

    Attributes:
        title: The pretext task as a question.
        note: How to read the figure, and the accuracy of the network.
        rows: The panels.
    """

    title: str
    note: str
    rows: list[list[CaptionedImage]]


Exhibit = Preview
"""The name in 0.1.0."""


class Matches:
    """Which of several candidates each query is most similar to; its own has the same position.

    Args:
        similarities: (queries, candidates), as many of one as of the other.
        others: Number of most similar other candidates to keep.
        trained: Whether the similarities are those of a trained network; else no captions are made of them.

    Attributes:
        comparable: Whether the network is trained and there is more than one query.
        accuracy: Fraction of queries whose own candidate is the most similar.
    """

    def __init__(self, similarities: Tensor, others: int, *, trained: bool) -> None:
        count = len(similarities)
        self.trained = trained
        self.comparable = trained and count > 1
        self.own = similarities.diagonal()
        self.values, self.places = similarities.clone().fill_diagonal_(-math.inf).topk(min(others, count - 1))
        self._found = self.own > self.values[:, 0] if count > 1 else self.own > self.own
        self.accuracy = self._found.double().mean().item()

    def captioned_images(self, row: int, images: Sequence[Any] | Tensor, own: str, other: str) -> list[CaptionedImage]:
        """The query's own candidate and the most similar others.

        Args:
            row: Position of the query.
            images: What the candidates look like.
            own: Caption of its own.
            other: Caption of others.
        """
        right = bool(self._found[row]) if self.comparable else None
        shown = [(own, self.own[row], row, right)]
        pairs = zip(self.values[row], self.places[row].tolist(), strict=True)
        shown += [(other, value, place, None) for value, place in pairs]
        return [
            CaptionedImage(images[place], f"{caption}\n{value:+.2f}" if self.trained else caption, found)
            for caption, value, place, found in shown
        ]

    def note(self, own: str) -> str:
        """The accuracy beside chance level, as a line; empty if there is none."""
        if not self.comparable:
            return ""
        return f"\n{own} for {self.accuracy:.0%} of the images; chance level is {1 / len(self.own):.0%}."


def inputs_only(name: str, data: Any) -> Preview:
    """The preview of an algorithm that defines none: the images of a batch."""
    fields = data if isinstance(data, tuple | list) else (data,)
    shown = [field for field in fields if isinstance(field, Tensor) and field.ndim == 4 and field.shape[1] <= 64]
    rows = [[CaptionedImage(field[index]) for field in shown] for index in range(len(shown[0]) if shown else 0)]
    return Preview(f"{name}: what the network sees", "", rows)


__getattr__ = old_names(__name__)
