"""A report on a training as a self-contained HTML file, which works offline."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from super_selfish.distributed.placement import device_by_name
from super_selfish.drawing.figures import PALETTE
from super_selfish.drawing.previews import preview_figure
from super_selfish.engine import previews
from super_selfish.errors import CheckpointError, SuperSelfishError, check_argument, is_count, validate_keywords
from super_selfish.files import base_path, replacing, with_suffix
from super_selfish.report import sections
from super_selfish.report.gallery import Gallery, figure_uri
from super_selfish.saved import CONSTRUCTOR_ARGUMENTS, restore
from super_selfish.supervisors import Supervisor, all_supervisors

TEMPLATE = Path(__file__).with_name("page.html")


@validate_keywords(["name", "data", "path", "count", "device", *sorted(CONSTRUCTOR_ARGUMENTS)])
def report(
    name: str | os.PathLike[str],
    data: object = None,
    path: str | os.PathLike[str] | None = None,
    *,
    count: int = 300,
    device: str = "cpu",
    **given: Any,
) -> Path:
    """Write a report: diagnostics, scores, training curves, pretext task, nearest neighbours, feature map and settings.

    Args:
        name: Name of the training, as passed to ``supervise``.
        data: Images for the pretext task, the nearest neighbours and the map, in any form that a supervisor accepts;
            None: the folder that was passed to ``super-selfish train``, if it still exists.
        path: Output file; None: ``<name>.html``.
        count: Largest number of images on the map, evenly spaced over the data set.
        device: Device on which features and predictions are computed; ``"auto"``: a GPU if there is one.
        **given: User-supplied networks, as for :func:`super_selfish.load`.

    Returns:
        Path of the file.

    Raises:
        CheckpointError: If there is no training with this name, or the file cannot be written.
        ConfigurationError: If ``count`` is out of range, or the device is not available.
        DataError: If the images cannot be read.
    """
    check_argument(is_count(count, 2), "images", count, "a number of images, at least 2")
    base, on = base_path(name), device_by_name(device)
    supervisor = restore(name, all_supervisors(), given).to(on)
    scores, config = (read_json(with_suffix(base, suffix)) for suffix in (".scores.json", ".config.json"))
    missing = "No images were given. To include them, run super-selfish report NAME DATA."
    if data is None and isinstance(data := config.get("data"), str) and not Path(data).exists():
        missing, data = (
            f"{data} does not exist any more. To include other images, run super-selfish report NAME DATA.",
            None,
        )
    content = {
        "title": f"{type(supervisor).__name__.removesuffix('Supervisor')}: {base.name}",
        "summary": sections.summary(supervisor),
        "diagnosis": sections.diagnosis(supervisor, scores),
        "scores": sections.scores(scores, supervisor),
        "curves": sections.curves(supervisor),
        "preview": {"uri": "", "missing": missing} if data is None else preview(supervisor, data),
        "gallery": None if data is None else Gallery.of(supervisor, data, count),
        "missing": missing,
        "palette": PALETTE,
        "settings": sections.settings(supervisor, config),
        "versions": sections.versions(supervisor, base.name),
    }
    target = with_suffix(base, ".html") if path is None else Path(path)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(content)
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return target


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; empty if the file does not exist.

    Raises:
        CheckpointError: If the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"`{path}` is damaged: {error}.", fix="Delete the file, or create it again.") from error
    return found if isinstance(found, dict) else {}


def preview(supervisor: Supervisor, data: object) -> dict[str, Any]:
    """The preview of the pretext task: its texts, and the images as a data URI; or the reason why it is missing."""
    try:
        shown = previews.preview(supervisor, data, 4)
        uri = figure_uri(preview_figure(shown._replace(title="", note="")))
    except SuperSelfishError as error:
        return {"uri": "", "missing": f"No preview: {error}"}
    return {"uri": uri, "missing": "", "title": shown.title, "notes": shown.note.splitlines()}
