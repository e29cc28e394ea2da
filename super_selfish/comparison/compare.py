"""Comparison of algorithms on the user's own images: :func:`compare`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from super_selfish.comparison import page
from super_selfish.comparison.budget import Algorithms, Budget, budget_seconds
from super_selfish.comparison.images import Images, add_labelled, read_images
from super_selfish.comparison.published import published_references
from super_selfish.comparison.records import Row, RunLog
from super_selfish.comparison.result import Comparison
from super_selfish.comparison.running import Running
from super_selfish.comparison.session import locked, stopped_by_signals
from super_selfish.datasets.preprocessing import Preprocessing, fit_preprocessing
from super_selfish.datasets.sources import ImageSource, open_source
from super_selfish.distributed.placement import device_by_name
from super_selfish.errors import (
    ConfigurationError,
    check_argument,
    check_choice,
    is_count,
    validate_keywords,
)
from super_selfish.evaluation.score import as_groups
from super_selfish.files import base_path, check_writable, with_suffix
from super_selfish.models.named import named_backbone
from super_selfish.suggestions import did_you_mean
from super_selfish.supervisors import algorithm_names, all_supervisors
from super_selfish.version import __version__

LARGEST_SIDE = 64
"""Side in px that larger images are reduced to, unless ``resolution`` is passed."""

_READING = 0.1  # fraction of the budget for reading images


@validate_keywords()
def compare(
    images: Any,
    labelled: Any = None,
    budget: str | float = "30min",
    *,
    groups: Sequence[Hashable] | None = None,
    backbone: str | nn.Module = "small_resnet",
    resolution: int | None = None,
    batch_size: int = 64,
    algorithms: Sequence[str] | None = None,
    references: Mapping[str, nn.Module] | None = None,
    weights: Sequence[str] | None = None,
    name: str | os.PathLike[str] = "store/compare",
    seed: int = 0,
    device: str = "auto",
    num_workers: int = 0,
    resume: bool | Literal["auto"] = "auto",
    verbose: bool = True,
) -> Comparison:
    """Compare all algorithms on your images within a time budget, and recommend one.

    Stage 1 trains every applicable algorithm with the same small network for the same time. Stage 2 trains the best
    four anew, 3.5 times as long: with one seed, or two from a budget of one hour. Features are scored on the labelled
    images by kNN and ridge regression, in repeated stratified cross-validation. Without labels, there is no stage 2,
    and a first choice among the applicable algorithms is recommended. Labels are never used for training.

    Writes ``<name>.html``, ``<name>.png`` and ``<name>.json``, and ``<name>.runs.jsonl`` with a line per run, from
    which the same call continues after an interruption. Neither weights nor features are kept.

    Args:
        images: Images for training: a folder, a data set, an array or a tensor. Their labels are not used. Up to
            20,000 images are read, once, and held in memory.
        labelled: Labelled images to score features on: a folder with a subfolder per class, a data set or (images,
            labels). At least 20 images of two classes; up to 4,000 are used. May be the same images. None: no scores.
        budget: Total time: seconds, or text such as ``"30min"`` or ``"2h"``; at least 10 s.
        groups: Group of each labelled image, such as a patient (labelled,), in the order of the images: that of
            ``open_source(labelled)``, sorted by path for a folder. Groups stay together in cross-validation, as exact
            duplicates do.
        backbone: Name of the network that every algorithm trains, or a network, of which each trains a copy.
        resolution: Side of the images in px. None: that of the images, at most 64; lowered if the budget is short.
        batch_size: Number of images per update; at most a quarter of the images is used.
        algorithms: Names of the algorithms. None: all.
        references: Networks whose features are scored as they are, by name, such as pretrained ones.
        weights: Published weights that are scored as they are: ``"imagenet"`` and other names of weights of `backbone`,
            or a backbone with published weights, such as ``"resnet18"`` or ``"timm:resnet18.a1_in1k"``.
        name: Path of the output files, without suffix.
        seed: Random seed.
        device: ``"cpu"``, ``"cuda"``, ...; ``"auto"``: a GPU if available.
        num_workers: Number of data-loading worker processes.
        resume: ``"auto"``: continue the comparison in ``<name>.runs.jsonl`` if there is one; True: it must exist;
            False: start over, and keep the older file as ``*.prev``.
        verbose: Print the forecast and a line per run to stderr.

    Returns:
        The result; ``print`` shows table and verdict.

    Raises:
        ConfigurationError: If an argument is invalid.
        DataError: If there are too few images or labelled images.
        CheckpointError: If files cannot be written, weights cannot be downloaded, or there is nothing to resume.
        CheckpointMismatch: If ``<name>.runs.jsonl`` belongs to other images or settings.

    Examples:
        >>> comparison = compare("photos/", labelled="labelled/", budget="30min")  # doctest: +SKIP
        >>> comparison.recommended  # doctest: +SKIP
        'rotate_net'
    """
    budget_left = Budget(budget_seconds(budget))
    check_numbers(resolution, batch_size, seed, num_workers)
    check_choice("resume", resume, (True, False, "auto"))
    check_labelled(labelled, groups, weights)
    chosen, base, on = chosen_algorithms(algorithms), base_path(name), device_by_name(device)
    check_writable(base)
    source = open_source(images)
    scored = None if labelled is None else open_source(labelled)
    groups = None if groups is None or scored is None else as_groups(groups, len(scored))
    preprocessing = small_preprocessing(source, resolution)
    if isinstance(backbone, str):
        named_backbone(backbone, preprocessing.channels)  # an unknown name is an error before anything is written
    published = published_references(weights or (), backbone)
    settings = {
        **identity(source, scored, groups, backbone),
        "references": sorted([*(references or {}), *published]),
        "algorithms": sorted(chosen),
        **{"budget": budget_left.seconds, "resolution": resolution, "batch_size": batch_size, "seed": seed},
    }
    with locked(base), stopped_by_signals():
        log = RunLog(with_suffix(base, ".runs.jsonl"), settings, resume, Row)
        if log.rows:
            budget_left = Budget(budget_left.seconds, log.rows[-1].used)
        data = read(source, scored, preprocessing, groups, budget_left, log)
        run = Running(log, budget_left, data, chosen, backbone, batch_size, on, num_workers, seed, verbose)
        with log.interruptions():
            found = run.compare(references or {}, published, may_shrink=resolution is None)
        page.write(found, base)
    return found


def check_numbers(resolution: object, batch_size: object, seed: object, num_workers: object) -> None:
    """Check the numbers among the arguments.

    Raises:
        ConfigurationError: If one is out of range.
    """
    check_argument(resolution is None or is_count(resolution, 32), "resolution", resolution, "None, or at least 32 px")
    check_argument(is_count(batch_size, 2), "batch_size", batch_size, "an integer of at least 2")
    check_argument(is_count(seed, 0), "seed", seed, "an integer of at least 0")
    check_argument(is_count(num_workers, 0), "num_workers", num_workers, "an integer of at least 0")


def check_labelled(labelled: object, groups: object, weights: object) -> None:
    """Check that there are labelled images if arguments need them.

    Raises:
        ConfigurationError: If there are none.
    """
    if groups is not None and labelled is None:
        raise ConfigurationError("`groups` are those of the labelled images.", received="labelled=None")
    if weights is not None and labelled is None:
        raise ConfigurationError("Published weights are scored on labelled images.", fix="Pass `labelled`.")


def identity(
    source: ImageSource, labelled: ImageSource | None, groups: Sequence[Hashable] | None, backbone: str | nn.Module
) -> dict[str, Any]:
    """What identifies images, groups, network and version of a comparison, as JSON."""
    return {
        "images": source.fingerprint(),
        "labelled": None if labelled is None else labelled.fingerprint(),
        "groups": None if groups is None else hashlib.sha256(repr(list(groups)).encode()).hexdigest()[:16],
        "backbone": backbone if isinstance(backbone, str) else type(backbone).__qualname__,
        "version": __version__,
    }


def chosen_algorithms(names: Sequence[str] | None) -> Algorithms:
    """Algorithms by name, from names and aliases.

    Raises:
        ConfigurationError: If a name is unknown, or there are fewer than two.
    """
    known, spelled = all_supervisors(), algorithm_names()
    if names is None:
        return known
    wanted = [names] if isinstance(names, str) else list(names)
    for each in wanted:
        if each not in spelled:
            raise ConfigurationError(
                f"There is no algorithm {each!r}.", expected=", ".join(known), fix=did_you_mean(each, spelled)
            )
    if len({spelled[each] for each in wanted}) < 2:
        raise ConfigurationError("`algorithms` has fewer than two names.", received=f"algorithms={names!r}")
    return {spelled[each]: known[spelled[each]] for each in wanted}


def small_preprocessing(source: ImageSource, resolution: int | None) -> Preprocessing:
    """Preprocessing of the images at ``resolution``, or at their own side up to 64 px."""
    fitted = fit_preprocessing(source, resolution=resolution, on_error="skip")
    side = resolution or min(LARGEST_SIDE, *fitted.resolution)
    return dataclasses.replace(fitted, resolution=(side, side))


def read(
    source: ImageSource,
    labelled: ImageSource | None,
    preprocessing: Preprocessing,
    groups: Sequence[Hashable] | None,
    budget: Budget,
    log: RunLog[Any],
    *,
    hold_out: bool = True,
    is_optional: bool = True,
) -> Images:
    """Read the images; a resumed comparison reads the same ones again."""
    begin, limit = budget.used, _READING * budget.seconds
    sizes = (None, None) if log.plan is None else (log.plan["images"], log.plan["labelled"])
    is_over: Callable[[], bool] = (lambda: budget.used - begin > limit) if log.plan is None else (lambda: False)
    data = read_images(source, preprocessing, is_over, sizes[0], hold_out=hold_out)
    if labelled is not None:
        begin = budget.used
        add_labelled(data, labelled, preprocessing, groups, is_over, sizes[1], is_optional=is_optional)
    return data
