"""Weighted k nearest neighbours: the accuracy of features without any training."""

from __future__ import annotations

import math

import numpy as np
import torch

from super_selfish.errors import ConfigurationError, validate_keywords
from super_selfish.evaluation.score import (
    Features,
    Groups,
    Integers,
    Labels,
    Score,
    as_features,
    as_groups,
    as_labels,
    as_pair,
    number_groups,
    refuse_leak,
)

_BLOCK = 1 << 24  # similarities that are held at once: 64 MiB


@validate_keywords()
def knn(
    x: Features,
    y: Labels | None,
    test_x: Features | None = None,
    test_y: Labels | None = None,
    k: int = 20,
    t: float = 0.07,
    groups: Groups | None = None,
    test_groups: Groups | None = None,
) -> Score:
    """Accuracy of a vote among the k most similar training images, each weighing exp(cosine / t).

    Without a test set, each image is judged by all others (leave-one-out), or by the images of all other groups.

    Args:
        x: Training features (train, dim).
        y: Training labels (train,): any integers.
        test_x: Test features (test, dim).
        test_y: Test labels (test,); one that no training image has counts as wrong.
        k: Number of neighbours, at least 1; clamped to the images available.
        t: Temperature, positive; the smaller, the more the nearest neighbour decides.
        groups: What each training image belongs to, such as a patient (train,).
        test_groups: The same for the test images (test,); together with `groups`, to refuse a leak.

    Returns:
        The accuracy in [0, 1] with its protocol.

    Raises:
        DataError: Features or labels are missing, not finite, or do not fit one another.
        ConfigurationError: `k` or `t` cannot work, nothing is left to vote, or a group is on both sides.

    Examples:
        >>> knn([[1.0, 0.0], [0.0, 1.0]], [3, 8], [[0.9, 0.1], [0.2, 0.9]], [3, 8], k=1)
        1.0000 (kNN: k=1, t=0.07, cosine, 2 train / 2 test images, 2 features)

    References:
        Wu, Xiong, Yu and Lin, "Unsupervised feature learning via non-parametric instance discrimination", 2018.
        Their setting for ImageNet is k=200; k=20 with t=0.07 is what later papers quote.
    """
    train = as_features(x)
    if test_x is None:
        if test_y is not None:
            raise ConfigurationError("`test_y` came without `test_x`.", fix="Pass both, or neither for leave-one-out.")
        truth = as_labels(y, len(train))
        counts = f"leave-one-out over {len(train)} images"
        available = len(train) - 1
        if groups is not None:
            numbers = number_groups(as_groups(groups, len(train)))
            counts = f"leave-one-group-out over {len(train)} images in {int(numbers.max()) + 1} groups"
            available = len(train) - int(np.bincount(numbers).min())
    else:
        train, test = as_pair(x, test_x)
        test_x, truth = test, as_labels(test_y, len(test), "test_y")
        counts = f"{len(train)} train / {len(test)} test images"
        available = len(train)
    predicted = knn_predict(train, y, test_x, k, t, groups, test_groups)
    shown = f"k={k}" if k <= available else f"k={available} (all; asked for {k})"
    protocol = f"kNN: {shown}, t={t:g}, cosine, {counts}, {train.shape[1]} features"
    return Score(float(np.mean(predicted == truth)), protocol)


@validate_keywords()
def knn_predict(
    x: Features,
    y: Labels | None,
    test_x: Features | None = None,
    k: int = 20,
    t: float = 0.07,
    groups: Groups | None = None,
    test_groups: Groups | None = None,
) -> Integers:
    """The labels that the neighbours vote for; arguments and errors as in :func:`knn`.

    Among equally similar images the first in `x` are taken, among classes with equal votes the smallest label.

    Returns:
        Labels (test,), or (train,) without a test set; each is a label of the training images.

    Examples:
        >>> knn_predict([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]], [3, 8, 8], [[0.5, 1.0]], k=2)
        array([8])
    """
    if isinstance(k, bool) or k != int(k) or k < 1:
        raise ConfigurationError("`k` must be a whole number of neighbours, at least 1.", received=f"k={k!r}")
    if not (t > 0 and math.isfinite(t)):
        raise ConfigurationError("`t` must be positive.", received=f"t={t!r}", fix="The usual value is 0.07.")
    train, test = (as_features(x), None) if test_x is None else as_pair(x, test_x)
    classes, codes = np.unique(as_labels(y, len(train)), return_inverse=True)
    own = _own_groups(len(train), None if test is None else len(test), groups, test_groups)
    with torch.no_grad(), torch.autocast(train.device.type, enabled=False):
        bank = _normalised(train)
        queries = bank if test is None else _normalised(test)
        votes_for = torch.from_numpy(codes).to(bank.device)
        excluded = None if own is None else torch.from_numpy(own).to(bank.device)
        rows = max(1, _BLOCK // len(bank))
        winners = []
        for start in range(0, len(queries), rows):
            similarity = queries[start : start + rows] @ bank.T
            if excluded is not None:
                similarity.masked_fill_(excluded[start : start + rows, None] == excluded, -torch.inf)
            winners.append(_vote(similarity, votes_for, len(classes), min(int(k), len(bank)), t))
        predicted: Integers = classes[torch.cat(winners).cpu().numpy()]
    return predicted


def _own_groups(train: int, test: int | None, groups: Groups | None, test_groups: Groups | None) -> Integers | None:
    """Leave-one-out: a number for each image; images of equal number do not vote for each other. Else None."""
    if test is not None:
        if (groups is None) != (test_groups is None):
            missing = "groups" if groups is None else "test_groups"
            raise ConfigurationError(
                f"`{missing}` is missing: whether a group is on both sides cannot be checked.",
                expected="both `groups` and `test_groups`, or neither",
            )
        if groups is not None and test_groups is not None:
            refuse_leak(as_groups(groups, train), as_groups(test_groups, test, "test_groups"))
        return None
    if test_groups is not None:
        raise ConfigurationError("`test_groups` came without `test_x`.", fix="For leave-one-out pass `groups` alone.")
    own = np.arange(train, dtype=np.int64) if groups is None else number_groups(as_groups(groups, train))
    if own.max() == 0:
        raise ConfigurationError(
            "Leave-one-out has nobody left to vote.",
            expected="at least two images" if groups is None else "at least two groups",
            received="one",
            fix="Pass more images, or a test set.",
        )
    return own


def _normalised(rows: torch.Tensor) -> torch.Tensor:
    """Rows of length 1 as float32; zero rows stay zero."""
    # scaled first: the squares of huge or tiny numbers would leave the range
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    length: torch.Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return (rows / length.clamp_min(0.5)).float()  # 1 or more, or 0


def _vote(similarity: torch.Tensor, labels: torch.Tensor, classes: int, k: int, t: float) -> torch.Tensor:
    """Similarities (rows, train) and class numbers (train,) to winning class numbers (rows,)."""
    nearest, chosen = similarity.topk(k, dim=1)
    last = nearest[:, -1:]
    tied = ((similarity >= last).sum(dim=1) > k).nonzero()[:, 0]
    if len(tied):  # topk takes any of the equals; the first in order are taken instead, so that the answer is defined
        rows, limit = similarity[tied], last[tied]
        above, equal = rows > limit, rows == limit
        room = k - above.sum(dim=1, keepdim=True)
        chosen[tied] = (above | (equal & (equal.cumsum(dim=1) <= room))).nonzero()[:, 1].reshape(-1, k)
    values = similarity.gather(1, chosen).double()
    weight = torch.exp((values - values.amax(dim=1, keepdim=True)) / t)  # relative to the nearest: never overflows
    votes = weight.new_zeros(len(weight), classes)
    for neighbour in range(k):  # one at a time: a fixed order of summation on every device
        votes.scatter_add_(1, labels[chosen[:, neighbour, None]], weight[:, neighbour, None])
    return votes.argmax(dim=1)
