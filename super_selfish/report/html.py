"""The pieces of a report's page, as HTML."""

from __future__ import annotations

import base64
import html as entities
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from super_selfish.drawing.figures import PALETTE
from super_selfish.engine.callbacks.diagnosis import advice
from super_selfish.supervisors import Supervisor
from super_selfish.version import __version__

if TYPE_CHECKING:
    from super_selfish.report.report import Content

SIDE = 96
"""Of an image on the page, in px."""

_COLUMNS = 20
_QUALITY = 70
_MARKS = (  # shapes within a circle of radius 6: classes differ in shape as well as in colour
    '<circle r="5"/>',
    '<rect x="-4.5" y="-4.5" width="9" height="9"/>',
    '<path d="M0-6 5.5 4h-11z"/>',
    '<path d="M0 6 5.5-4h-11z"/>',
    '<path d="M0-6.5 5 0 0 6.5-5 0z"/>',
    '<path d="M-6-2h4v-4h4v4h4v4h-4v4h-4v-4h-4z"/>',
)
_CURVES = {
    "loss": ("Loss", "mean of an epoch"),
    "consistency": ("Consistency", "how often an image's mirrored crop is nearest to it, of a few images"),
    "effective_rank": ("Effective rank", "how many dimensions the features use"),
    "uniformity": ("Uniformity", "lower: features spread more evenly"),
    "alignment": ("Alignment", "squared distance of an image and its mirrored crop"),
    "spread": ("Spread of embeddings", "near 0: all alike, a collapse"),
    "knn": ("kNN", "accuracy on labelled images, which training does not see"),
    "probe": ("Linear probe", "accuracy on labelled images, which training does not see"),
    "images_per_second": ("Images per second", "speed of training"),
    "data_wait": ("Waiting for data", "share of the time"),
}


class Sheet(NamedTuple):
    """All small images in one picture."""

    uri: str
    columns: int


def escaped(text: object) -> str:
    """Text that is safe within a page."""
    return entities.escape(str(text), quote=True)


def note(text: str) -> str:
    """A line in soft ink."""
    return f'<p class="soft">{escaped(text)}</p>'


def small(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """An image scaled into a square of :data:`SIDE` px, with white beside it."""
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
    factor = SIDE / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))))
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return np.asarray(square, np.float32) / np.float32(255)


def sheet(images: Sequence[npt.NDArray[np.float32]]) -> Sheet:
    """Small images, row by row, as one JPEG in an address."""
    columns = min(_COLUMNS, max(1, len(images)))
    rows = math.ceil(len(images) / columns) or 1
    picture = Image.new("RGB", (columns * SIDE, rows * SIDE), "white")
    for index, pixels in enumerate(images):
        tile = Image.fromarray((pixels * 255).round().astype(np.uint8))
        picture.paste(tile, (index % columns * SIDE, index // columns * SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return Sheet(f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}", columns)


def figure_uri(figure: Figure) -> str:
    """A picture of matplotlib in an address."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def summary(supervisor: Supervisor) -> str:
    """What was trained on what, for how long."""
    cursor, shape = supervisor.cursor, supervisor.preprocessing
    epochs = "1 epoch" if cursor.epoch == 1 else f"{cursor.epoch:,} epochs"
    return (
        f"{epochs}, {cursor.step:,} updates, {cursor.samples:,} images seen. Images: {escaped(shape.describe())}. "
        f"Features: {supervisor.feature_dim:,}."
    )


def advice_list(supervisor: Supervisor) -> str:
    """Advice in words, with what was skipped."""
    said = advice(supervisor.history, supervisor._expectation())
    if supervisor.skipped:
        said.append(f"Warning: {len(supervisor.skipped)} images could not be read and were left out.")
    good = ("Still improving", "Plateau", "Too early", "No epoch")
    items = [f'<li class="{"good" if line.startswith(good) else "warn"}">{escaped(line)}</li>' for line in said]
    return f'<ul class="advice">{"".join(items)}</ul>'


def scores_table(scores: Mapping[str, Any], supervisor: Supervisor, *, stale: bool = False) -> str:
    """Scores with their protocol; without any, or if there are only those of other weights, how to get them."""
    if stale:
        return note("Those that are stored are of other weights: run super-selfish evaluate NAME DATA again.")
    if not scores:
        last = supervisor.history[-1] if supervisor.history else {}
        kept = {key: last[key] for key in ("knn", "probe") if key in last}
        if not kept:
            return note(
                "None were measured: super-selfish evaluate NAME DATA does, on a folder with a subfolder a class."
            )
        found = ", ".join(f"{_CURVES[key][0]} {value:.3f}" for key, value in kept.items())
        return f"<p>After the last epoch: {escaped(found)}, as supervise(evaluate=...) measured.</p>"
    rows = []
    for name, row in scores["scores"].items():
        cells = [f"{row[key]['mean']:.3f} ± {row[key]['sd']:.3f}" for key in ("knn", "probe")]
        cells.append(f"{row['quality']['effective_rank']:.1f} of {row['quality']['dimensions']}")
        rows.append([name, *cells])
    told = [scores["protocol"], *(scores["scores"]["trained"][key]["protocol"] for key in ("knn", "probe"))]
    head = ["features", "kNN", "linear probe", "effective rank"]
    return table(head, rows, numbers=True) + "".join(map(note, told))


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: bool = False) -> str:
    """A table; with ``numbers``, all columns but the first are set to the right."""
    kinds = ["", *([' class="number"'] * (len(head) - 1) if numbers else [""] * (len(head) - 1))]
    top = "".join(f'<th scope="col"{kind}>{escaped(cell)}</th>' for cell, kind in zip(head, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escaped(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def curves(supervisor: Supervisor) -> str:
    """A small picture for each measure."""
    drawn = []
    for key, (title, said) in _CURVES.items():
        points = [(entry["epoch"], float(entry[key])) for entry in supervisor.history if entry.get(key) is not None]
        points = [(epoch, value) for epoch, value in points if math.isfinite(value)]
        if points:
            chance = supervisor._expectation().chance if key == "loss" else None
            drawn.append(curve(title, said, points, chance))
    return f'<div class="curves">{"".join(drawn)}</div>' if drawn else note("No epoch has come to its end.")


def curve(title: str, said: str, points: Sequence[tuple[int, float]], chance: float | None = None) -> str:
    """One measure over the epochs, with its last value."""
    width, height, left, top, right, bottom = 320, 170, 46, 14, 310, 146
    values = [value for _, value in points] + ([] if chance is None else [chance])
    low, high = min(values), max(values)
    low, high = (low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)) if low == high else (low, high)
    first, last = points[0][0], points[-1][0]

    def x(epoch: float) -> float:
        return (left + right) / 2 if first == last else left + (epoch - first) / (last - first) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    line = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in points)
    marks = "".join(
        f'<circle cx="{x(epoch):.1f}" cy="{y(value):.1f}" r="{3 if len(points) < 40 else 1.5}"><title>epoch {epoch}: '
        f"{value:.4g}</title></circle>"
        for epoch, value in points
    )
    if chance is not None:
        marks += f'<line class="chance" x1="{left}" x2="{right}" y1="{y(chance):.1f}" y2="{y(chance):.1f}"/>'
        said += f"; dashed: a guess, {chance:.3f}"
    texts = f'<text x="4" y="{top + 6}">{high:.3g}</text><text x="4" y="{bottom}">{low:.3g}</text>'
    texts += f'<text x="{left}" y="{height - 8}">epoch {first}</text>'
    texts += f'<text x="{right}" y="{height - 8}" text-anchor="end">{last}</text>' if last != first else ""
    caption = f"<strong>{escaped(title)}</strong> {points[-1][1]:.4g} <span>({escaped(said)})</span>"
    picture = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escaped(title)} over the epochs">'
    return (
        f'<figure>{picture}{texts}<polyline points="{line}"/>{marks}</svg><figcaption>{caption}</figcaption></figure>'
    )


def tile(place: int, columns: int, size: int = SIDE) -> str:
    """One of the small images."""
    scale = size / SIDE
    x, y = -(place % columns) * size, -(place // columns) * size
    style = f"width:{size}px;height:{size}px;background-position:{x}px {y}px;"
    style += f"background-size:{columns * SIDE * scale:g}px auto"
    return f'<span class="tile" style="{style}"></span>'


def gallery(content: Content) -> str:
    """Images, each with those that are most like it by their features."""
    columns, rows = sheet_columns(content), []
    for query, places in zip(content.queries, content.found if content.found is not None else [], strict=True):
        cells = []
        for place in places:
            sign = ""
            if content.labels:
                right = content.labels[int(place)] == content.labels[query]
                sign = f'<span class="sign{"" if right else " no"}">{"✓" if right else "✗"}</span>'
            name = escaped(content.names[int(place)])
            cells.append(f'<span class="cell" title="{name}">{tile(int(place), columns, 64)}{sign}</span>')
        first = f'<span class="cell query" title="{escaped(content.names[query])}">{tile(query, columns, 64)}</span>'
        rows.append(f'<div class="row">{first}{"".join(cells)}</div>')
    told = "Left, an image; beside it those with the most similar features (cosine), among those of the map."
    told += " ✓: the same class, ✗: another; labels are used for these signs alone." if content.labels else ""
    return note(told) + f'<div class="scroll">{"".join(rows)}</div>'


def sheet_columns(content: Content) -> int:
    """Images in a row of the sheet."""
    return min(_COLUMNS, max(1, len(content.images)))


def feature_map(content: Content) -> str:
    """Images as points; pointing at one shows it."""
    points = content.points if content.points is not None else np.zeros((0, 2))
    low, span = points.min(0), np.ptp(points, axis=0)
    places = 12 + (points - low) / np.where(span > 0, span, 1) * (576, 376)
    classes = sorted(set(content.labels)) if content.labels else [""]
    marks = []
    for index, (x, y) in enumerate(places):
        kind = classes.index(content.labels[index]) if content.labels else 0
        word = escaped(content.names[index] + (f", {content.labels[index]}" if content.labels else ""))
        marks.append(
            f'<use href="#m{kind % len(_MARKS)}" data-n="{index}" x="{x:.1f}" y="{y:.1f}" tabindex="-1" '
            f'fill="{PALETTE[kind % len(PALETTE)]}"><title>{word}</title></use>'
        )
    shapes = "".join(f'<g id="m{index}">{mark}</g>' for index, mark in enumerate(_MARKS))
    legend = "".join(
        f'<li><svg viewBox="-7 -7 14 14"><g fill="{PALETTE[kind % len(PALETTE)]}">{_MARKS[kind % len(_MARKS)]}</g>'
        f"</svg>{escaped(name)}</li>"
        for kind, name in enumerate(classes)
        if name
    )
    told = note(
        f"{len(content.images)} images by their features (t-SNE): neighbours are alike, distances between groups mean "
        "little. Point at a mark, or tap it, to see the image."
        + (" Colours and shapes are the folders." if legend else "")
    )
    svg = '<svg id="map" viewBox="0 0 600 400" role="img" aria-label="Map of images">'
    svg += f"<defs>{shapes}</defs>{''.join(marks)}</svg>"
    shown = f'<div id="shown">{tile(0, sheet_columns(content))}<p class="name">point at a mark</p></div>'
    return f'{told}<div class="map"><div>{svg}<ul class="legend">{legend}</ul></div>{shown}</div>'


def settings_table(supervisor: Supervisor, config: Mapping[str, Any]) -> str:
    """The algorithm's arguments, and those of the last training."""
    rows: list[list[object]] = [[key, _value(value)] for key, value in supervisor.hyperparameters().items()]
    rows += [[key, _value(value)] for key, value in supervisor.user_arguments.items() if isinstance(value, str)]
    trained = stored_settings(supervisor)
    rows += [[f"supervise: {key}", _value(value)] for key, value in trained.items()]
    rows += [[f"command: {key}", _value(config[key])] for key in ("data", "device") if key in config]
    return table(["setting", "value"], rows)


def stored_settings(supervisor: Supervisor) -> dict[str, Any]:
    """What the stored training was told."""
    return dict((supervisor.stored.get("training") or {}).get("settings") or {})


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def versions_table(supervisor: Supervisor, name: str) -> str:
    """Who made the weights, and who this page."""
    told = dict(supervisor.stored.get("versions") or {})
    rows: list[list[object]] = [[f"trained with {key}", value] for key, value in told.items()]
    rows += [
        ["report made by", f"super_selfish {__version__}"],
        ["run", supervisor.run_id],
        ["weights", f"{name}.safetensors"],
    ]
    return table(["what", "which"], rows)
