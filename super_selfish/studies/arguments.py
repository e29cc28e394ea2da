"""Checks of the arguments of a study."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

from torch import nn

from super_selfish.comparison.images import Images
from super_selfish.comparison.result import Comparison
from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.engine.core.starting_weights import StartingWeights
from super_selfish.errors import ConfigurationError, DataError, check_argument
from super_selfish.evaluation.score import as_groups
from super_selfish.models.named import named_backbone
from super_selfish.studies.records import ADAPTED, PRETRAINED, PUBLISHED, UNTRAINED
from super_selfish.suggestions import did_you_mean
from super_selfish.supervisors import Supervisor, algorithm_names, all_supervisors


def arms_of(weights: str | None, adapt: bool) -> list[str]:
    """Names of the arms, in order."""
    return [UNTRAINED, *([PUBLISHED] if weights is not None else []), PRETRAINED, *([ADAPTED] if adapt else [])]


def check_backbone(backbone: str | nn.Module, weights: str | None, preprocessing: Preprocessing) -> None:
    """Build a named backbone and read its published weights, so that errors come before anything is written.

    Raises:
        ConfigurationError: If there is no such backbone, or there are no such weights.
        CheckpointError: If weights cannot be downloaded.
    """
    if isinstance(backbone, str):
        network = named_backbone(backbone, preprocessing.channels)
        if weights is not None:
            StartingWeights(weights, backbone, preprocessing.resolution).into(network)


def check_weights(labelled: object, weights: object, backbone: object, adapt: bool) -> None:
    """Check that there are labelled images, and that published weights and their network are named.

    Raises:
        ConfigurationError: If it is not so, or there are no weights to adapt.
    """
    if labelled is None:
        raise ConfigurationError("A study needs labelled images.", fix="Pass `labelled`, or use compare().")
    check_argument(weights is None or isinstance(weights, str), "weights", weights, 'None, or such as "imagenet"')
    if weights is not None and not isinstance(backbone, str):
        raise ConfigurationError(
            "`weights` are those of a backbone by name.",
            expected='such as backbone="resnet18", weights="imagenet"',
            received=f"backbone={type(backbone).__name__}",
        )
    if adapt and weights is None:
        raise ConfigurationError("`adapt` trains from published weights.", fix='Pass `weights`, such as "imagenet".')


def chosen_algorithm(algorithm: object) -> tuple[str, type[Supervisor]]:
    """Name and class of an algorithm, from a name, an alias, or a comparison.

    Raises:
        ConfigurationError: If it is unknown, or the comparison recommends none.
    """
    wanted = algorithm.recommended if isinstance(algorithm, Comparison) else algorithm
    if wanted is None:
        raise ConfigurationError("The comparison recommends no algorithm.", fix="Pass `algorithm` by name.")
    known, spelled = all_supervisors(), algorithm_names()
    if not isinstance(wanted, str) or wanted not in spelled:
        raise ConfigurationError(
            f"There is no algorithm {wanted!r}.", expected=", ".join(known), fix=did_you_mean(wanted, spelled)
        )
    return spelled[wanted], known[spelled[wanted]]


def check_suitable(images: Images, name: str, algorithm: type[Supervisor], batch_size: int) -> None:
    """Check that images meet the requirements of an algorithm.

    Raises:
        DataError: If they do not.
    """
    reason = images.unsuitable(algorithm, batch_size)
    if reason is not None:
        raise DataError(
            f"{name} is not applicable to these images.",
            expected=reason,
            fix="Pass another `algorithm`; compare() finds those that are applicable.",
        )


def groups_of_images(
    source: ImageSource,
    labelled: ImageSource,
    groups: Sequence[Hashable] | None,
    image_groups: Sequence[Hashable] | None,
) -> list[Hashable] | None:
    """Group of each image for pretraining; None: none is known.

    Raises:
        ConfigurationError: If groups are a string, there are none of the labelled images, or not one per image.
        DataError: If there is not one group per labelled image.
    """
    if groups is not None:
        groups = as_groups(groups, len(labelled))
    if isinstance(image_groups, str | bytes):
        as_groups(image_groups, len(source), "image_groups")  # raises
    if image_groups is None:
        is_same = groups is not None and source.fingerprint() == labelled.fingerprint()
        return list(groups or ()) if is_same else None
    if groups is None or len(image_groups) != len(source):
        raise ConfigurationError(
            "`image_groups` are the groups of the images for pretraining.",
            expected=f"`groups` of the labelled images, and {len(source)} image_groups",
            received=f"{len(image_groups)} image_groups, {'no' if groups is None else len(groups)} groups",
        )
    return list(image_groups)


def digest(groups: Sequence[Hashable] | None) -> str | None:
    """Hash of groups; None: there are none."""
    return None if groups is None else hashlib.sha256(repr(list(groups)).encode()).hexdigest()[:16]
