"""Scores of pretext tasks and their metrics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.evaluation.pretext import (
    PretextScore,
    accuracy,
    classification_score,
    in_batches,
    reconstruction_score,
    retrieval_accuracy,
    retrieval_score,
)


@pytest.mark.parametrize(
    ("value", "trivial", "higher", "expected"),
    [
        (0.5, 0.25, True, True),
        (0.25, 0.25, True, False),
        (0.5, 0.25, False, False),
        (0.1, 0.25, False, True),
        (math.nan, 0.25, True, False),
        (math.nan, 0.25, False, False),
        (0.5, None, True, None),
    ],
)
def test_comparison_with_the_trivial_baseline(
    value: float, trivial: float | None, higher: bool, expected: bool | None
) -> None:
    score = PretextScore("metric", value, trivial, "baseline", higher)
    assert score.better_than_trivial is expected
    assert "metric" in str(score)


def test_accuracies_are_printed_in_percent_with_their_interval() -> None:
    score = PretextScore("accuracy", 0.5, 0.25, "chance level", images=400, is_accuracy=True)
    low, high = score.interval or (0, 0)
    assert (low, high) == pytest.approx((0.451, 0.549), abs=1e-3)
    assert str(score) == "accuracy: 50.0 % (95 % interval: 45.1 to 54.9 %; chance level: 25.0 %; 400 images)"
    error = PretextScore("error", 0.5, None, "", higher_is_better=False, images=400)
    assert error.interval is None
    assert str(error) == "error: 0.500 (no trivial baseline; lower is better; 400 images)"
    assert PretextScore("accuracy", math.nan, 0.25, "chance level", images=4, is_accuracy=True).interval is None


def test_small_chance_levels_are_printed_with_more_digits() -> None:
    score = PretextScore("accuracy", 0.0, 1 / 3000, "chance level", images=256, is_accuracy=True)
    assert "accuracy: 0.0 % (95 % interval: 0.0 to 1.5 %; chance level: 0.03 %; 256 images)" in str(score)


def test_accuracy() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0], [0.0, 1.0]])
    assert accuracy(logits, torch.tensor([0, 1, 1, 1])) == 0.75
    score = classification_score("accuracy", nn.Identity(), (logits, torch.tensor([0, 1, 1, 1])))
    assert (score.value, score.trivial, score.better_than_trivial) == (0.75, 0.5, True)


def test_retrieval_accuracy_is_one_for_equal_and_chance_for_constant_embeddings() -> None:
    rows = torch.randn(20, 8)
    assert retrieval_accuracy(rows, 3 * rows) == 1.0
    assert retrieval_accuracy(rows, rows.flip(0)) == 0.0
    assert retrieval_accuracy(torch.ones(20, 8), torch.ones(20, 8)) == 1 / 20


def test_retrieval_baseline_is_the_mean_colour_but_at_least_chance() -> None:
    rows, noise = torch.randn(10, 4), torch.randn(10, 3, 5, 5)
    tinted = noise + 100 * torch.randn(10, 3, 1, 1)
    assert retrieval_score("view", rows, rows, (tinted, tinted.flip(3))).trivial == 1.0
    assert retrieval_score("view", rows, rows, (tinted, tinted.flip(0))).trivial == 0.1
    assert retrieval_score("view", rows, rows).trivial == 0.1


def test_reconstruction_baseline_is_the_better_of_mean_image_and_input() -> None:
    clean = torch.rand(6, 3, 8, 8)
    error = F.mse_loss(clean.mean(0, keepdim=True).expand_as(clean), clean).item()
    perfect = reconstruction_score("error", nn.Identity(), (clean, clean), F.mse_loss)
    assert (perfect.value, perfect.trivial, perfect.better_than_trivial) == (0.0, 0.0, False)
    score = reconstruction_score("error", lambda images: images / 100, (100 * clean, clean), F.mse_loss)
    assert score.value == pytest.approx(0.0, abs=1e-6)
    assert score.trivial == pytest.approx(error)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_batches_do_not_change_the_result(size: int) -> None:
    rows, more = torch.randn(7, 4), torch.randn(7, 2)
    assert torch.equal(in_batches(lambda part: 2 * part, rows, size=size), 2 * rows)

    def pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        assert len(first) <= size
        return second, first

    assert all(map(torch.equal, in_batches(pair, rows, more, size=size), (more, rows)))
