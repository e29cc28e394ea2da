"""Scores of trained features, compared with an untrained network and raw pixels: ``super-selfish evaluate``."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from super_selfish.cli.comparison import groups_of
from super_selfish.comparison.published import as_published
from super_selfish.datasets.labels import matched, report_classes
from super_selfish.datasets.sources import ImageSource, open_source
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.evaluation import Score, knn, linear_probe, quality, split
from super_selfish.evaluation.baseline import MOST_IMAGES, Pixels, adapt_batch_norm, is_degenerate, shared_images
from super_selfish.evaluation.features import extract_named
from super_selfish.evaluation.intervals import Difference, paired_difference
from super_selfish.evaluation.score import number_groups
from super_selfish.files import base_path, replacing, with_suffix
from super_selfish.models.initialization import initialised_copy
from super_selfish.storage.published import (
    DEFAULT_BACKBONE,
    PRETRAINED,
    has_published_weights,
    published_weights,
)
from super_selfish.studies.statistics import estimate
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
    groups: str | None = None,
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
        groups: Regular expression for the group of an image in its path; None: images are independent.

    Raises:
        ConfigurationError: If there are no published weights of the backbone ``published``, or a group is in both the
            training and the test images.
        DataError: If images have no labels, or no group.
        CheckpointError: If published weights cannot be downloaded.
    """
    backbone, most = supervisor.get_backbone(), supervisor.preprocessing.max_pixels
    torch.manual_seed(0)
    untrained, redrawn = untrained_backbone(supervisor)
    networks: dict[str, nn.Module] = {"trained": backbone, "untrained": untrained, "pixels": Pixels()}
    for network in (untrained, networks["pixels"]):
        object.__setattr__(network, "preprocessing", supervisor.preprocessing)
    networks |= published_backbone(supervisor, published)
    for network in networks.values():
        network.to(supervisor.device)
    train, test = folders(data, test)
    source = open_source(train, max_pixels=most)
    held_out = None if test is None else matched(open_source(test, max_pixels=most), source)
    group_by_name = find_groups(groups, source, held_out)
    notes = notes_on_untrained(redrawn, adapt_batch_norm(untrained, source))
    rows: dict[str, Any] = {}
    hits: dict[str, dict[str, Rows]] = {}
    for key, network in networks.items():
        own = labelled(network, source, train, num_workers, group_by_name)
        other = None if held_out is None else labelled(network, held_out, str(test), num_workers, group_by_name)
        if held_out is not None and other is not None and not rows:
            report_classes(own.y.tolist(), other.y.tolist(), held_out.class_names or source.class_names)
        rows[key], hits[key] = means(own, other, seeds)
        if is_degenerate(rows[key]["quality"]):
            notes.append(f"{key}: degenerate, as all images have nearly the same features")
        if key == "pixels":
            notes += shared_images(own.x, None if other is None else other.x)
    found: dict[str, Any] = {
        "data": train,
        "test": test,
        "groups": groups,
        "protocol": protocol(test, seeds, groups),
        "seeds": seeds,
        "scores": rows,
        "notes": notes,
        "verdicts": verdicts(hits, (other or own).groups),
        "weights": supervisor.stored.get("sha256"),
    }
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


class Labelled(NamedTuple):
    """Features of labelled images.

    Attributes:
        x: Features (images, dim).
        y: Labels (images,).
        groups: Group of each image; None: images are independent.
    """

    x: Rows
    y: Numbers
    groups: list[str] | None


def find_groups(pattern: str | None, source: ImageSource, held_out: ImageSource | None) -> dict[str, str] | None:
    """Group of each image by its name; None without a pattern.

    Raises:
        ConfigurationError: If a group is in both the training and the test images, or the pattern is invalid.
        DataError: If the pattern is not found in the path of an image.
    """
    if pattern is None:
        return None
    found: list[dict[str, str]] = []
    for part in (source, held_out):
        names = [] if part is None else [part.name(index) for index in range(len(part))]
        found.append(dict(zip(names, [] if part is None else groups_of(part, pattern), strict=True)))
    known = set(found[0].values())
    shared = list(dict.fromkeys(group for group in found[1].values() if group in known))
    if shared:
        raise ConfigurationError(
            "Groups are in both the training and the test images, so the scores would be too high (data leakage).",
            expected="no group on both sides",
            received=f"{len(shared)} shared groups, such as {shared[0]!r}",
            fix="Move the images of each group to one side, or pass all labelled images as one folder.",
        )
    return found[0] | found[1]


def labelled(
    network: nn.Module, source: ImageSource, data: str, num_workers: int, group_by_name: Mapping[str, str] | None = None
) -> Labelled:
    """Features, labels and groups of images.

    Raises:
        DataError: If they have no labels.
    """
    x, y, names = extract_named(network, source, num_workers=num_workers, on_error="skip")
    if y is None or len(np.unique(y)) < 2:
        raise DataError(
            "Scores need labels.",
            expected="a folder with a subfolder for each of several classes, or a table with a label for every image",
            received=repr(data),
        )
    return Labelled(x, y, None if group_by_name is None else [group_by_name[name] for name in names])


def means(own: Labelled, test: Labelled | None, seeds: int) -> tuple[dict[str, Any], dict[str, Rows]]:
    """Mean and standard deviation of the scores over seeds, and the label-free quality of the features.

    Returns:
        The scores by method, and for each method how often each test image was classified correctly, in [0, 1].
    """
    x, y, groups = own
    scores: dict[str, list[Score]] = {"knn": [], "probe": []}
    hits = {method: np.full((seeds, len((test or own).y)), np.nan, np.float32) for method in scores}
    for seed in range(seeds):
        rest: Any = slice(None)
        held, train_groups = test or own, groups
        parts = (x, y, held.x, held.y)
        if test is None:
            train, rest = split(y, test=0.5, groups=groups, seed=seed)
            parts = (x[train], y[train], x[rest], y[rest])
            train_groups = None if groups is None else [groups[index] for index in train]
        probe = linear_probe(*parts, seed=seed, groups=train_groups)
        for method, score in (("knn", knn(*parts)), ("probe", probe)):
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


def verdicts(hits: dict[str, dict[str, Rows]], groups: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """For each method, a sentence that compares the trained features with the others, and whether they are better.

    Args:
        hits: For each of the features and each method, how often each image was classified correctly; NaN: not tested.
        groups: Group of each image, which intervals are over; None: images are independent.
    """
    found = []
    for method, name in (("probe", "the linear probe"), ("knn", "kNN")):
        own = hits["trained"][method]
        tested = ~np.isnan(own)
        numbers = (
            None if groups is None else number_groups([groups[index] for index in np.flatnonzero(tested).tolist()])
        )
        pairs = {other: gain(own[tested], hits[other][method][tested], numbers) for other in ("untrained", "pixels")}
        images = f"{int(tested.sum()):,} images" + ("" if numbers is None else f" of {int(numbers.max()) + 1:,} groups")
        parts = [f"{pair.verdict} {COMPARED[other]} ({pair})" for other, pair in pairs.items()]
        text = f"By {name} on {images}, the trained features are {' and '.join(parts)}."
        found.append({"text": text, "better": all(pair.low > 0 for pair in pairs.values())})
    return found


def gain(first: Rows, second: Rows, groups: Numbers | None) -> Difference:
    """Difference of two accuracies on the same images; with groups (images,), its interval is over groups."""
    if groups is None:
        return paired_difference(first, second)
    pair = (np.asarray(rows, np.float64)[None, None] for rows in (first, second))
    return estimate([next(pair)], [next(pair)], groups).difference


def protocol(test: str | None, seeds: int, groups: str | None = None) -> str:
    """A description of the evaluation protocol."""
    where = (
        "a random half of the images of each class, another for each seed"
        if test is None
        else "all images of the test folder"
    )
    if groups is not None:
        where += f"; images with the same {groups!r} in their path are on one side" if test is None else ""
        where += "; intervals over groups"
    if test is None and seeds > 1:
        where += "; the verdicts are on all images that were in the test half of any seed"
    return f"frozen features; tested on {where}; mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''}"
