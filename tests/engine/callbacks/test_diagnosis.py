"""What the course of a training says."""

from __future__ import annotations

from typing import Any

import pytest

from super_selfish.engine.callbacks.diagnosis import advice
from super_selfish.engine.core.expectations import Expectation


def course(losses: list[float], **more: Any) -> list[dict[str, Any]]:
    return [{"epoch": n, "loss": loss, "data_wait": 0.0} | more for n, loss in enumerate(losses, start=1)]


FALLING = [2.0, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]


@pytest.mark.parametrize(
    ("history", "expected", "words"),
    [
        ([], None, "No epoch"),
        (course([1.0]), None, "Too early to tell after 1 epoch: 3 say"),
        (course(FALLING), None, "Still improving: the loss fell by 33.3 %"),
        (course([2.0, 1.0, 0.5] + [0.499] * 9), None, "Plateau since epoch 3"),
        (course([1.386] * 4), Expectation(chance=1.386, stuck="Turn it."), "No better than a guess after 4 epochs"),
        (course([1.386] * 4), Expectation(chance=1.386, stuck="Turn it."), "Turn it."),
        (
            course([1.4, 1.0, 1.1, 1.3, 1.6]),
            None,
            "learning rate is probably too high: the loss is 1.600, and was 1.000",
        ),
        (course([1.0, 1.2, 1.4, 1.3, 1.0, 0.8]), Expectation(warm=5), "Too early"),
        (course(FALLING[::-1]), Expectation(falls=False), "Too early"),
        (course([2.0] * 6, consistency=0.4), Expectation(falls=False), "Plateau since epoch 1: the consistency"),
        (course(FALLING, data_wait=0.6), None, "Data-bound: 60 %"),
        (course(FALLING, collapsed=True, spread=0.001), None, "Collapsed since epoch 1"),
    ],
)
def test_words(history: list[dict[str, Any]], expected: Expectation | None, words: str) -> None:
    assert words in " ".join(advice(history, expected))


def test_features_that_are_different_again() -> None:
    history = course(FALLING)
    history[2] |= {"collapsed": True, "spread": 0.001}
    history[-1] |= {"spread": 0.7}
    assert advice(history)[0].startswith("Still improving")


def test_rising_consistency_is_progress() -> None:
    history = course([2.0] * 10)
    for n, entry in enumerate(history):
        entry["consistency"] = 0.1 + 0.05 * n
    assert advice(history, Expectation(falls=False))[0].startswith("Still improving: the consistency rose by 22.2 %")
