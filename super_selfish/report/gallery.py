"""The image sections of a report: thumbnails, nearest neighbours and a map of the features."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.drawing.figures import displayable
from super_selfish.drawing.maps import Points, project
from super_selfish.drawing.neighbours import nearest
from super_selfish.engine.callbacks.monitors import features_of
from super_selfish.errors import DataError
from super_selfish.evaluation.features import as_network_input
from super_selfish.images.image_files import printable
from super_selfish.models.combined import in_eval_mode
from super_selfish.supervisors import Supervisor

SIDE = 96
"""Side of a thumbnail in px."""

MAP = (600, 400)
"""Width and height of the map, in units of its SVG view box."""

_COLUMNS = 20
_JPEG_QUALITY = 70
_MARGIN = 12
_QUERIES, _NEAREST = 8, 6
_NAMED_CLASSES = 12  # more names would cover the points of the map
_LINE, _CHARACTER = 18, 11  # height of a line and width of a character, in units of the map


class ClassName(NamedTuple):
    """The name of a class and its position on the map."""

    text: str
    x: float
    y: float


@dataclass
class Gallery:
    """Images of a data set with their thumbnails, nearest neighbours and positions on the map.

    Attributes:
        names: File names of the images, or their indices in the data set.
        labels: Class name of each image; empty without labels.
        sheet: Sprite sheet: all thumbnails in one JPEG, row by row, as a data URI.
        columns: Thumbnails per row of the sheet.
        points: Coordinates (images, 2) on a map of size :data:`MAP`.
        neighbours: Pairs of a query and its nearest neighbours, as indices into ``names``.
    """

    names: list[str]
    labels: list[str]
    sheet: str
    columns: int
    points: Points
    neighbours: list[tuple[int, list[int]]]

    @classmethod
    def of(cls, supervisor: Supervisor, data: object, count: int) -> Gallery:
        """Create a gallery from images and the supervisor's backbone.

        Args:
            supervisor: The trained supervisor.
            data: Images, in any form that a supervisor accepts.
            count: Largest number of images, evenly spaced over the data set.

        Raises:
            DataError: If fewer than two images can be read.
        """
        images = ImageDataset.from_(data, supervisor.preprocessing)
        indices = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(np.int64))
        arrays, labels, names = [], [], []
        for index in indices.tolist():
            try:
                array, label = images.item(index)
            except DataError:
                continue
            arrays.append(array)
            labels.append(label)
            names.append(printable(images.name(index)))
        if len(arrays) < 2:
            raise DataError("A report needs at least two readable images.", received=f"{len(arrays)}")
        with in_eval_mode(supervisor), torch.no_grad():
            pixels = as_network_input(arrays, supervisor.preprocessing)
            features = features_of(supervisor.get_backbone(), pixels, supervisor.device).numpy()
        points = project(features)
        low, span = points.min(0), np.ptp(points, axis=0)
        queries = np.linspace(0, len(features) - 1, min(_QUERIES, len(features))).astype(int).tolist()
        rows = zip(queries, nearest(features[queries], features, k=_NEAREST + 1).tolist(), strict=True)
        columns = min(_COLUMNS, len(arrays))
        return cls(
            names,
            class_names(labels, names, images.class_names),
            thumbnails(arrays, columns),
            columns,
            _MARGIN + (points - low) / np.where(span > 0, span, 1) * (np.array(MAP) - 2 * _MARGIN),
            [(query, [neighbour for neighbour in row if neighbour != query][: len(row) - 1]) for query, row in rows],
        )

    @property
    def classes(self) -> list[str]:
        """The class names in alphabetical order; one empty name without labels."""
        return sorted(set(self.labels)) or [""]

    @property
    def kinds(self) -> list[int]:
        """The index of each image's class in :attr:`classes`."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return [numbers[label] for label in self.labels or [""] * len(self.names)]

    def class_positions(self) -> list[ClassName]:
        """Positions of the class names on the map, from top to bottom, without overlap."""
        classes, kinds = self.classes, np.array(self.kinds)
        if not 1 < len(classes) <= _NAMED_CLASSES:
            return []
        middles = [(*np.median(self.points[kinds == kind], axis=0), name) for kind, name in enumerate(classes)]
        placed: list[ClassName] = []
        for x, y, text in sorted(middles, key=lambda middle: middle[1]):
            half = len(text) * _CHARACTER / 2
            x = float(np.clip(x, half, max(half, MAP[0] - half)))
            y = max(float(y), _LINE)
            for above in placed:  # sorted by y: a name that is moved down is compared with the following ones
                beside = abs(above.x - x) >= half + len(above.text) * _CHARACTER / 2
                y = y if beside else max(y, above.y + _LINE)
            placed.append(ClassName(text, x, min(y, MAP[1] - _LINE / 2)))
        return placed

    def as_json(self) -> dict[str, Any]:
        """Data for the script of the page."""
        labels = self.labels or [""] * len(self.names)
        return {"images": list(zip(self.names, labels, strict=True)), "columns": self.columns, "side": SIDE}


def class_names(labels: list[Any], names: list[str], known: Sequence[str] | None = None) -> list[str]:
    """Class name of each image; empty without labels.

    Args:
        labels: Label of each image, or None.
        names: Name of each image. Without ``known``, images in one folder per class have the names of the folders.
        known: Class names by label, if the data set has them.
    """
    if None in labels:
        return []
    if known is not None:
        return [known[label] for label in labels]
    folders = [Path(name).parent.name for name in names]
    same = len(set(folders)) == len(set(labels)) and "" not in folders
    return folders if same else [str(label) for label in labels]


def thumbnails(images: list[Any], columns: int) -> str:
    """Sprite sheet of square thumbnails of :data:`SIDE` px: one JPEG as a data URI."""
    sheet = Image.new("RGB", (columns * SIDE, math.ceil(len(images) / columns) * SIDE), "white")
    for index, image in enumerate(images):
        pixels = (np.clip(displayable(image), 0, 1) * 255).round().astype(np.uint8)
        square = ImageOps.pad(Image.fromarray(pixels), (SIDE, SIDE), color="white")
        sheet.paste(square, (index % columns * SIDE, index // columns * SIDE))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=_JPEG_QUALITY)
    return data_uri(stream, "jpeg")


def figure_uri(figure: Figure) -> str:
    """A matplotlib figure as a data URI."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return data_uri(stream, "png")


def data_uri(stream: io.BytesIO, kind: str) -> str:
    """Encode an image file as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
