"""95 % confidence intervals of accuracies and of their differences."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_Z = 1.959964  # 97.5 % quantile of the normal distribution


class Difference(NamedTuple):
    """Difference of two accuracies on the same images, with its 95 % confidence interval, all in [-1, 1]."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``"better than"`` or ``"worse than"`` if the interval excludes 0, otherwise ``"no different from"``."""
        return "better than" if self.low > 0 else "worse than" if self.high < 0 else "no different from"

    def __str__(self) -> str:
        points = [f"{100 * part:+.1f}" for part in self]
        return f"{points[0]} percentage points, 95 % interval: {points[1]} to {points[2]}"


def accuracy_interval(value: float, images: int) -> tuple[float, float]:
    """95 % confidence interval of an accuracy (Wilson score interval).

    Args:
        value: The accuracy, in [0, 1].
        images: Number of independent images, at least 1.

    Examples:
        >>> [round(end, 3) for end in accuracy_interval(0.5, 24)]
        [0.314, 0.686]

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share = _Z**2 / images
    middle = (value + share / 2) / (1 + share)
    half = _Z * math.sqrt(value * (1 - value) / images + share / (4 * images)) / (1 + share)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Difference:
    """Difference of the accuracies of two classifiers on the same images.

    Only the choice of the test images is accounted for. Half an image is added to each of the four outcomes of a pair,
    which keeps intervals of few images from being too short.

    Args:
        first: Whether each image was classified correctly (images,), or how often, in [0, 1].
        second: The same of the classifier that is compared with.

    Examples:
        >>> print(paired_difference(np.ones(40), np.arange(40) % 2))
        +50.0 percentage points, 95 % interval: +31.8 to +63.4

    References:
        Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", 2005.
    """
    gained = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    count = len(gained) + 2
    mean = float(gained.sum()) / count
    error = math.sqrt(max(0.0, (float(np.square(gained).sum()) + 1) / count - mean**2) / count)
    return Difference(float(gained.mean()), max(-1.0, mean - _Z * error), min(1.0, mean + _Z * error))
