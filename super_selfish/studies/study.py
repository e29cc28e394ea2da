"""Whether pretraining helped on the user's own images: :func:`study`."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import Any, Literal

from torch import nn

from super_selfish.comparison.budget import Budget, budget_seconds
from super_selfish.comparison.compare import check_numbers, identity, read, small_preprocessing
from super_selfish.comparison.records import RunLog
from super_selfish.comparison.result import Comparison
from super_selfish.comparison.session import locked, stopped_by_signals
from super_selfish.datasets.sources import open_source
from super_selfish.distributed.placement import device_by_name
from super_selfish.errors import check_choice, validate_keywords
from super_selfish.files import base_path, check_writable, with_suffix
from super_selfish.studies import page
from super_selfish.studies.arguments import (
    arms_of,
    check_backbone,
    check_suitable,
    check_weights,
    chosen_algorithm,
    digest,
    groups_of_images,
)
from super_selfish.studies.cohort import Cohort, make_cohort
from super_selfish.studies.curves import Curves
from super_selfish.studies.lab import Lab
from super_selfish.studies.plan import StudyPlan
from super_selfish.studies.records import StudyRow
from super_selfish.studies.result import Study
from super_selfish.studies.running import StudyRuns, sizes
from super_selfish.studies.verdict import verdict
from super_selfish.version import __version__

STUDY = "study"


@validate_keywords()
def study(
    images: Any,
    labelled: Any,
    budget: str | float = "30min",
    *,
    algorithm: str | Comparison = "rotate_net",
    backbone: str | nn.Module = "small_resnet",
    weights: str | None = None,
    adapt: bool = False,
    groups: Sequence[Hashable] | None = None,
    image_groups: Sequence[Hashable] | None = None,
    pretrain_on_test: bool = False,
    resolution: int | None = None,
    batch_size: int = 64,
    name: str | os.PathLike[str] = "store/study",
    seed: int = 0,
    device: str = "auto",
    num_workers: int = 0,
    resume: bool | Literal["auto"] = "auto",
    verbose: bool = True,
) -> Study:
    """Measure whether self-supervised pretraining helps on your images, within a time budget.

    The labelled images are split into training and test images once. The same network is scored untrained, pretrained
    on the images and, if `weights` is passed, with these published weights as they are: by linear probes on frozen
    features with 1, 5, 20, 100 and all labels per class, and by fine-tuning with two of these. Fine-tuning of the
    untrained network is supervised training from scratch. Test images, their near duplicates and their groups stay out
    of pretraining.

    The budget determines the number of pretraining seeds and of random label subsets (draws), whether there is
    fine-tuning, and the length of pretraining; the plan is logged before it starts. Writes ``<name>.html``,
    ``<name>.png`` and ``<name>.json``, and ``<name>.runs.jsonl`` with a line per network, from which the same call
    continues after an interruption. Weights are not kept.

    Args:
        images: Images for pretraining: a folder, a data set, an array or a tensor. Their labels are not used. Up to
            20,000 images are read, once, and held in memory.
        labelled: Labelled images: a folder with a subfolder per class, a data set or (images, labels). At least 34
            images of two classes; up to 4,000 are used. May be the same images.
        budget: Total time: seconds, or text such as ``"30min"`` or ``"2h"``; at least 10 s.
        algorithm: Name of the pretraining algorithm, or the result of :func:`super_selfish.compare`, whose
            recommendation is taken.
        backbone: Name of the network, or a network, which is reinitialised.
        weights: Published weights of the backbone, such as ``"imagenet"``, which are scored as they are. None: none.
        adapt: Also pretrain on the images from `weights`, by ``recipe="adapt"``.
        groups: Group of each labelled image, such as a patient (labelled,), in the order of the images: that of
            ``open_source(labelled)``, sorted by path for a folder. No group is in both training and test.
        image_groups: Group of each image for pretraining, named as in `groups`, and None where it is unknown (images,).
            None: `groups` if `images` and `labelled` are the same.
        pretrain_on_test: Pretrain on the test images too, without their labels.
        resolution: Side of the images in px. None: that of the images, at most 64; lowered if the budget is short.
        batch_size: Number of images per update; at most a quarter of the images is used.
        name: Path of the output files, without suffix.
        seed: Random seed of networks and pretraining; the test split does not depend on it.
        device: ``"cpu"``, ``"cuda"``, ...; ``"auto"``: a GPU if available.
        num_workers: Number of data-loading worker processes.
        resume: ``"auto"``: continue the study in ``<name>.runs.jsonl`` if there is one; True: it must exist; False:
            start over, and keep the older file as ``*.prev``.
        verbose: Print the forecast and a line per network to stderr.

    Returns:
        The result; ``print`` shows table and verdict.

    Raises:
        ConfigurationError: If an argument is invalid, or the budget is too short.
        DataError: If there are too few images or labels, or the images do not suit the algorithm.
        CheckpointError: If files cannot be written, weights cannot be downloaded, or there is nothing to resume.
        CheckpointMismatch: If ``<name>.runs.jsonl`` belongs to other images or settings.

    Examples:
        >>> found = study("photos/", labelled="labelled/", budget="30min")  # doctest: +SKIP
        >>> found.outcome  # doctest: +SKIP
        'helped'
    """
    budget_left = Budget(budget_seconds(budget))
    check_numbers(resolution, batch_size, seed, num_workers)
    check_choice("resume", resume, (True, False, "auto"))
    check_weights(labelled, weights, backbone, adapt)
    chosen, base, on = chosen_algorithm(algorithm), base_path(name), device_by_name(device)
    check_writable(base)
    source, scored = open_source(images), open_source(labelled)
    preprocessing = small_preprocessing(source, resolution)
    check_backbone(backbone, weights, preprocessing)
    given_groups = groups_of_images(source, scored, groups, image_groups)
    settings = identity(source, scored, groups, backbone) | {"image_groups": digest(given_groups)}
    settings |= {"algorithm": chosen[0], "weights": weights, "adapt": adapt, "pretrain_on_test": pretrain_on_test}
    settings |= {"budget": budget_left.seconds, "resolution": resolution, "batch_size": batch_size, "seed": seed}
    with locked(base, STUDY), stopped_by_signals():
        log = RunLog(with_suffix(base, ".runs.jsonl"), settings, resume, StudyRow, STUDY)
        if log.rows:
            budget_left = Budget(budget_left.seconds, log.rows[-1].used)
        data = read(source, scored, preprocessing, groups, budget_left, log, hold_out=False, is_optional=False)
        read_sizes, size = sizes(data), max(2, min(batch_size, len(data.train) // 4))
        check_suitable(data, *chosen, size)
        cohort = make_cohort(data, given_groups, pretrain_on_test=pretrain_on_test)
        lab = Lab(cohort, chosen[1], backbone, weights, size, on, num_workers, budget_left.now)
        runs = StudyRuns(log, budget_left, cohort, lab, arms_of(weights, adapt), seed, verbose)
        with log.interruptions():
            plan = runs.run(chosen[0], read_sizes, may_shrink=resolution is None)
        found = result(cohort, runs, plan, chosen[0], str(on), size)
        page.write(found, base)
    return found


def result(cohort: Cohort, runs: StudyRuns, plan: StudyPlan, algorithm: str, device: str, batch_size: int) -> Study:
    """The result with its verdict."""
    images, budget, log = cohort.images, runs.budget, runs.log
    side, channels = images.train.shape[2:]
    used = f"{side} px, {channels} channels, batch size {batch_size}, seed {runs.seed}, super_selfish {__version__}."
    notes = [images.describe_labelled(), used, *images.notes, *plan.notes, *runs.notes]
    curves = Curves(log.rows, cohort.groups[cohort.test], plan.counts, plan.tuned)
    found = Study.of(
        curves,
        {count: cohort.labels_a_class(count) for count in {*plan.counts, *plan.tuned}},
        algorithm=algorithm,
        left_out=cohort.left_out,
        rows=log.rows,
        plan=plan,
        images=len(cohort.images.train),
        test=len(cohort.test),
        device=device,
        notes=notes,
        seconds=budget.used,
        budget=budget.seconds,
    )
    found.verdict = verdict(found)
    return found
