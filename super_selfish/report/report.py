"""All that is known of a training, in one HTML file that needs no network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.drawing.figures import displayable
from super_selfish.drawing.maps import project
from super_selfish.drawing.neighbours import nearest
from super_selfish.engine.callbacks.quality import features_of, ready
from super_selfish.engine.persistence import restore
from super_selfish.errors import CheckpointError, DataError, SuperSelfishError, check_argument, is_count
from super_selfish.files import base_path, replacing, with_suffix
from super_selfish.models.combined import in_eval_mode
from super_selfish.report import html
from super_selfish.supervisors import Supervisor, all_supervisors

TEMPLATE = Path(__file__).with_name("page.html")
_QUERIES, _NEAREST = 8, 6


@dataclass
class Content:
    """What a report is made of.

    Attributes:
        name: Of the training.
        supervisor: As it was stored.
        images: Small pictures, RGB in [0, 1], of those on the map.
        names: Of these images.
        labels: What folder each is in; empty without.
        points: Their places (images, 2).
        found: Places of the neighbours of the first images.
        scores: As ``super-selfish evaluate`` keeps them.
        config: As ``super-selfish train`` keeps it.
        why: Why there are no images.
        stale: Whether the scores that are stored are of other weights.
    """

    name: str
    supervisor: Supervisor
    images: list[npt.NDArray[np.float32]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    points: npt.NDArray[np.float64] | None = None
    found: npt.NDArray[np.int64] | None = None
    queries: list[int] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    stale: bool = False


def report(
    name: str | os.PathLike[str],
    data: object = None,
    path: str | os.PathLike[str] | None = None,
    *,
    count: int = 300,
    **given: Any,
) -> Path:
    """Write a report: settings, curves, advice, the exercise, neighbours, a map of images, scores, versions.

    Args:
        name: As given to ``supervise``.
        data: Images for exercise, neighbours and map: anything that a supervisor can be made of; None: the folder that
            ``super-selfish train`` was given, if it is still there.
        path: The file; None: ``<name>.html``.
        count: Images on the map at most, evenly spaced.
        **given: Networks of your own, as for :func:`super_selfish.load`.

    Returns:
        The file.

    Raises:
        CheckpointError: If there is no such training, or the file cannot be written.
        DataError: If the images cannot be used.
    """
    check_argument(is_count(count, 2), "images", count, "a number of images, at least 2")
    base = base_path(name)
    supervisor = restore(name, all_supervisors(), given)
    content = Content(base.name, supervisor)
    content.scores, content.config = (stored(base, suffix) for suffix in (".scores.json", ".config.json"))
    if content.scores and content.scores.get("weights") != supervisor.stored.get("sha256"):
        content.scores, content.stale = {}, True
    if data is None and isinstance(data := content.config.get("data"), str) and not Path(data).exists():
        content.why, data = f"{data} is gone: super-selfish report NAME DATA shows images from elsewhere.", None
    if data is None:
        content.why = content.why or "No images were given: super-selfish report NAME DATA shows them."
    else:
        look(content, data, count)
    target = with_suffix(base, ".html") if path is None else Path(path)
    text = page(content, None if data is None else data)
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def stored(base: Path, suffix: str) -> dict[str, Any]:
    """A JSON file beside the weights; empty if there is none.

    Raises:
        CheckpointError: If it is damaged.
    """
    path = with_suffix(base, suffix)
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"`{path}` is damaged: {error}.", fix="Remove it, or make it anew.") from error
    return found if isinstance(found, dict) else {}


def look(content: Content, data: object, count: int) -> None:
    """Features, map and neighbours of some of the images."""
    supervisor = content.supervisor
    images = ImageDataset.from_(data, supervisor.preprocessing)
    places = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(np.int64))
    pictures, labels = [], []
    for place in places.tolist():
        try:
            picture, label = images.item(place)
        except DataError:
            continue
        pictures.append(picture)
        labels.append(label)
        content.names.append(str(images.name(place)))
    content.images = [html.small(displayable(picture)) for picture in pictures]
    if None not in labels:
        folders = [Path(name).parent.name for name in content.names]
        alike = len(set(folders)) == len(set(labels)) and "" not in folders
        content.labels = folders if alike else [str(label) for label in labels]
    with in_eval_mode(supervisor), torch.no_grad():
        features = features_of(supervisor.get_backbone(), ready(supervisor, pictures), supervisor.device).numpy()
    if len(features) < 2:
        raise DataError("A report needs at least two images.", received=f"{len(features)}")
    content.points = project(features)
    content.queries = np.linspace(0, len(features) - 1, min(_QUERIES, len(features))).astype(int).tolist()
    found = nearest(features[content.queries], features, k=_NEAREST + 1)
    rows = zip(content.queries, found, strict=True)
    content.found = np.array([[n for n in row if n != query][: found.shape[1] - 1] for query, row in rows])


def page(content: Content, data: object) -> str:
    """The whole page."""
    supervisor = content.supervisor
    sheet = html.sheet(content.images)
    images = [[name, content.labels[index] if content.labels else ""] for index, name in enumerate(content.names)]
    parts: Mapping[str, str] = {
        "title": html.escaped(f"{type(supervisor).__name__.removesuffix('Supervisor')}: {content.name}"),
        "summary": html.summary(supervisor),
        "advice": html.advice_list(supervisor),
        "scores": html.scores_table(content.scores, supervisor, stale=content.stale),
        "curves": html.curves(supervisor),
        "exercise": exercise(content, data),
        "neighbours": html.gallery(content) if content.images else html.note(content.why),
        "map": html.feature_map(content) if content.images else html.note(content.why),
        "settings": html.settings_table(supervisor, content.config),
        "versions": html.versions_table(supervisor, content.name),
        "sheet": sheet.uri,
        "images": json.dumps({"images": images, "columns": sheet.columns, "side": html.SIDE}).replace("<", "\\u003c"),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(parts)


def exercise(content: Content, data: object) -> str:
    """The preview, with the network's answers."""
    if data is None:
        return html.note(content.why)
    try:
        figure = content.supervisor.preview(data, count=4)
    except SuperSelfishError as error:
        return html.note(f"It cannot be drawn: {error}")
    return f'<div class="scroll exercise"><img alt="The exercise on four images" src="{html.figure_uri(figure)}"></div>'
