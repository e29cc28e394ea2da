"""Confidence intervals of accuracies and of their differences."""

from __future__ import annotations

import numpy as np
import pytest

from super_selfish.evaluation.intervals import accuracy_interval, paired_difference


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 50, 0.1910, 0.4375)],  # Newcombe, 1998; Brown et al., 2001
)
def test_wilson_interval(right: int, images: int, low: float, high: float) -> None:
    assert accuracy_interval(right / images, images) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_the_interval_of_an_accuracy_covers_it_in_95_percent_of_samples(share: float) -> None:
    found = np.random.default_rng(0).binomial(100, share, 4000) / 100
    covered = [low <= share <= high for low, high in (accuracy_interval(value, 100) for value in found)]
    assert 0.93 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("gain", [0.0, 0.1])
def test_the_interval_of_a_difference_covers_it_in_95_percent_of_samples(gain: float) -> None:
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(2000):
        hard = generator.random(100)  # images that are hard for one classifier are hard for both
        first, second = ((hard + generator.normal(0, 0.2, 100)) < limit for limit in (0.5 + gain, 0.5))
        difference = paired_difference(first, second)
        covered.append(difference.low <= gain <= difference.high)
    assert 0.93 <= np.mean(covered) <= 0.98


def test_verdicts() -> None:
    ones, zeros, mixed = np.ones(60), np.zeros(60), np.arange(60) % 2
    assert paired_difference(ones, zeros).verdict == "better than"
    assert paired_difference(zeros, ones).verdict == "worse than"
    assert paired_difference(mixed, 1 - mixed).verdict == "no different from"
    assert paired_difference(ones[:2], zeros[:2]).verdict == "no different from", "two images decide nothing"
    assert str(paired_difference(ones, mixed)).startswith("+50.0 percentage points, 95 % interval: +3")
