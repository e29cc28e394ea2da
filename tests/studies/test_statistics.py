"""Intervals that cover a known truth, quantiles, label equivalence and the number of test images needed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from super_selfish.studies.curves import Curves
from super_selfish.studies.records import PRETRAINED, TUNED, UNTRAINED, StudyRow
from super_selfish.studies.statistics import equivalent_labels, estimate, student_quantile

IMAGES = 200


def simulated(generator: np.random.Generator, gain: float, spread: float, seeds: int) -> list[list[np.ndarray]]:
    """Two arms over three numbers of labels (seeds, draws, images), with a mean difference of ``gain``.

    Images have difficulties, draws have effects that both arms share in part, seeds have effects of their own.
    """
    difficulty = generator.uniform(0.2, 0.6, IMAGES)
    taste = generator.normal(0, 0.1, IMAGES)  # of the arms for single images
    arms = []
    shared = generator.normal(0, 0.02, 5)
    for number in range(2):
        seed_effects = generator.normal(0, spread, seeds)
        draw_effects = shared + generator.normal(0, 0.01, 5)
        rows = []
        for draws in (5, 5, 1):
            chance = difficulty + number * (gain + taste)
            chance = chance + seed_effects[:, None, None] + draw_effects[None, :draws, None]
            rows.append((generator.random((seeds, draws, IMAGES)) < chance).astype(float))
        arms.append(rows)
    return arms[::-1]


@pytest.mark.parametrize(("spread", "seeds"), [(0.0, 2), (0.02, 2), (0.04, 2), (0.03, 4)])
def test_intervals_cover_the_truth(spread: float, seeds: int) -> None:
    generator, covered, runs = np.random.default_rng(1), 0, 300
    for _ in range(runs):
        first, second = simulated(generator, 0.05, spread, seeds)
        found = estimate(first, second, np.arange(IMAGES)).difference
        covered += found.low <= 0.05 <= found.high
    assert covered / runs > 0.91


def test_intervals_find_a_difference_and_are_not_needlessly_wide() -> None:
    generator, shown = np.random.default_rng(2), 0
    for _ in range(100):
        first, second = simulated(generator, 0.1, 0.01, 2)
        shown += estimate(first, second, np.arange(IMAGES)).difference.low > 0
    assert shown > 90


def test_variance_by_seeds_widens_the_interval() -> None:
    arm = np.zeros((2, 3, 100))
    arm[:, :, :50] = 1
    alike = estimate([arm], [arm], np.arange(100))
    arm = arm.copy()
    arm[1, :, :70] = 1  # the second seed is 20 points better
    apart = estimate([arm], [np.stack([arm[0], arm[0]])], np.arange(100))
    assert apart.difference.high - apart.difference.low > 5 * (alike.difference.high - alike.difference.low)
    assert apart.freedom < 2


@pytest.mark.parametrize("scored", [(True, True), (True, False), (False, True)])
def test_scores_for_which_there_was_no_time_are_left_out(scored: tuple[bool, bool]) -> None:
    rows = []
    for arm, hits in ((UNTRAINED, 0), (PRETRAINED, 1)):
        for seed in range(2):
            row = StudyRow(arm, seed)
            row.add(TUNED, 5, 0, np.arange(24) % 2 < hits + 1)
            if scored[seed] or arm == UNTRAINED:
                row.add(TUNED, 20, 0, np.arange(24) % 2 < hits + 1)
            rows.append(row)
    curves = Curves(rows, np.arange(24), [], [5, 20])
    found = curves.difference(PRETRAINED, UNTRAINED, method=TUNED).difference
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high


def test_images_of_a_group_are_not_independent() -> None:
    generator = np.random.default_rng(3)
    first = np.repeat(generator.random((1, 1, 20)) < 0.6, 10, axis=2).astype(float)
    single = estimate([first], None, np.arange(200)).difference
    grouped = estimate([first], None, np.arange(200) // 10).difference
    assert grouped.value == single.value
    assert grouped.high - grouped.low > 2 * (single.high - single.low)


def test_images_needed_would_show_the_difference() -> None:
    generator = np.random.default_rng(4)
    first = (generator.random((1, 1, 400)) < 0.55).astype(float)
    second = (generator.random((1, 1, 400)) < 0.50).astype(float)
    found = estimate([first], [second], np.arange(400))
    assert found.difference.low < 0 < found.difference.value
    needed = found.images_needed(400)
    assert needed is not None
    half = student_quantile(found.freedom) * math.sqrt(found.of_images * 400 / needed)
    assert half == pytest.approx(found.difference.value, rel=0.01)


def test_no_number_of_images_shows_what_seeds_hide() -> None:
    first, second = np.zeros((2, 1, 100)), np.zeros((2, 1, 100))
    first[0, :, :60], first[1, :, :40], second[:, :, :45] = 1, 1, 1
    assert estimate([first], [second], np.arange(100)).images_needed(100) is None


def test_quantiles_are_those_of_student() -> None:
    for freedom in (1.0, 1.7, 5.0, 40.0, 900.0):
        assert student_quantile(freedom) == pytest.approx(float(stats.t.ppf(0.975, freedom)), rel=1e-3)
    assert student_quantile(math.inf) == pytest.approx(1.96, abs=0.001)


def test_label_equivalence() -> None:
    labels, curve = [1.0, 5.0, 20.0, 100.0], [0.2, 0.4, 0.35, 0.6]
    assert equivalent_labels(0.5, labels, curve) == pytest.approx(math.sqrt(20 * 100), rel=1e-4)
    assert equivalent_labels(0.4, labels, curve) == pytest.approx(5.0)  # a curve that falls is levelled
    assert equivalent_labels(0.61, labels, curve) == math.inf
    assert equivalent_labels(0.1, labels, curve) == 0
