"""Images of a study: the fixed test split, images that stay out of pretraining, and draws of training labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from super_selfish.comparison.images import LEAST_IMAGES, Images, Pixels, fingerprint
from super_selfish.comparison.validation import joint_groups
from super_selfish.datasets.survey.duplicates import similar_to_any, thumbnail
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.evaluation import split
from super_selfish.evaluation.score import Integers
from super_selfish.seeding import KeyedGenerator

TEST = 0.3
"""Fraction of the labelled images that are test images."""
ALL = 0
"""Number of labels per class that stands for all labels."""
LEAST_TEST = 10
UNKNOWN_GROUPS = (
    "{} images for pretraining have no known group, so images of the groups of test images could not be looked for "
    "among them."
)

Flags = npt.NDArray[np.bool_]


@dataclass
class Cohort:
    """Images of a study.

    Attributes:
        images: Images for pretraining, and all labelled images.
        groups: Group of each labelled image (images,): images of a group and exact duplicates share one.
        train: Indices of the labelled images for training.
        test: Indices of the labelled images for testing; no group is in both.
        left_out: Number of images that stay out of pretraining, by reason.
    """

    images: Images
    groups: Integers
    train: Integers
    test: Integers
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def labels(self) -> Integers:
        """Classes of the labelled images, numbered from 0 (images,)."""
        return np.unique(self.images.labels, return_inverse=True)[1].astype(np.int64)

    @property
    def has_groups(self) -> bool:
        """Whether two labelled images share a group."""
        return int(self.groups.max()) + 1 < len(self.groups)

    def counts(self, counts: Sequence[int]) -> list[int]:
        """The numbers of labels per class that most classes have, and all."""
        sizes = np.bincount(self.labels[self.train])
        return [*(count for count in counts if count < np.median(sizes)), ALL]

    def drawn(self, count: int, draw: int) -> Integers:
        """Indices of up to ``count`` training images of each class. Smaller counts are part of larger ones.

        Args:
            count: Number of labels per class; :data:`ALL`: all.
            draw: Number of the draw.
        """
        if count == ALL:
            return self.train
        labels, chosen = self.labels[self.train], []
        for number in np.unique(labels):
            members = self.train[labels == number]
            order = KeyedGenerator("labels", draw, int(number)).permutation(len(members))
            chosen.append(members[np.array(order[:count], np.int64)])
        return np.sort(np.concatenate(chosen))

    def labels_a_class(self, count: int) -> float:
        """Mean number of labels per class of a draw."""
        return len(self.drawn(count, 0)) / len(np.unique(self.labels[self.train]))


def make_cohort(images: Images, image_groups: Sequence[Hashable] | None, *, pretrain_on_test: bool) -> Cohort:
    """Split the labelled images, and leave test images out of pretraining.

    Args:
        images: All images. Those for pretraining are reduced in place.
        image_groups: Group of each image for pretraining (images,), None where there is none; None: there are none.
        pretrain_on_test: Pretrain on test images too.

    Raises:
        ConfigurationError: If there is no such split.
        DataError: If too few images are left for pretraining.
    """
    groups = joint_groups(len(images.labels), [fingerprint(one) for one in images.labelled], images.groups)
    has_groups = int(groups.max()) + 1 < len(groups)
    train, test = split(images.labels, test=TEST, groups=groups if has_groups else None)
    if len(test) < LEAST_TEST:
        raise ConfigurationError(
            "There are too few test images.",
            expected=f"at least {LEAST_TEST} in a fraction of {TEST:g} of the labelled images, in whole groups",
            received=f"{len(test)} of {len(images.labels)}",
            fix="Pass more labelled images.",
        )
    found = Cohort(images, groups, train, test)
    if not pretrain_on_test:
        if images.groups is not None:
            known = 0 if image_groups is None else sum(image_groups[place] is not None for place in images.places)
            if known < len(images.train):
                which = f"{len(images.train) - known:,} of {len(images.train):,}" if known else "The"
                images.notes.append(UNKNOWN_GROUPS.format(which))
        leave_out_test_images(found, image_groups)
    return found


def leave_out_test_images(found: Cohort, image_groups: Sequence[Hashable] | None) -> None:
    """Remove test images, their near duplicates and their groups from the images for pretraining.

    Raises:
        DataError: If fewer than 16 images are left.
    """
    images = found.images
    tested = images.labelled[found.test]
    known = {fingerprint(image) for image in tested}
    reasons: dict[str, Flags] = {
        "test images or exact copies": np.array([fingerprint(image) in known for image in images.train]),
        "near duplicates of test images": similar_to_any(thumbnails(images.train), thumbnails(tested)),
    }
    if image_groups is not None and images.groups is not None:
        groups = {images.groups[index] for index in found.test}
        reasons["in a group of test images"] = np.array([image_groups[place] in groups for place in images.places])
    kept = np.ones(len(images.train), np.bool_)
    for reason, flags in reasons.items():
        found.left_out[reason] = int((flags & kept).sum())
        kept &= ~flags
    if kept.sum() < LEAST_IMAGES:
        raise DataError(
            "Without test images, their near duplicates and their groups, too few images are left for pretraining.",
            expected=f"at least {LEAST_IMAGES}",
            received=f"{int(kept.sum())} of {len(kept)}",
            fix="Add images without labels, or pass pretrain_on_test=True if test images are at hand before training.",
        )
    if not kept.all():
        for place, index in enumerate(np.flatnonzero(kept)):  # in place: a copy would double the memory
            images.train[place] = images.train[index]
            images.places[place] = images.places[index]
        images.train = images.train[: int(kept.sum())]
        images.places = images.places[: int(kept.sum())]


def thumbnails(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Grey thumbnails (images, 16, 16) of images (images, H, W, C), on the scale [0, 255]."""
    scale = np.float32(1 if pixels.dtype == np.uint8 else 255)
    return np.stack([thumbnail(image.astype(np.float32) * scale) for image in pixels])
