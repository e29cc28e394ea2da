"""The plan fills the budget, and says what it leaves out."""

from __future__ import annotations

from typing import Any

import pytest

from super_selfish.errors import ConfigurationError
from super_selfish.studies.plan import Costs, StudyPlan, make_plan, networks
from super_selfish.studies.records import ADAPTED, ARMS, PRETRAINED, TRAINED, UNTRAINED

COUNTS = [1, 5, 20, 100, 0]


def costs(**changed: Any) -> Costs:
    probe = {1: 0.02, 5: 0.02, 20: 0.05, 100: 0.2, 0: 1.0}
    return Costs(**{"update": 0.1, "extract": 1.0, "probe": probe, "step": 0.05, **changed})


def planned_seconds(plan: StudyPlan, arms: tuple[str, ...]) -> float:
    again = sum(plan.scoring_again[arm] for arm in arms if arm in (*TRAINED, UNTRAINED))
    pretraining = plan.seeds * sum(arm in TRAINED for arm in arms) * plan.pretraining
    return pretraining + sum(plan.scoring.values()) + (plan.seeds - 1) * again


@pytest.mark.parametrize("arms", [(UNTRAINED, PRETRAINED), ARMS])
@pytest.mark.parametrize("left", [60.0, 300.0, 1800.0, 7200.0])
@pytest.mark.parametrize("speed", [0.1, 1.0, 5.0])
def test_the_plan_fills_the_budget_on_any_machine(arms: tuple[str, ...], left: float, speed: float) -> None:
    slow = {count: each * speed for count, each in costs().probe.items()}
    measured = costs(update=0.1 * speed, extract=speed, probe=slow, step=0.05 * speed)
    plan = make_plan(measured, left, 64, arms, COUNTS)
    assert planned_seconds(plan, arms) == pytest.approx(left)
    assert plan.pretraining > 0
    assert plan.updates == int(plan.pretraining / measured.update)


def test_a_large_budget_has_everything() -> None:
    plan = make_plan(costs(), 2 * 3600, 64, ARMS, COUNTS)
    assert (plan.seeds, plan.draws, plan.tuned, plan.tuned_draws) == (2, 5, (20, 0), 2)
    assert plan.tuned_arms == ARMS
    assert plan.notes == ()
    assert networks(ARMS, 2) == 7


def test_what_does_not_fit_is_left_out_and_said() -> None:
    plan = make_plan(costs(), 100, 64, (UNTRAINED, PRETRAINED), COUNTS)
    assert plan.seeds == 2
    assert plan.tuned == (0,)
    assert any("training from scratch with all labels" in note for note in plan.notes)
    shorter = make_plan(costs(), 30, 64, (UNTRAINED, PRETRAINED, ADAPTED), COUNTS)
    assert shorter.seeds == 1
    assert shorter.tuned == ()
    text = " ".join(shorter.notes)
    for part in ("One pretraining seed", "draw", "Fine-tuning"):
        assert part in text
    forecast = shorter.forecast(ARMS, "rotate_net", 30)
    assert "30 s" in forecast
    assert "too few to judge it" in forecast


def test_a_budget_without_time_for_pretraining_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="too short"):
        make_plan(costs(extract=20.0), 30, 64, (UNTRAINED, PRETRAINED), COUNTS)
