"""Networks of a study: scores, fine-tuning, and one study from end to end with tiny networks."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import super_selfish
from super_selfish.comparison.images import Images
from super_selfish.errors import NonFiniteLoss
from super_selfish.studies.cohort import ALL, make_cohort
from super_selfish.studies.lab import Lab
from super_selfish.studies.plan import RATES, StudyPlan
from super_selfish.studies.records import PRETRAINED, PROBE, TUNED, UNTRAINED, StudyRow
from super_selfish.studies.tuning import FineTuning, OutOfTime
from super_selfish.supervisors import RotateNetSupervisor

COUNT = 80


def network() -> nn.Module:
    """A network whose updates take milliseconds."""
    layers = [nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 2, stride=2), nn.ReLU()]
    return nn.Sequential(*layers)


def images() -> tuple[Any, Any]:
    """Images with a square whose brightness is the class."""
    generator = np.random.default_rng(0)
    labels = np.arange(COUNT) % 2
    pixels = generator.integers(0, 60, (COUNT, 32, 32, 3)).astype(np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        row, column = generator.integers(0, 16, 2)
        image[row : row + 12, column : column + 12] += np.uint8(60 + 100 * label)
    return pixels, labels


def lab() -> Lab:
    pixels, labels = images()
    data = Images(pixels.copy(), pixels[:0], pixels, labels, places=list(range(COUNT)))
    cohort = make_cohort(data, None, pretrain_on_test=False)
    return Lab(cohort, RotateNetSupervisor, network(), None, 8, torch.device("cpu"))


def plan(**changed: Any) -> StudyPlan:
    scoring = {UNTRAINED: 1.0, PRETRAINED: 1.0}
    given: dict[str, Any] = {"draws": 2, "tuned": (5, ALL), "tuned_draws": 2, "tuned_arms": (UNTRAINED,), "steps": 20}
    given |= {"side": 32, "counts": (1, 5, ALL), "seeds": 1, "pretraining": 1.0, "updates": 10, "scoring": scoring}
    return StudyPlan(**{**given, "scoring_again": scoring, **changed})


def test_a_network_gets_all_scores_of_the_plan() -> None:
    found = lab()
    row = found.run(UNTRAINED, 0, 0.0, plan(), {}, math.inf)
    assert [entry[:2] for entry in row.probe] == [[1, 0], [5, 0], [ALL, 0], [1, 1], [5, 1]]
    assert [entry[:2] for entry in row.tuned] == [[5, 0], [ALL, 0], [5, 1]]
    assert all(len(entry[2]) == len(found.cohort.test) for entry in [*row.probe, *row.tuned])
    assert set(row.rates) == {"5", str(ALL)}
    assert row.skipped == 0
    assert row.hits(PROBE, ALL)[0].mean() > 0.7


def test_later_draws_are_left_out_when_the_time_is_over() -> None:
    row = lab().run(UNTRAINED, 0, 0.0, plan(), {}, time.monotonic() - 1)
    assert [entry[:2] for entry in row.probe] == [[1, 0], [5, 0], [ALL, 0]]
    assert row.tuned == []
    assert row.skipped == 2 + 3


def test_pretraining_starts_from_random_weights_of_its_seed() -> None:
    found = lab()
    first, again, other = (found.scratch(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    row = found.run(PRETRAINED, 0, 3.0, plan(), {}, math.inf)
    assert row.updates > 0
    assert 0 < row.pretraining < 6


def test_failed_pretraining_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lab()
    row = found.run(PRETRAINED, 0, -1.0, plan(), {}, math.inf)
    assert row.problem is not None
    assert "too slow" in row.problem
    assert row.probe == []

    def fail(*_: object) -> None:
        raise NonFiniteLoss("The loss is NaN.")

    monkeypatch.setattr(found.trials, "train", fail)
    assert "NaN" in str(found.run(PRETRAINED, 0, 1.0, plan(), {}, math.inf).problem)


def test_fine_tuning_learns_and_leaves_the_network_as_it_is() -> None:
    found = lab()
    net = found.network(UNTRAINED, 0)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    tuning, train, test = found.tuning, found.cohort.train, found.cohort.test
    model = tuning.train(net, train, 5e-3, 80, 0)
    assert tuning.hits(model, test).mean() > 0.8
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    again = tuning.train(net, train, 5e-3, 80, 0)
    assert torch.equal(model.predictor.weight, again.predictor.weight)


def test_the_learning_rate_is_chosen_on_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lab()
    seen: list[set[int]] = []
    inputs = FineTuning.inputs

    def record(self: FineTuning, net: nn.Module, batch: Any) -> torch.Tensor:
        seen.append(set(batch.tolist()))
        return inputs(self, net, batch)

    monkeypatch.setattr(FineTuning, "inputs", record)
    chosen = found.cohort.drawn(20, 0)
    rate = found.tuning.best_rate(found.network(UNTRAINED, 0), chosen, 10, 0)
    assert rate in RATES
    assert set.union(*seen) - {0} <= set(chosen.tolist())  # image 0 shows the width of the features
    assert found.tuning.best_rate(found.network(UNTRAINED, 0), found.cohort.drawn(1, 0), 10, 0) == RATES[1]


def test_fine_tuning_ends_with_the_time() -> None:
    found = lab()
    with pytest.raises(OutOfTime):
        found.tuning.train(found.network(UNTRAINED, 0), found.cohort.train, 1e-3, 5, 0, time.monotonic() - 1)


def test_measured_costs_grow_with_the_labels() -> None:
    found = lab()
    costs = found.costs([1, 5, ALL], 0.1, -1.0)
    assert list(costs.probe) == [1, 5, ALL]
    assert costs.probe[ALL] / costs.probe[1] == pytest.approx(28)  # beyond the limit, by the number of images
    assert costs.step > 0


def test_hits_survive_the_file() -> None:
    row = StudyRow(UNTRAINED, 0)
    row.add(TUNED, 5, 1, np.array([True, False, True]))
    again = StudyRow(**vars(row))
    assert again.hits(TUNED, 5)[1].tolist() == [True, False, True]
    assert again.hits(TUNED, 20) == {}


@pytest.mark.filterwarnings("ignore")
def test_a_study_from_end_to_end() -> None:
    begin = time.monotonic()
    pixels, labels = images()
    found = super_selfish.study(pixels, (pixels, labels), 25, backbone=network(), device="cpu", verbose=False)
    assert time.monotonic() - begin < 60
    if found.is_too_short:  # on a slow machine
        assert found.outcome in ("helped", "too short to judge")
    else:
        assert found.outcome in ("helped", "no difference shown", "harmed")
    assert {row.arm for row in found.rows} == {UNTRAINED, PRETRAINED}
    assert all(row.updates > 0 for row in found.rows if row.arm == PRETRAINED)
    assert found.left_out["test images or exact copies"] == found.test == 24
