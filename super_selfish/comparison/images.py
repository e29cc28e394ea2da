"""The images of a comparison: read once at a small size, held in memory, and examined for what algorithms need."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing, fit_preprocessing
from super_selfish.errors import DataError
from super_selfish.evaluation.score import Integers, as_groups
from super_selfish.seeding import KeyedGenerator
from super_selfish.supervisors import Supervisor

MOST_BYTES = 1 << 30
"""Memory of the images for training."""
MOST_IMAGES, MOST_LABELLED, MOST_HELD_OUT = 20_000, 4_000, 256
LEAST_IMAGES, LEAST_LABELLED, LEAST_READ = 16, 20, 200

Pixels = npt.NDArray[Any]


@dataclass
class Images:
    """The images of a comparison.

    Attributes:
        train: Images for training (images, H, W, C).
        held_out: Images for the evaluation of pretext tasks (images, H, W, C).
        labelled: Labelled images (images, H, W, C); empty without labels.
        labels: Their labels (images,).
        groups: Their groups, such as patients; None: every image is independent.
        duplicates: Number of images for training that are identical to others.
        is_colour: Whether images have three channels that are not all equal.
        notes: What was left out.
        places: Index of each image for training in its source.
    """

    train: Pixels
    held_out: Pixels
    labelled: Pixels
    labels: Integers
    groups: list[Hashable] | None = None
    duplicates: int = 0
    is_colour: bool = False
    notes: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    @property
    def has_labels(self) -> bool:
        """Whether there are labelled images."""
        return len(self.labels) > 0

    @property
    def side(self) -> int:
        """Side of the images in px."""
        return int(self.train.shape[1])

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the images in memory."""
        channels = self.train.shape[3]
        return fit_preprocessing(None, resolution=self.side, channels=channels, value_range=(0.0, 1.0))

    def describe_labelled(self) -> str:
        """Numbers of labelled images, groups and classes, as a sentence."""
        if not self.has_labels:
            return "No labelled images."
        groups = "" if self.groups is None else f" of {len(set(self.groups)):,} groups"
        independent = "; no groups: every image is regarded as independent" if self.groups is None else ""
        return f"{len(self.labels):,} labelled images{groups}, {len(np.unique(self.labels)):,} classes{independent}."

    def unsuitable(self, algorithm: type[Supervisor], batch_size: int) -> str | None:
        """Why the images do not meet the requirements of an algorithm; None: they do.

        Whether images have a canonical orientation is measured by a training.
        """
        needs = algorithm.needs
        if needs.rgb and not self.is_colour:
            return "needs colour images"
        if self.side < needs.side:
            return f"needs images of at least {needs.side} px"
        if batch_size < needs.batch:
            return f"needs batches of at least {needs.batch} images"
        return None

    def shrunk(self, side: int) -> Images:
        """The same images, averaged to a smaller side."""
        train, held_out, labelled = (shrink(part, side) for part in (self.train, self.held_out, self.labelled))
        return dataclasses.replace(self, train=train, held_out=held_out, labelled=labelled)


def shrink(pixels: Pixels, side: int) -> Pixels:
    """Average images (images, H, W, C) to a smaller side; the dtype is kept.

    Examples:
        >>> shrink(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1), 2).ravel().tolist()
        [2, 4, 10, 12]
    """
    small = np.empty((len(pixels), side, side, pixels.shape[3]), pixels.dtype)
    for start in range(0, len(pixels), 256):
        part = torch.from_numpy(pixels[start : start + 256]).permute(0, 3, 1, 2).float()
        means = torch.nn.functional.adaptive_avg_pool2d(part, side).permute(0, 2, 3, 1).numpy()
        small[start : start + 256] = np.rint(means) if pixels.dtype.kind in "iu" else means
    return small


def read_images(
    source: ImageSource,
    preprocessing: Preprocessing,
    is_over: Callable[[], bool],
    count: int | None = None,
    *,
    hold_out: bool = True,
) -> Images:
    """Read up to 20,000 images, in random order, and hold some of them out.

    Args:
        source: The images.
        preprocessing: Their preprocessing.
        is_over: Whether the time for reading is over.
        count: Number of images to read; None: as many as time and memory allow.
        hold_out: Whether to hold images out for the evaluation of pretext tasks.

    Raises:
        DataError: If fewer than 16 images can be read.
    """
    images, notes = ImageDataset(source, preprocessing), []
    order = KeyedGenerator("compared images").permutation(len(images))[:MOST_IMAGES]
    found: list[Pixels] = []
    places: list[int] = []
    failures = size = 0
    for index in order:
        if len(found) == count or size >= MOST_BYTES or (len(found) >= LEAST_IMAGES and is_over()):
            break
        try:
            found.append(images.read(index))
            places.append(index)
            size += found[-1].nbytes
        except DataError:
            failures += 1
    if len(found) < LEAST_IMAGES:
        raise DataError(
            "There are too few readable images for training.",
            expected=f"at least {LEAST_IMAGES}",
            received=f"{len(found)} of {len(source)}",
        )
    if failures:
        notes.append(f"{failures:,} images cannot be read and were left out.")
    if len(found) + failures < len(source):
        notes.append(f"A random sample of {len(found):,} of {len(source):,} images is used.")
    pixels = np.stack(found)
    held = min(MOST_HELD_OUT, len(pixels) // 5) if hold_out else 0
    copies = len(pixels) - len({fingerprint(image) for image in pixels})
    if copies:
        notes.append(f"{copies:,} of {len(pixels):,} images are exact duplicates of others.")
    colour = pixels.shape[3] == 3 and not bool(np.all(pixels == pixels[..., :1]))
    nothing = pixels[:0]
    return Images(
        *(pixels[held:], pixels[:held], nothing, np.zeros(0, np.int64)),
        duplicates=copies,
        is_colour=colour,
        notes=notes,
        places=places[held:],
    )


def add_labelled(
    images: Images,
    source: ImageSource,
    preprocessing: Preprocessing,
    groups: Sequence[Hashable] | None,
    is_over: Callable[[], bool],
    count: int | None = None,
    *,
    is_optional: bool = True,
) -> None:
    """Read up to 4,000 labelled images, in random order.

    Args:
        images: The images of the comparison, to which they are added.
        source: The labelled images.
        preprocessing: Preprocessing of all images.
        groups: Group of each labelled image; None: images are independent.
        is_over: Whether the time for reading is over.
        count: Number of labelled images to read; None: as many as the time allows.
        is_optional: Whether there is an answer without labelled images.

    Raises:
        DataError: If there are fewer than 20 labelled images or two classes, or not one group per image.
    """
    own_groups = None if groups is None else as_groups(list(groups), len(source))
    dataset = ImageDataset(source, preprocessing)
    order = KeyedGenerator("labelled images").permutation(len(dataset))
    kept: list[int] = []
    pixels: list[Pixels] = []
    labels: list[int] = []
    failures = unlabelled = 0
    for index in order:
        if len(labels) in (count, MOST_LABELLED) or (len(labels) >= LEAST_READ and is_over()):
            images.notes.append(f"A random sample of {len(labels):,} of {len(source):,} labelled images is used.")
            break
        try:
            image, label = dataset.item(index)
        except DataError:
            failures += 1
            continue
        if label is None:
            unlabelled += 1
            continue
        kept.append(index)
        pixels.append(image)
        labels.append(label)
    if len(labels) < LEAST_LABELLED or len(set(labels)) < 2:
        raise DataError(
            "`labelled` has too few labelled images.",
            expected=f"at least {LEAST_LABELLED} images of two classes, such as a folder with a subfolder per class",
            received=f"{len(labels)} labelled images of {len(set(labels))} classes",
            fix="Omit `labelled` for an answer without labels." if is_optional else None,
        )
    for count, what in ((failures, "cannot be read"), (unlabelled, "have no label")):
        if count:
            images.notes.append(f"{count:,} of the labelled images {what} and were left out.")
    images.labelled, images.labels = np.stack(pixels), np.array(labels, np.int64)
    images.groups = None if own_groups is None else [own_groups[index] for index in kept]


def fingerprint(image: Pixels) -> bytes:
    """Hash of the pixels of an image."""
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def applicable(
    algorithms: Mapping[str, type[Supervisor]], images: Images, batch_size: int
) -> tuple[dict[str, type[Supervisor]], dict[str, str]]:
    """The algorithms whose requirements are met, and the reasons why others are excluded, by name."""
    reasons = {name: images.unsuitable(algorithm, batch_size) for name, algorithm in algorithms.items()}
    excluded = {name: reason for name, reason in reasons.items() if reason is not None}
    return {name: algorithms[name] for name in algorithms if name not in excluded}, excluded
