"""Train/test splits, stratified by label, which keep groups together."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.errors import ConfigurationError, DataError, validate_keywords
from super_selfish.evaluation.score import Groups, Integers, Labels, as_groups, as_labels, number_groups
from super_selfish.seeding import KeyedGenerator


@validate_keywords()
def split(
    n_or_labels: int | Labels, *, test: float = 0.2, groups: Groups | None = None, seed: int = 0
) -> tuple[Integers, Integers]:
    """Split images into a training and a test set.

    With labels, the split is stratified: a class of two or more images has at least one test image, and a class of one
    image is in the training set. With groups, all images of a group are in the same set. The class fractions are then
    approximate, and no class is only in the test set.

    Args:
        n_or_labels: Number of images, or their labels (images,).
        test: Fraction of test images, in (0, 1).
        groups: Group of each image, such as a patient or a product (images,).
        seed: Random seed.

    Returns:
        Indices of the training set and of the test set, int64, in ascending order.

    Raises:
        ConfigurationError: If `test` is out of range, or there is no such split.
        DataError: If labels or groups are missing or of different lengths.

    Examples:
        >>> train, test = split([0, 0, 0, 0, 1, 1], test=0.25)
        >>> len(train), len(test)
        (4, 2)
        >>> train, test = split(4, test=0.5, groups=["ann", "ann", "bob", "bob"])
        >>> test.tolist() in ([0, 1], [2, 3])
        True
    """
    if not 0.0 < test < 1.0:
        raise ConfigurationError("`test` must be a fraction.", expected="a number in (0, 1)", received=f"test={test!r}")
    labels = _labels(n_or_labels)
    classes = np.unique(labels, return_inverse=True)[1]
    generator = KeyedGenerator(operator.index(seed), "split")
    if groups is None:
        chosen = _stratified(classes, test, generator)
    else:
        chosen = _whole_groups(classes, number_groups(as_groups(groups, len(classes))), test, generator)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _labels(n_or_labels: int | Labels) -> Integers:
    if n_or_labels is None or isinstance(n_or_labels, np.ndarray | torch.Tensor | list | tuple):
        return as_labels(n_or_labels, name="n_or_labels")
    try:
        count = operator.index(n_or_labels)  # type: ignore[arg-type]
    except TypeError:
        return as_labels(n_or_labels, name="n_or_labels")  # type: ignore[arg-type]
    if count < 1:
        raise DataError("There are no images to split.", received=f"{count} images")
    return np.zeros(count, dtype=np.int64)


def _stratified(classes: Integers, test: float, generator: KeyedGenerator) -> npt.NDArray[np.bool_]:
    sizes = np.bincount(classes)
    if sizes.max() < 2:
        raise ConfigurationError(
            "No class has enough images for the test set.",
            expected="at least two images of some class",
            received=f"{len(sizes)} images of {len(sizes)} different classes",
            fix="Add labelled images, or pass the number of images instead of labels.",
        )
    wanted = np.floor(test * sizes + 0.5).astype(np.int64)
    taken = np.where(sizes > 1, np.clip(wanted, 1, np.maximum(sizes - 1, 1)), 0)
    order = np.lexsort((generator.uniforms(len(classes)), classes))  # by class, in random order within each
    place = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(len(classes), dtype=np.bool_)
    chosen[order] = place < np.repeat(taken, sizes)
    return chosen


def _whole_groups(classes: Integers, groups: Integers, test: float, generator: KeyedGenerator) -> npt.NDArray[np.bool_]:
    """Visit groups in random order, and move a group to the test set if class fractions get closer to the target."""
    count = int(groups.max()) + 1
    if count < 2:
        raise ConfigurationError(
            "One group cannot be split.", expected="at least two groups", received="one", fix="Leave out `groups`."
        )
    sizes = np.bincount(classes).astype(np.float64)
    gap = np.full(len(sizes), test)  # fraction of each class that the test set still lacks
    left = sizes.copy()  # number of images per class in the training set
    pairs, amounts = np.unique(groups * len(sizes) + classes, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(count + 1) * len(sizes))
    chosen = np.zeros(count, dtype=np.bool_)
    nearest: tuple[float, int] | None = None
    for group in np.argsort(generator.uniforms(count), kind="stable").tolist():
        own = slice(starts[group], starts[group + 1])
        members, amount = pairs[own] % len(sizes), amounts[own]
        if np.any(left[members] == amount):
            continue  # a class would be missing in the training set
        fraction = amount / sizes[members]
        change = float(np.sum((gap[members] - fraction) ** 2 - gap[members] ** 2))
        if change < 0:
            chosen[group] = True
            gap[members] -= fraction
            left[members] -= amount
        elif nearest is None or change < nearest[0]:
            nearest = (change, group)
    if not chosen.any():  # every group is larger than the requested test set: take the one with the smallest excess
        if nearest is None:
            raise ConfigurationError(
                "No group can be in the test set: each contains all images of some class.",
                expected="every class in two or more groups",
                received=f"{count} groups, {len(sizes)} classes",
                fix="Add groups for each class, or pass the number of images instead of labels.",
            )
        chosen[nearest[1]] = True
    return chosen[groups]
