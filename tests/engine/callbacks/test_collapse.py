"""Embeddings that are all alike are noticed, and healthy trainings are not accused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from super_selfish.engine.callbacks.collapse import has_collapsed, spread
from super_selfish.engine.core.expectations import Signs
from super_selfish.models import SequentialUpTo, SmallResNet
from super_selfish.supervisors import BYOLSupervisor, MomentumContrastSupervisor, all_supervisors

WORDS = "The embeddings have collapsed"
SMALL: dict[str, dict[str, Any]] = {
    "exemplar_net": {"n_classes": 64, "n_trans": 1},
    "contrastive_predictive_coding": {"patch_size": 8},
}


def images(count: int = 64) -> np.ndarray:
    generator = np.random.default_rng(0)
    tints = generator.integers(0, 256, (count, 1, 1, 3))
    return np.clip(tints + generator.normal(0, 30, (count, 32, 32, 3)), 0, 255).astype(np.uint8)


def run(supervisor: Any, tmp_path: Any, **settings: Any) -> Any:
    settings = {"epochs": 2, "batch_size": 16, "name": tmp_path / "run", "checkpoint_every": 0} | settings
    return supervisor.supervise(verbose=False, **settings)


def test_spread_is_one_minus_the_mean_cosine() -> None:
    rows = torch.nn.functional.normalize(torch.randn(50, 8), dim=1)
    assert spread(7 * rows) == pytest.approx(1 - (rows @ rows.T).mean().item(), abs=1e-6)
    assert spread(torch.ones(5, 8)) == pytest.approx(0, abs=1e-12)


def test_byol_without_a_predictor_is_called_by_name(tmp_path: Any, caplog: Any) -> None:
    projector = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
    supervisor = BYOLSupervisor(
        images(), backbone=SmallResNet(width=4), embedding_size=32, predictor=SequentialUpTo(projector, nn.Identity())
    )
    run(supervisor, tmp_path)
    assert caplog.text.count(WORDS) == 1
    assert "Likely cause: the predictor has no weights" in caplog.text
    assert supervisor.history[0]["spread"] < 0.2


def test_moco_with_a_temperature_of_ten_is_called_by_name(tmp_path: Any, caplog: Any) -> None:
    run(MomentumContrastSupervisor(images(), backbone=SmallResNet(width=4), t=10.0), tmp_path)
    assert caplog.text.count(WORDS) == 1
    assert "Likely cause: t=10" in caplog.text
    assert "The paper uses t=0.2" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("byol", "momentum_contrast", "pirl") else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(all_supervisors())
    ],
)
def test_a_healthy_training_is_not_accused(name: str, tmp_path: Any, caplog: Any) -> None:
    torch.manual_seed(0)
    supervisor = all_supervisors()[name](images(), backbone=SmallResNet(width=4), **SMALL.get(name, {}))
    run(supervisor, tmp_path)
    assert WORDS not in caplog.text


def test_the_history_tells_the_spread_where_embeddings_are_compared(tmp_path: Any) -> None:
    moco = run(MomentumContrastSupervisor(images(), backbone=SmallResNet(width=4)), tmp_path)
    assert all(0 <= entry["spread"] <= 1 for entry in moco.history)
    rotations = run(all_supervisors()["rotate_net"](images(), backbone=SmallResNet(width=4)), tmp_path)
    assert "spread" not in rotations.history[0]


def test_a_loss_of_ones_own_is_not_judged(tmp_path: Any, caplog: Any) -> None:
    supervisor = MomentumContrastSupervisor(
        images(),
        backbone=SmallResNet(width=4),
        t=10.0,
        loss=lambda logits, target: nn.functional.nll_loss(logits, target),
    )
    run(supervisor, tmp_path)
    assert WORDS not in caplog.text


def test_other_heads_without_a_cause_are_judged_by_what_they_give(tmp_path: Any, caplog: Any) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.randn(32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bias + 1e-3 * x[:, :1]

    heads = SequentialUpTo(nn.Sequential(nn.Linear(32, 32), Constant()), nn.Sequential(nn.Linear(32, 32)))
    supervisor = BYOLSupervisor(images(), backbone=SmallResNet(width=4), embedding_size=32, predictor=heads)
    run(supervisor, tmp_path, lr=1e-6, epochs=14)
    assert caplog.text.count(WORDS) == 1
    assert "after epoch 13" in caplog.text  # 50 steps
    assert "Likely cause: a learning rate" in caplog.text


CONTRASTIVE = Signs("", None, 6.2)


@pytest.mark.parametrize(
    ("spreads", "losses", "expected"),
    [
        ([0.0057, 0.0022, 0.0015, 0.002, 0.0037, 0.0065], [12.8, 15.4, 9.9, 7.05, 6.38, 6.24], False),  # measured
        ([0.009, 0.005, 0.003, 0.002, 0.001], [6.3, 6.25, 6.21, 6.21, 6.21], True),
        ([0.009, 0.005, 0.003, 0.002], [6.3, 6.25, 6.21, 6.21], False),  # too early
        ([0.009, 0.005, 0.003, 0.002, 0.001], [6.3, 6.25, 6.0, 5.8, 5.6], False),  # it tells them apart
        ([0.2, 0.2, 0.2, 0.2, 0.2], [6.2] * 5, False),
    ],
)
def test_the_verdict_on_a_contrastive_training(spreads: list[float], losses: list[float], expected: bool) -> None:
    assert has_collapsed(CONTRASTIVE, spreads, losses, 1000) is expected
    assert not has_collapsed(CONTRASTIVE, spreads, losses, 10)


def test_the_verdict_without_negatives() -> None:
    assert has_collapsed(Signs(""), [0.005], [0.1], 100)
    assert not has_collapsed(Signs(""), [0.005], [0.1], 10)
    assert not has_collapsed(Signs(""), [0.08], [0.1], 100)
    assert has_collapsed(Signs("", "known"), [0.08], [0.1], 10)
    assert not has_collapsed(Signs("", "known"), [0.5], [0.1], 10)
