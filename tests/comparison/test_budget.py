"""Division of the time budget of a comparison."""

from __future__ import annotations

from typing import Any

import pytest

from super_selfish.comparison.budget import LEAST_UPDATES, TIMED_STEPS, Budget, Plan, budget_seconds, cost, make_plan
from super_selfish.comparison.records import Row
from super_selfish.comparison.sufficiency import enough_for
from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import all_supervisors


def plan(step: float, seconds: float = 1800.0, side: int = 64, **changed: Any) -> Plan:
    """The plan for all algorithms, at ``step`` seconds per update at 64 px and in proportion to the pixels."""
    given: dict[str, Any] = {"is_labelled": True, "may_shrink": True, **changed}
    algorithms = given.pop("algorithms", all_supervisors())
    return make_plan(algorithms, seconds, seconds, side, lambda size: step * size**2 / 64**2, **given)


@pytest.mark.parametrize("value", ["soon", "", "5s", 3, -60, True, None, "10 parsecs", float("inf"), float("nan")])
def test_a_budget_that_is_no_duration_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"budget.*30min"):
        budget_seconds(value)


def test_budget_counts_earlier_calls_and_keeps_a_reserve() -> None:
    budget = Budget(100.0, used=30.0, now=lambda: 7.0)
    assert budget.used == 30.0
    assert 60 < budget.left < 70


def test_all_algorithms_share_the_budget() -> None:
    found = plan(0.01)
    count = len(all_supervisors())
    assert set(found.algorithms) == set(all_supervisors())
    assert found.share == pytest.approx(1800 / (count + 4 * 3.5))
    assert (found.seeds, found.finalists, found.side, found.notes) == (1, 4, 64, ())


def test_two_seeds_from_one_hour() -> None:
    assert plan(0.01, 3599).seeds == 1
    assert plan(0.01, 3600).seeds == 2


def test_without_labels_stage_1_has_the_whole_budget() -> None:
    found = plan(0.01, is_labelled=False)
    assert (found.seeds, found.finalists) == (0, 0)
    assert found.share == pytest.approx(1800 / len(found.algorithms))
    assert "needs labels" in found.forecast(1800)


def test_a_slow_machine_gets_a_lower_resolution_first() -> None:
    found = plan(0.5)
    assert found.side == 32
    assert any("32 px" in note for note in found.notes)
    assert plan(0.5, may_shrink=False).side == 64


def test_a_slower_machine_leaves_out_the_slowest_algorithms() -> None:
    algorithms = all_supervisors()
    found = plan(0.3, may_shrink=False)
    left_out = set(algorithms) - set(found.algorithms)
    assert left_out
    assert set(found.left_out) == left_out
    assert all(0 < count < LEAST_UPDATES for count in found.left_out.values())
    assert "bi_gan" in left_out  # the most expensive
    assert all(count >= LEAST_UPDATES for name, count in found.updates.items() if not algorithms[name].first_choice)
    assert len(found.algorithms) > 4


def test_four_algorithms_two_families_and_first_choices_stay_on_any_machine() -> None:
    algorithms = all_supervisors()
    found = plan(1e6)
    assert len(found.algorithms) == 4
    assert len({algorithms[name].family for name in found.algorithms}) > 1
    assert {name for name, algorithm in algorithms.items() if algorithm.first_choice} <= set(found.algorithms)
    assert found.enough > 1800
    assert "too few to judge" in found.forecast(1800)
    assert set(found.left_out) == set(algorithms) - set(found.algorithms)


@pytest.mark.parametrize("is_labelled", [True, False])
@pytest.mark.parametrize("step", [2.0, 5.0, 40.0])
def test_the_estimated_budget_is_enough(step: float, is_labelled: bool) -> None:
    short = plan(step, 120.0, is_labelled=is_labelled)
    found = plan(step, short.enough, is_labelled=is_labelled)
    assert short.enough > 120
    assert found.enough == 0.0 or found.side > short.side
    assert min(plan(step, short.enough, 32, is_labelled=is_labelled).updates.values()) >= LEAST_UPDATES


@pytest.mark.parametrize("is_labelled", [True, False])
@pytest.mark.parametrize("step", [2.0, 5.0, 40.0])
def test_forecast_and_measured_speed_give_the_same_budget(step: float, is_labelled: bool) -> None:
    algorithms, evaluation = all_supervisors(), 8.0
    forecast = plan(step, 120.0, 32, is_labelled=is_labelled, evaluation=evaluation, references=1)
    unit, rows, used = step / 4, [], 0.0
    for name in ("untrained", *forecast.algorithms):
        row = Row(name, int(name != "untrained"), seconds=evaluation * unit)
        if row.stage:
            row.step_seconds, row.updates = unit * cost(algorithms[name]), 7
            row.seconds += (7 + TIMED_STEPS) * row.step_seconds
        used += row.seconds
        row.used = used
        rows.append(row)
    assert forecast.enough == enough_for(rows, algorithms, is_labelled=is_labelled)


def test_expected_updates_leave_time_for_the_evaluation() -> None:
    plain, evaluated = plan(0.05), plan(0.05, evaluation=40.0)
    assert all(evaluated.updates[name] < count for name, count in plain.updates.items())


def test_algorithms_that_stay_on_a_slow_machine_are_explained() -> None:
    found = plan(10.0)
    assert max(found.updates.values()) < LEAST_UPDATES
    assert "4 algorithms of two families are trained in any case" in found.notes[-1]
    assert all(name in found.notes[-1] for name in found.algorithms)
    assert not any("in any case" in note for note in plan(0.01).notes)


def test_first_choices_are_trained_first() -> None:
    algorithms = all_supervisors()
    names = plan(0.01).algorithms
    first = [name for name in names if algorithms[name].first_choice]
    assert list(names[: len(first)]) == first
    assert first


def test_forecast_names_stages_and_durations() -> None:
    text = plan(0.01).forecast(1800)
    assert "within 30 min" in text
    assert "4 finalists, 1 seed" in text
