"""Diagnostics of a history."""

from __future__ import annotations

from typing import Any

import pytest

from super_selfish.engine.callbacks.diagnostics import diagnose, diagnostics, has_collapsed
from super_selfish.engine.core.expected_loss import CollapseRisk, ExpectedLoss

FALLING = [2.0, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
CHANCE = ExpectedLoss(chance=1.386, stuck="Turn it.")
UNMEASURED = ExpectedLoss(falls=False)


def history(losses: list[float], **more: Any) -> list[dict[str, Any]]:
    return [{"epoch": n, "loss": loss, "data_wait": 0.0} | more for n, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(
    ("entries", "expected", "word", "is_warning"),
    [
        ([], None, "No epoch", False),
        (history([1.0]), None, "At least 3 epochs", False),
        (history([1.0, 1.2, 1.4, 1.3, 1.0, 0.8]), ExpectedLoss(warm=5), "At least 7 epochs", False),
        (history(FALLING), None, "33.3 %", False),
        (history([2.0, 1.0, 0.5] + [0.499] * 9), None, "Plateau since epoch 3", False),
        (history([1.386] * 4), CHANCE, "Turn it.", True),
        (history([1.4, 1.0, 1.1, 1.3, 1.6]), None, "1.000 in epoch 2", True),
        (history(FALLING[::-1]), UNMEASURED, "watch", False),
        (history([2.0] * 6, consistency=0.4), UNMEASURED, "Plateau since epoch 1", False),
        (history(FALLING, collapsed=True, spread=0.001), None, "Collapsed since epoch 1", True),
        (history(FALLING, collapsed=True, spread=0.7), None, "Still improving", False),
    ],
)
def test_diagnosis(entries: list[dict[str, Any]], expected: ExpectedLoss | None, word: str, is_warning: bool) -> None:
    [found] = diagnostics(entries, expected)
    assert word in found.text
    assert found.is_warning is is_warning


def test_data_bound_training_gets_a_second_warning() -> None:
    progress, waiting = diagnostics(history(FALLING, data_wait=0.6))
    assert not progress.is_warning
    assert waiting.is_warning
    assert "60 %" in waiting.text


def test_increasing_consistency_is_an_improvement() -> None:
    entries = history([2.0] * 10)
    for n, entry in enumerate(entries):
        entry["consistency"] = 0.1 + 0.05 * n
    assert "22.2 %" in diagnose(entries, UNMEASURED)[0]


@pytest.mark.parametrize(
    ("spreads", "losses", "collapsed"),
    [
        ([0.0057, 0.0022, 0.0015, 0.002, 0.0037, 0.0065], [12.8, 15.4, 9.9, 7.05, 6.38, 6.24], False),  # measured
        ([0.009, 0.005, 0.003, 0.002, 0.001], [6.3, 6.25, 6.21, 6.21, 6.21], True),
        ([0.009, 0.005, 0.003, 0.002], [6.3, 6.25, 6.21, 6.21], False),  # too early
        ([0.009, 0.005, 0.003, 0.002, 0.001], [6.3, 6.25, 6.0, 5.8, 5.6], False),  # embeddings differ
        ([0.2, 0.2, 0.2, 0.2, 0.2], [6.2] * 5, False),
    ],
)
def test_collapse_of_a_contrastive_algorithm(spreads: list[float], losses: list[float], collapsed: bool) -> None:
    entries = [{"spread": spread, "loss": loss} for spread, loss in zip(spreads, losses, strict=True)]
    entries.insert(0, {"loss": 9.0})  # an epoch without a measurement
    assert has_collapsed(CollapseRisk("", None, 6.2), entries, 1000) is collapsed
    assert not has_collapsed(CollapseRisk("", None, 6.2), entries, 10)


@pytest.mark.parametrize(
    ("cause", "spread", "steps", "collapsed"),
    [
        (None, 0.005, 100, True),
        (None, 0.005, 10, False),
        (None, 0.08, 100, False),
        ("known", 0.08, 10, True),
        ("known", 0.5, 10, False),
    ],
)
def test_collapse_without_negatives(cause: str | None, spread: float, steps: int, collapsed: bool) -> None:
    assert has_collapsed(CollapseRisk("", cause), [{"spread": spread, "loss": 0.1}], steps) is collapsed


def test_collapse_with_a_known_cause() -> None:
    risk = CollapseRisk("", "known", 6.2)
    assert has_collapsed(risk, [{"spread": 0.5, "loss": 6.0}], 1)
    assert not has_collapsed(risk, [{"spread": 0.5, "loss": 5.0}], 1)


@pytest.mark.parametrize(("images", "advised"), [(None, True), (0, True), (200, True), (199, False), (3, False)])
def test_more_epochs_are_not_advised_on_very_few_images(images: int | None, advised: bool) -> None:
    [text] = diagnose(history(FALLING), None, images)
    assert text.startswith("Still improving")
    assert ("Train longer" in text) is advised
    assert ("memorises" in text) is not advised


RISING = [4.0, 2.5, 2.351, 2.5, 2.7, 2.896]


@pytest.mark.parametrize(
    ("spreads", "expected", "blamed"),
    [
        ((0.23, 0.50), ExpectedLoss(equal=2.9), False),
        ((0.23, 0.50), ExpectedLoss(chance=3.0), False),
        ((0.23, 0.50), ExpectedLoss(), True),  # unknown chance level
        ((0.23, 0.50), ExpectedLoss(equal=2.4), True),  # worse than equal similarities
        ((0.50, 0.23), ExpectedLoss(equal=2.9), True),
        (None, ExpectedLoss(equal=2.9), True),
    ],
)
def test_a_loss_that_rises_while_embeddings_spread_is_not_blamed_on_the_learning_rate(
    spreads: tuple[float, float] | None, expected: ExpectedLoss, blamed: bool
) -> None:
    entries = history(RISING)
    if spreads is not None:
        for place, entry in enumerate(entries):
            entry["spread"] = spreads[0] + (spreads[1] - spreads[0]) * max(0, place - 2) / 3
    [found] = diagnostics(entries, expected)
    assert ("learning rate is probably too high" in found.text) is blamed
    assert found.is_warning is blamed
    assert blamed or "0.23 to 0.50" in found.text
