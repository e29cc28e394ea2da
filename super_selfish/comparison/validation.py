"""Repeated stratified cross-validation of frozen features by kNN and ridge regression."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.errors import ConfigurationError
from super_selfish.evaluation import knn_predict, split
from super_selfish.evaluation.score import Integers, number_groups
from super_selfish.seeding import KeyedGenerator

FOLDS, REPEATS = 5, 3
MOST_FEATURES = 512
"""Number of principal components that ridge regression uses of features with more dimensions."""

_PENALTIES = tuple(10.0**power for power in range(-4, 3))  # relative to the number of training images
_DEFAULT = 0.1  # where no penalty can be selected

Rows = npt.NDArray[Any]


def repeats_for(images: int, budget: float) -> int:
    """Number of repeats for so many labelled images, within a budget in seconds; fewer where they take long.

    Examples:
        >>> repeats_for(400, 1800), repeats_for(400, 60), repeats_for(4000, 1800)
        (3, 1, 1)
    """
    return 1 if budget < 300 or images > 2000 else 2 if images > 1000 else REPEATS


class Correct(NamedTuple):
    """How often each labelled image was classified correctly over the repeats (images,), in [0, 1]."""

    knn: Rows
    ridge: Rows

    @property
    def mean(self) -> Rows:
        """Mean of both methods."""
        return (self.knn + self.ridge) / 2


def cross_validated(x: Rows, labels: Integers, groups: Integers, repeats: int = REPEATS) -> Correct:
    """Classify every labelled image by kNN and by ridge regression in repeated stratified cross-validation.

    The folds depend only on labels, groups and the repeat, so that all features are compared on the same folds.

    Args:
        x: Features (images, dim).
        labels: Labels (images,).
        groups: Group of each image (images,): all images of a group are in the same fold.
        repeats: Number of repeats with different folds.

    Examples:
        >>> x = np.repeat(np.eye(2), 10, axis=0)
        >>> found = cross_validated(x, np.repeat([0, 1], 10), np.arange(20))
        >>> float(found.knn.mean()), float(found.ridge.mean())
        (1.0, 1.0)
    """
    reduced = principal_components(x)
    sums = [np.zeros(len(labels)), np.zeros(len(labels))]
    for repeat in range(repeats):
        fold = folds(labels, groups, repeat)
        for number in range(int(fold.max()) + 1):
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            sums[0][test] += knn_predict(x[train], labels[train], x[test]) == labels[test]
            predicted = ridge_predict(reduced[train], labels[train], reduced[test], groups[train], repeat)
            sums[1][test] += predicted == labels[test]
    return Correct(sums[0] / repeats, sums[1] / repeats)


def folds(labels: Integers, groups: Integers, repeat: int, count: int = FOLDS) -> Integers:
    """Assign each image to one of up to ``count`` folds with about equal class fractions.

    Raises:
        ConfigurationError: If there is only one group.

    Examples:
        >>> np.bincount(folds(np.repeat([0, 1], 5), np.arange(10), 0)).tolist()
        [2, 2, 2, 2, 2]
    """
    classes = np.unique(labels, return_inverse=True)[1]
    total = int(groups.max()) + 1
    if total < 2:
        raise ConfigurationError(
            "One group cannot be split into folds.",
            expected="at least two groups",
            received="one",
            fix="Omit `groups`.",
        )
    count, draws = min(count, total), KeyedGenerator("folds", repeat).uniforms(total)
    if total == len(labels):
        order = np.lexsort((draws[groups], classes))
        assigned = np.empty(len(labels), np.int64)
        assigned[order] = np.arange(len(labels)) % count
        return assigned
    sizes = np.bincount(classes).astype(float)
    members = np.zeros((total, len(sizes)))
    np.add.at(members, (groups, classes), 1.0)
    members /= sizes
    filled = np.zeros((count, len(sizes)))
    of_group = np.empty(total, np.int64)
    for group in np.lexsort((draws, -members.sum(1))):  # large groups first
        added = np.square(filled + members[group]).sum(1) - np.square(filled).sum(1)
        of_group[group] = int(np.lexsort((filled.sum(1), added))[0])
        filled[of_group[group]] += members[group]
    return np.unique(of_group[groups], return_inverse=True)[1].astype(np.int64)


def joint_groups(count: int, *criteria: Sequence[Hashable] | None) -> Integers:
    """Number groups of images that share a value of any criterion, directly or through other images.

    Args:
        count: Number of images.
        *criteria: One value per image, such as a patient or a hash of the pixels; None: no such criterion.

    Examples:
        >>> joint_groups(4, ["a", "a", "b", "c"], [1, 2, 2, 3])
        array([0, 0, 0, 1])
    """
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for values in criteria:
        first: dict[Hashable, int] = {}
        for index, value in enumerate(values or ()):
            parent[root(index)] = root(first.setdefault(value, index))
    return number_groups([root(index) for index in range(count)])


def principal_components(x: Rows, most: int = MOST_FEATURES) -> Rows:
    """Standardise features (images, dim), and project them on ``most`` principal components if there are more.

    No labels are used. Constant features become 0.
    """
    rows = torch.from_numpy(np.asarray(x, np.float32))
    deviation = rows.std(0, correction=0)
    deviation[deviation <= 1e-6 * rows.abs().amax(0)] = torch.inf
    rows = (rows - rows.mean(0)) / deviation
    if x.shape[1] <= min(most, len(x)):
        return np.asarray(rows)
    if len(rows) < rows.shape[1]:
        values, vectors = torch.linalg.eigh((rows @ rows.T).double())
        kept = vectors[:, -most:] * values[-most:].clamp_min(0).sqrt()
        return np.asarray(kept.float())
    vectors = torch.linalg.eigh((rows.T @ rows).double()).eigenvectors[:, -most:].float()
    return np.asarray(rows @ vectors)


def ridge_predict(x: Rows, labels: Integers, test_x: Rows, groups: Integers, seed: int) -> Integers:
    """Predict labels by ridge regression on one-hot targets.

    The penalty is selected by the accuracy on a fifth of the training images, in whole groups.

    Returns:
        Predicted labels (test,).
    """
    penalty = _DEFAULT
    try:
        kept, held = split(labels, test=0.2, groups=groups, seed=seed)
    except ConfigurationError:  # too few images or groups per class to select
        kept = held = np.zeros(0, np.int64)
    if len(held):
        inner = _Ridge(x[kept], labels[kept], x[held])
        accuracy = [float(np.mean(inner.predict(each) == labels[held])) for each in _PENALTIES]
        penalty = _PENALTIES[len(accuracy) - 1 - int(np.argmax(accuracy[::-1]))]  # the strongest of equals
    return _Ridge(x, labels, test_x).predict(penalty)


class _Ridge:
    """Ridge regression for many penalties from one decomposition."""

    def __init__(self, x: Rows, labels: Integers, test_x: Rows) -> None:
        self.classes, codes = np.unique(labels, return_inverse=True)
        rows, test = torch.from_numpy(np.asarray(x)).double(), torch.from_numpy(np.asarray(test_x)).double()
        rows, test = rows - rows.mean(0), test - rows.mean(0)
        targets = torch.nn.functional.one_hot(torch.from_numpy(codes)).double()
        self.offset, self.count = targets.mean(0), len(rows)
        centred = targets - self.offset
        if len(rows) < rows.shape[1]:
            self.values, vectors = torch.linalg.eigh(rows @ rows.T)
            self.left, self.right = test @ (rows.T @ vectors), vectors.T @ centred
        else:
            self.values, vectors = torch.linalg.eigh(rows.T @ rows)
            self.left, self.right = test @ vectors, vectors.T @ (rows.T @ centred)

    def predict(self, penalty: float) -> Integers:
        """Predicted labels of the test rows."""
        scale = 1 / (self.values.clamp_min(0) + penalty * self.count)
        scores = self.offset + self.left @ (scale[:, None] * self.right)
        predicted: Integers = self.classes[scores.argmax(1).numpy()]
        return predicted
