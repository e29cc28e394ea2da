"""Weighted k-nearest-neighbour classification of features, without training."""

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

_BLOCK = 1 << 23  # number of similarities in memory: 64 MiB


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
    """Accuracy of k-nearest-neighbour classification by cosine similarity, with votes weighted by exp(cosine / t).

    Without a test set, each image is classified by all other images (leave-one-out), or by the images of all other
    groups (leave-one-group-out).

    Args:
        x: Training features (train, dim).
        y: Training labels (train,): any integers.
        test_x: Test features (test, dim).
        test_y: Test labels (test,). A label that does not occur in training counts as an error.
        k: Number of neighbours, at least 1; clamped to the number of available images.
        t: Temperature, positive. A smaller value gives the nearest neighbours more weight.
        groups: Group of each training image, such as a patient (train,).
        test_groups: Group of each test image (test,). With both arguments, groups in both sets are an error.

    Returns:
        The accuracy in [0, 1] with its protocol.

    Raises:
        DataError: If features or labels are missing, not finite, or of different lengths.
        ConfigurationError: If `k` or `t` is out of range, there are no neighbours, or a group is in both sets.

    Examples:
        >>> knn([[1.0, 0.0], [0.0, 1.0]], [3, 8], [[0.9, 0.1], [0.2, 0.9]], [3, 8], k=1)
        1.0000 (kNN: k=1, t=0.07, cosine, 2 train / 2 test images, 2 features)

    References:
        Wu, Xiong, Yu and Lin, "Unsupervised feature learning via non-parametric instance discrimination", 2018.
        They use k=200 for ImageNet; later papers report k=20 with t=0.07.
    """
    train = as_features(x)
    if test_x is None:
        if test_y is not None:
            raise ConfigurationError(
                "`test_y` was passed without `test_x`.", fix="Pass both, or neither for leave-one-out."
            )
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
    shown = f"k={k}" if k <= available else f"k={available} (all; {k} requested)"
    protocol = f"kNN: {shown}, t={t:g}, cosine, {counts}, {train.shape[1]} features"
    return Score(float(np.mean(predicted == truth)), protocol, predicted == truth)


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
    """Predict labels by k-nearest-neighbour classification. Arguments and errors are those of :func:`knn`.

    Ties between similarities are broken by the order in `x`, and ties between votes by the smallest label.

    Returns:
        Predicted labels (test,), or (train,) without a test set.

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
    """Groups (train,) of leave-one-out classification, where an image is no neighbour of its own group; else None."""
    if test is not None:
        if (groups is None) != (test_groups is None):
            missing = "groups" if groups is None else "test_groups"
            raise ConfigurationError(
                f"`{missing}` is missing, so groups in both training and test set cannot be detected.",
                expected="both `groups` and `test_groups`, or neither",
            )
        if groups is not None and test_groups is not None:
            refuse_leak(as_groups(groups, train), as_groups(test_groups, test, "test_groups"))
        return None
    if test_groups is not None:
        raise ConfigurationError("`test_groups` was passed without `test_x`.", fix="For leave-one-out, pass `groups`.")
    own = np.arange(train, dtype=np.int64) if groups is None else number_groups(as_groups(groups, train))
    if own.max() == 0:
        raise ConfigurationError(
            "Leave-one-out has no neighbours left.",
            expected="at least two images" if groups is None else "at least two groups",
            received="one",
            fix="Pass more images, or a test set.",
        )
    return own


def _normalised(rows: torch.Tensor) -> torch.Tensor:
    """L2-normalised rows as float64; zero rows stay zero.

    Features with a large common part are nearly parallel: their similarities differ by less than float32 resolves.
    """
    rows = rows.double()  # scale first: squares of very large or small numbers would overflow or underflow
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    length: torch.Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.clamp_min(0.5)  # 1 or more, or 0


def _vote(similarity: torch.Tensor, labels: torch.Tensor, classes: int, k: int, t: float) -> torch.Tensor:
    """Predicted classes (rows,) from similarities (rows, train) and classes (train,)."""
    nearest, chosen = similarity.topk(k, dim=1)
    last = nearest[:, -1:]
    tied = ((similarity >= last).sum(dim=1) > k).nonzero()[:, 0]
    if len(tied):  # topk breaks ties arbitrarily; break them by order, so that predictions are deterministic
        rows, limit = similarity[tied], last[tied]
        above, equal = rows > limit, rows == limit
        room = k - above.sum(dim=1, keepdim=True)
        chosen[tied] = (above | (equal & (equal.cumsum(dim=1) <= room))).nonzero()[:, 1].reshape(-1, k)
    values = similarity.gather(1, chosen)
    weight = torch.exp((values - values.amax(dim=1, keepdim=True)) / t)  # relative to the nearest: cannot overflow
    votes = weight.new_zeros(len(weight), classes)
    for neighbour in range(k):  # one by one: the same order of summation on every device
        votes.scatter_add_(1, labels[chosen[:, neighbour, None]], weight[:, neighbour, None])
    return votes.argmax(dim=1)
