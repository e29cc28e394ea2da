"""Data of previews of pretext tasks: images with captions, independent of drawing."""

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
        caption: Caption of one or two lines.
        right: Whether the prediction in the caption is correct. None: no prediction.
    """

    image: Any
    caption: str = ""
    right: bool | None = None


class Preview(NamedTuple):
    """Rows of captioned images, one row per image of the data set.

    Attributes:
        title: The pretext task as a question.
        note: How to read the figure. ``preview()`` appends the score of the network.
        rows: The captioned images.
    """

    title: str
    note: str
    rows: list[list[CaptionedImage]]


Exhibit = Preview
"""The name in 0.1.0."""


class Matches:
    """Nearest candidates of each query. The own candidate of a query has the same index.

    Args:
        similarities: Similarities (queries, candidates), a square matrix.
        others: Number of most similar other candidates to keep.
        trained: Whether the network is trained; otherwise captions contain no similarities.

    Attributes:
        comparable: Whether the network is trained and there is more than one query.
    """

    def __init__(self, similarities: Tensor, others: int, *, trained: bool) -> None:
        count = len(similarities)
        self.trained = trained
        self.comparable = trained and count > 1
        self.own = similarities.diagonal()
        self.values, self.places = similarities.clone().fill_diagonal_(-math.inf).topk(min(others, count - 1))
        self._found = self.own > self.values[:, 0] if count > 1 else self.own > self.own

    def captioned_images(self, row: int, images: Sequence[Any] | Tensor, own: str, other: str) -> list[CaptionedImage]:
        """Captioned images of the query's own candidate and of the most similar others.

        Args:
            row: Index of the query.
            images: Images of the candidates.
            own: Caption of the own candidate.
            other: Caption of the other candidates.
        """
        right = bool(self._found[row]) if self.comparable else None
        shown = [(own, self.own[row], row, right)]
        pairs = zip(self.values[row], self.places[row].tolist(), strict=True)
        shown += [(other, value, place, None) for value, place in pairs]
        return [
            CaptionedImage(images[place], f"{caption}\n{value:+.2f}" if self.trained else caption, found)
            for caption, value, place, found in shown
        ]


def inputs_only(name: str, data: Any) -> Preview:
    """Default preview: the images of a batch.

    Args:
        name: Name of the algorithm.
        data: The batch.
    """
    fields = data if isinstance(data, tuple | list) else (data,)
    shown = [field for field in fields if isinstance(field, Tensor) and field.ndim == 4 and field.shape[1] <= 64]
    rows = [[CaptionedImage(field[index]) for field in shown] for index in range(len(shown[0]) if shown else 0)]
    return Preview(f"{name}: what the network sees", "", rows)


__getattr__ = old_names(__name__)
