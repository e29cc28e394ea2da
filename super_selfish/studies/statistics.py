"""Statistics of a study: differences with intervals over test images, draws and seeds, and label equivalence."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from super_selfish.evaluation.intervals import Difference
from super_selfish.evaluation.score import Integers

LEVEL = 0.95
_GRID = 20_001

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A difference of accuracies, or an accuracy, with its sources of variance.

    Attributes:
        difference: The value with its 95 % interval.
        of_images: Variance by the choice of the test images.
        of_rest: Variance by draws of the labels and seeds.
        freedom: Degrees of freedom of the interval.
    """

    difference: Difference
    of_images: float
    of_rest: float
    freedom: float

    def images_needed(self, images: int) -> int | None:
        """Number of test images with which the interval of a difference of this size would exclude 0.

        Args:
            images: Number of test images that were used.

        Returns:
            The number; None if no number suffices, because of the variance by draws and seeds.
        """
        allowed = (self.difference.value / student_quantile(self.freedom)) ** 2 - self.of_rest
        return math.ceil(images * self.of_images / allowed) if allowed > 0 else None


def estimate(first: Sequence[Numbers], second: Sequence[Numbers] | None, groups: Integers) -> Estimate:
    """Mean difference of two arms over several numbers of labels, with a 95 % interval.

    The variances by test images (in whole groups), by draws of the labels and by the seeds of each arm are added. Both
    arms have the same test images and draws, so these are paired; seeds are not. The number of degrees of freedom
    follows Satterthwaite, so that few seeds give a wide interval if they matter. An arm with one seed is regarded as
    fixed.

    Args:
        first: For each number of labels, whether each test image was classified correctly (seeds, draws, images).
        second: The same of the other arm, with the same draws; None: the accuracy of the first.
        groups: Group of each test image (images,).

    References:
        Satterthwaite, "An approximate distribution of estimates of variance components", 1946.
    """
    arms = [first] if second is None else [first, second]
    signs = (1.0, -1.0)
    images = sum(sign * _mean(arm, (0, 1)) for sign, arm in zip(signs, arms, strict=False))
    draws = sum(sign * _draws(arm) for sign, arm in zip(signs, arms, strict=False))
    value = float(np.mean(images))
    parts = [_of_images(np.asarray(images), groups)]
    rest = [_of_replicates(np.asarray(draws)), *(_of_replicates(_seeds(arm)) for arm in arms)]
    parts += [part for part in rest if part is not None]
    total = sum(variance for variance, _ in parts)
    weights = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = total**2 / weights if weights else math.inf
    half = student_quantile(freedom) * math.sqrt(total)
    low, high = (-1.0, 1.0) if second is not None else (0.0, 1.0)
    interval = Difference(value, max(low, value - half), min(high, value + half))
    return Estimate(interval, parts[0][0], total - parts[0][0], freedom)


def _mean(arm: Sequence[Numbers], axes: tuple[int, int]) -> Numbers:
    """Mean over numbers of labels, and over two of the axes seeds, draws, images."""
    found: Numbers = np.mean([each.mean(axes) for each in arm], axis=0)
    return found


def _seeds(arm: Sequence[Numbers]) -> Numbers:
    """Mean of each seed over numbers of labels; for some of these, there may have been no time with the last seeds."""
    least = min(len(each) for each in arm)
    return _mean([each[:least] for each in arm], (1, 2))


def _draws(arm: Sequence[Numbers]) -> Numbers:
    """Contribution of each draw to the mean over numbers of labels, apart from those with one draw."""
    several = [each.mean((0, 2)) for each in arm if each.shape[1] > 1]
    if not several:
        return np.zeros(1)
    least = min(len(each) for each in several)
    found: Numbers = np.sum([each[:least] for each in several], axis=0) / len(arm)
    return found


def _of_images(values: Numbers, groups: Integers) -> tuple[float, float]:
    """Variance of the mean of values per image, in whole groups, and its degrees of freedom.

    Half an image is added to either side, so that few images on which the arms agree do not give a variance of 0.
    """
    centred = values - values.mean()
    sums = np.bincount(groups, centred)
    count = len(np.unique(groups))
    factor = count / max(1, count - 1)
    return factor * (float(np.square(sums).sum()) + 1) / (len(values) + 2) ** 2, max(1, count - 1)


def _of_replicates(values: Numbers) -> tuple[float, float] | None:
    """Variance of the mean of independent values, and its degrees of freedom; None for one value."""
    if len(values) < 2:
        return None
    return float(values.var(ddof=1)) / len(values), len(values) - 1


@functools.lru_cache(maxsize=256)
def student_quantile(freedom: float, level: float = LEVEL) -> float:
    """Quantile of the two-sided interval of Student's t distribution.

    With n degrees of freedom and t = √n · tan θ, the density of θ is proportional to cos(θ)ⁿ⁻¹, which is integrated.

    Examples:
        >>> [round(student_quantile(freedom), 2) for freedom in (1, 4, 30, 1e9)]
        [12.71, 2.78, 2.04, 1.96]
    """
    freedom = min(max(freedom, 1.0), 1e4)
    angles = np.linspace(0, math.pi / 2, _GRID)
    density = np.cos(angles) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(level * mass[-1], mass, angles)))


def equivalent_labels(value: float, labels: Sequence[float], accuracies: Sequence[float]) -> float:
    """Number of labels per class with which a curve reaches an accuracy, interpolated in the logarithm of the number.

    Args:
        value: The accuracy.
        labels: Numbers of labels per class of the curve, ascending.
        accuracies: Its accuracies; where they fall, the best so far is taken.

    Returns:
        The number; infinite beyond the curve, and 0 below it.

    Examples:
        >>> equivalent_labels(0.5, [1, 100], [0.4, 0.6])
        10.0
        >>> equivalent_labels(0.7, [1, 100], [0.4, 0.6]), equivalent_labels(0.3, [1, 100], [0.4, 0.6])
        (inf, 0.0)
    """
    rising = np.maximum.accumulate(np.asarray(accuracies, np.float64))
    if value > rising[-1]:
        return math.inf
    if value < rising[0]:
        return 0.0
    upper = int(np.searchsorted(rising, value))
    if upper == 0:
        return float(labels[0])
    low, high = rising[upper - 1], rising[upper]
    share = (value - low) / (high - low)
    return round(math.exp((1 - share) * math.log(labels[upper - 1]) + share * math.log(labels[upper])), 6)
