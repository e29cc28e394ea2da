"""Ranks whose parameters differ are refused by name; random layers differ between ranks, reproducibly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starting import finished, started

import super_selfish  # noqa: F401 - for the path of the library

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each case gave on both ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    finished(started(2, HERE / "ranks.py", folder, timeout=60))
    return [json.loads((folder / f"ranks-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("order", ["`parameter 0 of the optimizer` differs", "model.backbone.a.weight", "model.predictor.bias"]),
        ("names", ["differs", "model.backbone.a.weight", "model.backbone.b.weight"]),
        ("frozen", ["differs", "model.backbone.b.weight (4, 3, 3, 3) trained"]),
        ("unused", ["on some ranks only", "model.backbone.b.weight", "model.backbone.b.bias"]),
    ],
)
def test_ranks_with_other_parameters_are_refused_by_name(
    ranks: list[dict[str, Any]], case: str, names: list[str]
) -> None:
    for found in ranks:
        assert all(name in found[case] for name in names), found[case]


def test_parameters_that_no_rank_uses_are_not_changed(ranks: list[dict[str, Any]]) -> None:
    assert [found["unused everywhere"] for found in ranks] == [["True", "2"]] * 2


def test_dropout_masks_differ_between_ranks_and_are_reproducible(ranks: list[dict[str, Any]]) -> None:
    first, second = (found["masks"] for found in ranks)
    assert len(first) == 4
    assert all(one != other for one, other in zip(first, second, strict=True))
    for found in ranks:
        assert found["masks"] == found["masks again"]
        assert found["masks resumed"] == found["masks"][3:]


def test_all_ranks_shuffle_alike(ranks: list[dict[str, Any]]) -> None:
    first, second = (found["shuffled"] for found in ranks)
    assert first == second
    assert len({tuple(order) for order in first}) == len(first) == 2
