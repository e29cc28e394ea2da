"""Decisions of a comparison from made-up results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from super_selfish.comparison.budget import LEAST_UPDATES
from super_selfish.comparison.decisions import (
    bootstrap,
    dropped,
    finalists,
    images_to_decide,
    recommended,
    rule,
    standings,
    suitable,
    unusable,
)
from super_selfish.comparison.records import COLLAPSE, Row
from super_selfish.comparison.trials import is_at_chance
from super_selfish.evaluation import PretextScore
from super_selfish.supervisors import all_supervisors

ALGORITHMS = all_supervisors()
IMAGES = 200
GROUPS = np.arange(IMAGES)


def row(name: str, score: float, stage: int = 1, seed: int = 0, shift: int = 0, **changed: Any) -> Row:
    """A row with a share ``score`` of correct images, which begin at ``shift``."""
    correct = (np.roll(np.arange(IMAGES), shift) < score * IMAGES).astype(float).tolist()
    return Row(name, stage, seed, knn=correct, ridge=correct, **{"updates": LEAST_UPDATES, **changed})


def test_collapsed_failed_and_chance_level_trainings_are_dropped() -> None:
    rows = [
        row("byol", 0.5, problem="representation collapse"),
        row("bi_gan", 0.9, problem="failed: no memory"),
        row("pirl", 0.5, at_chance=True, pretext="accuracy: 1 %"),
        row("jigsaw_net", 0.5, at_chance=False),
        row("denoise_net", 0.5),
    ]
    reasons = dropped(rows, row("untrained", 0.5, 0), GROUPS, ALGORITHMS)
    assert set(reasons) == {"byol", "bi_gan", "pirl"}
    assert "1 %" in reasons["pirl"]


def test_a_training_at_chance_stays_if_its_features_are_better_than_untrained_ones() -> None:
    rows = [row("pirl", 0.7, at_chance=True), row("byol", 0.5)]
    assert dropped(rows, row("untrained", 0.5, 0), GROUPS, ALGORITHMS) == {}
    assert set(dropped(rows, row("untrained", 0.7, 0), GROUPS, ALGORITHMS)) == {"pirl"}
    assert set(dropped(rows, None, GROUPS, ALGORITHMS)) == {"pirl"}


def test_a_collapse_counts_only_if_the_features_are_not_better_than_untrained_ones() -> None:
    rows = [row("pirl", 0.7, problem=COLLAPSE), row("byol", 0.5)]
    assert unusable(rows, row("untrained", 0.5, 0), GROUPS) == {}
    assert unusable(rows, row("untrained", 0.7, 0), GROUPS) == {"pirl": "representation collapse after 100 updates"}


def test_runs_with_few_updates_are_neither_dropped_nor_suitable() -> None:
    few = {"updates": LEAST_UPDATES - 1}
    rows = [
        row("pirl", 0.5, problem=COLLAPSE, **few),
        row("rotate_net", 0.5, at_chance=True, **few),
        row("bi_gan", 0.5, problem="failed: no memory", **few),
        row("jigsaw_net", 0.5, at_chance=False),
        row("exemplar_net", 0.5, at_chance=True),
    ]
    assert dropped(rows[:4], None, GROUPS, ALGORITHMS) == {"bi_gan": "failed: no memory"}
    assert set(dropped(rows, None, GROUPS, ALGORITHMS)) == {"bi_gan", "exemplar_net"}
    assert suitable(rows, [each.name for each in rows]) == ["jigsaw_net"]


def test_where_all_stayed_at_chance_the_time_was_too_short_to_drop_them() -> None:
    rows = [row(name, 0.5, at_chance=True) for name in ("pirl", "exemplar_net", "rotate_net")]
    failed = row("byol", 0.5, problem="representation collapse")
    assert set(dropped([*rows, failed], None, GROUPS, ALGORITHMS)) == {"rotate_net", "byol"}
    assert set(dropped([rows[2], failed], None, GROUPS, ALGORITHMS)) == {"byol"}


def test_finalists_are_the_best_four() -> None:
    names = ["rotate_net", "byol", "jigsaw_net", "pirl", "denoise_net", "bi_gan"]
    rows = [row(name, 0.9 - 0.1 * place) for place, name in enumerate(names)]
    assert finalists(rows, ALGORITHMS) == names[:4]


def test_a_first_choice_is_always_a_finalist() -> None:
    names = ["byol", "jigsaw_net", "pirl", "denoise_net", "bi_gan", "exemplar_net", "rotate_net"]
    rows = [row(name, 0.9 - 0.1 * place) for place, name in enumerate(names)]
    assert finalists(rows, ALGORITHMS) == ["byol", "jigsaw_net", "pirl", "exemplar_net"]


def test_finalists_are_of_two_families() -> None:
    contrastive = ["byol", "pirl", "momentum_contrast", "instance_discrimination"]
    assert {ALGORITHMS[name].family for name in contrastive} == {"contrastive"}
    rows = [row(name, 0.9 - 0.1 * place) for place, name in enumerate([*contrastive, "denoise_net"])]
    assert finalists(rows, ALGORITHMS) == [*contrastive[:3], "denoise_net"]


def test_the_rule_prefers_a_canonical_orientation_if_it_was_learnable() -> None:
    assert rule(["denoise_net", "exemplar_net", "rotate_net"], ALGORITHMS) == "rotate_net"
    assert rule(["denoise_net", "exemplar_net", "byol"], ALGORITHMS) == "exemplar_net"
    assert rule(["bi_gan", "denoise_net"], ALGORITHMS) == "denoise_net"
    assert rule([], ALGORITHMS) is None


def test_rotations_must_be_learnable_by_a_margin() -> None:
    rotations = ALGORITHMS["rotate_net"]
    score = PretextScore("accuracy", 0.30, 0.25, "chance level", images=100_000, is_accuracy=True)
    assert is_at_chance(score, rotations)  # significant, but no canonical orientation
    assert not is_at_chance(score, ALGORITHMS["jigsaw_net"])
    score = PretextScore("accuracy", 0.45, 0.25, "chance level", images=256, is_accuracy=True)
    assert not is_at_chance(score, rotations)
    score = PretextScore("error", 0.5, 0.4, "mean image", higher_is_better=False)
    assert is_at_chance(score, ALGORITHMS["denoise_net"])
    assert is_at_chance(PretextScore("loss", 0.5, None, ""), ALGORITHMS["byol"]) is None


def test_clear_differences_are_no_ties() -> None:
    found = standings([row("byol", 0.9, 2), row("rotate_net", 0.6, 2)], GROUPS)
    assert [(each.name, each.is_tied) for each in found] == [("byol", True), ("rotate_net", False)]
    assert found[0].within == 1.0
    assert found[1].within == 0.0
    assert recommended(found, ALGORITHMS) == "byol"
    assert found[0].low < 0.9 < found[0].high


def test_of_ties_the_cheapest_is_recommended() -> None:
    found = standings([row("contrastive_predictive_coding", 0.6, 2), row("exemplar_net", 0.595, 2, shift=60)], GROUPS)
    assert [each.is_tied for each in found] == [True, True]
    assert recommended(found, ALGORITHMS) == "exemplar_net"


def test_a_tie_that_is_far_behind_is_not_recommended() -> None:
    found = standings([row("contrastive_predictive_coding", 0.6, 2), row("exemplar_net", 0.56, 2, shift=60)], GROUPS)
    assert found[1].is_tied
    assert recommended(found, ALGORITHMS) == "contrastive_predictive_coding"


def test_seeds_widen_the_interval() -> None:
    one = standings([row("byol", 0.6, 2)], GROUPS)[0]
    two = standings([row("byol", 0.4, 2, seed=1), row("byol", 0.8, 2, seed=2)], GROUPS)[0]
    assert two.score == pytest.approx(one.score)
    assert two.high - two.low > 1.5 * (one.high - one.low)


def test_bootstrap_resamples_whole_groups() -> None:
    correct = np.repeat([1.0, 0.0], IMAGES // 2)
    single = bootstrap([correct[None]], GROUPS)
    grouped = bootstrap([correct[None]], np.repeat(np.arange(4), IMAGES // 4))
    assert grouped.std() > 3 * single.std()
    assert single.std() == pytest.approx(0.5 / IMAGES**0.5, rel=0.1)


def test_bootstrap_is_paired() -> None:
    correct = (np.arange(IMAGES) % 2).astype(float)[None]
    samples = bootstrap([correct, correct], GROUPS)
    assert np.array_equal(samples[:, 0], samples[:, 1])


def test_fewer_images_decide_where_algorithms_agree() -> None:
    base = np.arange(IMAGES) % 2.0
    few, many = base.copy(), base.copy()
    few[:10], many[:80] = 1 - few[:10], 1 - many[:80]
    assert images_to_decide(base, few) < images_to_decide(base, many)
