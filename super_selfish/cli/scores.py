"""Scores of trained features, compared with an untrained network and raw pixels: ``super-selfish evaluate``."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from super_selfish.comparison.published import as_published
from super_selfish.datasets.labels import matched, report_classes
from super_selfish.datasets.sources import ImageSource, open_source
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.errors import DataError
from super_selfish.evaluation import Score, extract_features, knn, linear_probe, quality, split
from super_selfish.evaluation.baseline import MOST_IMAGES, Pixels, adapt_batch_norm, is_degenerate, shared_images
from super_selfish.evaluation.intervals import paired_difference
from super_selfish.files import base_path, replacing, with_suffix
from super_selfish.models.initialization import initialised_copy
from super_selfish.storage.published import (
    DEFAULT_BACKBONE,
    PRETRAINED,
    has_published_weights,
    published_weights,
)
from super_selfish.supervisors import Supervisor

SCORES = ".scores.json"
COMPARED = {"untrained": "those of an untrained network", "pixels": "raw pixels"}

Rows = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


def scored(
    supervisor: Supervisor,
    name: str,
    data: str,
    test: str | None,
    seeds: int,
    num_workers: int = 0,
    published: str | None = None,
) -> dict[str, Any]:
    """Scores of a training, saved in ``<name>.scores.json``.

    Args:
        supervisor: The training. All features are computed on its device.
        name: Its name.
        data: Labelled images.
        test: Others to test on; None: ``data/test`` if there is ``data/train``, else half of the images.
        seeds: Number of random splits and probes, at least 1.
        num_workers: Number of data-loading worker processes.
        published: Backbone by name whose published weights are scored as they are; None: the backbone of the training,
            if its published weights are cached.

    Raises:
        ConfigurationError: If there are no published weights of the backbone ``published``.
        DataError: If images have no labels.
        CheckpointError: If published weights cannot be downloaded.
    """
    backbone = supervisor.get_backbone()
    torch.manual_seed(0)
    untrained, redrawn = untrained_backbone(supervisor)
    networks: dict[str, nn.Module] = {"trained": backbone, "untrained": untrained, "pixels": Pixels()}
    for network in (untrained, networks["pixels"]):
        object.__setattr__(network, "preprocessing", supervisor.preprocessing)
    networks |= published_backbone(supervisor, published)
    for network in networks.values():
        network.to(supervisor.device)
    train, test = folders(data, test)
    most = supervisor.preprocessing.max_pixels
    source = open_source(train, max_pixels=most)
    held_out = None if test is None else matched(open_source(test, max_pixels=most), source)
    notes = notes_on_untrained(redrawn, adapt_batch_norm(untrained, source))
    rows: dict[str, Any] = {}
    hits: dict[str, dict[str, Rows]] = {}
    for key, network in networks.items():
        x, y = labelled(network, source, train, num_workers)
        other = None if held_out is None else labelled(network, held_out, str(test), num_workers)
        if held_out is not None and other is not None and not rows:
            report_classes(y.tolist(), other[1].tolist(), held_out.class_names or source.class_names)
        rows[key], hits[key] = means(x, y, other, seeds)
        if is_degenerate(rows[key]["quality"]):
            notes.append(f"{key}: degenerate, as all images have nearly the same features")
        if key == "pixels":
            notes += shared_images(x, None if other is None else other[0])
    found: dict[str, Any] = {
        "data": train,
        "test": test,
        "protocol": protocol(test, seeds),
        "seeds": seeds,
        "scores": rows,
        "notes": notes,
    }
    found["verdicts"] = verdicts(hits)
    found["weights"] = supervisor.stored.get("sha256")
    with replacing(with_suffix(base_path(name), SCORES)) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def notes_on_untrained(redrawn: Sequence[str], adapted: bool) -> list[str]:
    """How the weights of the untrained network were drawn, and where its batch statistics come from."""
    notes = []
    if redrawn:
        notes.append(f"untrained: {', '.join(redrawn)} drawn with the mean and deviation of the trained values")
    if adapted:
        notes.append(f"untrained: batch norm uses the statistics of up to {MOST_IMAGES} training images")
    return notes


def untrained_backbone(supervisor: SupervisorBase) -> tuple[nn.Module, list[str]]:
    """Return the backbone with initial weights, and the names of custom parameters without known initial values."""
    if isinstance(supervisor.user_arguments.get("backbone"), nn.Module) or supervisor.takes_model():
        network, redrawn = initialised_copy(supervisor.get_backbone())
        return network.eval(), redrawn
    return supervisor.rebuilt_for(supervisor.preprocessing).get_backbone(), []


def published_backbone(supervisor: Supervisor, name: str | None) -> dict[str, nn.Module]:
    """A backbone with its published weights, by its name in the table; empty if there are none to compare with.

    Its images have the size of the training, and the mean and standard deviation that it expects.

    Args:
        supervisor: The training to compare with.
        name: Name of the backbone; None: that of the training, if its published weights are cached.
    """
    chosen = supervisor.user_arguments.get("backbone") if name is None else name
    settled = supervisor.preprocessing
    if name is None and not has_published_weights(chosen):
        return {}
    found = published_weights(chosen, PRETRAINED, settled.resolution, fetch=name is not None)
    if found is None:
        return {}
    return {f"published: {found.name}": as_published(found, chosen or DEFAULT_BACKBONE, settled)}


def folders(data: str, test: str | None) -> tuple[str, str | None]:
    """Training and test folder: the subfolders train and test if both exist and no test folder was passed."""
    inner = [Path(os.fspath(data), part) for part in ("train", "test")]
    if test is None and all(folder.is_dir() for folder in inner):
        return str(inner[0]), str(inner[1])
    return data, test


def labelled(network: nn.Module, source: ImageSource, data: str, num_workers: int) -> tuple[Rows, Numbers]:
    """Features and labels of images.

    Raises:
        DataError: If they have no labels.
    """
    x, y = extract_features(network, source, num_workers=num_workers, on_error="skip")
    if y is None or len(np.unique(y)) < 2:
        raise DataError(
            "Scores need labels.",
            expected="a folder with a subfolder for each of several classes, or a table with a label for every image",
            received=repr(data),
        )
    return x, y


def means(x: Rows, y: Numbers, test: tuple[Rows, Numbers] | None, seeds: int) -> tuple[dict[str, Any], dict[str, Rows]]:
    """Mean and standard deviation of the scores over seeds, and the label-free quality of the features.

    Returns:
        The scores by method, and for each method how often each test image was classified correctly, in [0, 1].
    """
    scores: dict[str, list[Score]] = {"knn": [], "probe": []}
    hits = {method: np.full((seeds, len(y if test is None else test[1])), np.nan, np.float32) for method in scores}
    for seed in range(seeds):
        rest: Any = slice(None)
        parts = (x, y, *(test or (x, y)))
        if test is None:
            train, rest = split(y, test=0.5, seed=seed)
            parts = (x[train], y[train], x[rest], y[rest])
        for method, score in (("knn", knn(*parts)), ("probe", linear_probe(*parts, seed=seed))):
            scores[method].append(score)
            hits[method][seed, rest] = score.correct
    found: dict[str, Any] = {"quality": quality(x).as_dict()}
    for method, values in scores.items():
        plain = [float(value) for value in values]
        spread = statistics.stdev(plain) if len(plain) > 1 else 0.0
        found[method] = {"mean": statistics.mean(plain), "sd": spread, "protocol": values[0].protocol}
    return found, {method: tested_mean(rows) for method, rows in hits.items()}


def tested_mean(hits: Rows) -> Rows:
    """Mean over the seeds (seeds, images) in which an image was tested; NaN for images that never were."""
    tested = ~np.isnan(hits)
    counts = tested.sum(0)
    return np.where(counts > 0, np.nansum(hits, 0) / np.maximum(counts, 1), np.nan).astype(np.float32)


def verdicts(hits: dict[str, dict[str, Rows]]) -> list[dict[str, Any]]:
    """For each method, a sentence that compares the trained features with the others, and whether they are better."""
    found = []
    for method, name in (("probe", "the linear probe"), ("knn", "kNN")):
        own = hits["trained"][method]
        tested = ~np.isnan(own)
        pairs = {
            other: paired_difference(own[tested], hits[other][method][tested]) for other in ("untrained", "pixels")
        }
        parts = [f"{pair.verdict} {COMPARED[other]} ({pair})" for other, pair in pairs.items()]
        text = f"By {name} on {int(tested.sum()):,} images, the trained features are {' and '.join(parts)}."
        found.append({"text": text, "better": all(pair.low > 0 for pair in pairs.values())})
    return found


def protocol(test: str | None, seeds: int) -> str:
    """A description of the evaluation protocol."""
    where = (
        "a random half of the images of each class, another for each seed"
        if test is None
        else "all images of the test folder"
    )
    return f"frozen features; tested on {where}; mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''}"


def table(found: dict[str, Any]) -> str:
    """The scores as text, and the verdicts."""
    width = max(12, *(len(name) + 2 for name in found["scores"]))
    lines = [f"{'features':{width}}{'kNN accuracy':>16}{'linear probe accuracy':>24}{'effective rank':>18}"]
    for name, row in found["scores"].items():
        near, probe = (f"{100 * row[key]['mean']:.1f} % ± {100 * row[key]['sd']:.1f}" for key in ("knn", "probe"))
        measured = row["quality"]
        lines.append(
            f"{name:{width}}{near:>16}{probe:>24}{measured['effective_rank']:>11.1f} of {measured['dimensions']}"
        )
    lines += ["", found["protocol"], *found.get("notes", [])]
    lines += [found["scores"]["trained"][key]["protocol"] for key in ("knn", "probe")]
    lines += ["", *(verdict["text"] for verdict in found["verdicts"])]
    return "\n".join(lines)
