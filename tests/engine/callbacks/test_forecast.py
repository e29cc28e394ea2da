"""The forecast of duration and memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.engine.callbacks.forecast import STEPS, Conditions, Forecast, suggestion
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor

CONDITIONS = Conditions(
    device="cpu",
    files=False,
    cached=False,
    custom=False,
    num_workers=0,
    cores=8,
    threads=8,
    precision="32",
    side=225,
    splittable=True,
)
GB = 10**9


def run(steps: int, tmp_path: Any, **options: Any) -> RotateNetSupervisor:
    images = np.random.default_rng(0).integers(0, 256, (2 * steps, 32, 32, 3), np.uint8)
    supervisor = RotateNetSupervisor(images, backbone=SmallResNet(width=4))
    return supervisor.supervise(epochs=1, batch_size=2, name=tmp_path / "run", checkpoint_every=0, **options)


def test_forecast_after_20_steps(tmp_path: Any, capsys: Any) -> None:
    supervisor = run(STEPS + 10, tmp_path)
    forecast = supervisor.forecast
    assert isinstance(forecast, Forecast)
    assert forecast.seconds > 0
    assert forecast.images_per_second == pytest.approx(supervisor.history[0]["images_per_second"], rel=3)
    assert 50e6 < forecast.memory < 50e9
    assert 0 <= forecast.data_wait <= 1
    assert str(forecast) in capsys.readouterr().err


@pytest.mark.parametrize("steps", [2, 3, STEPS])
def test_short_runs_have_a_forecast_after_half_of_their_steps(steps: int, tmp_path: Any, capsys: Any) -> None:
    forecast = run(steps, tmp_path).forecast
    assert forecast is not None
    assert forecast.seconds > 0
    assert str(forecast) in capsys.readouterr().err


def test_no_forecast_for_a_single_step_and_no_output_without_verbose(tmp_path: Any, capsys: Any) -> None:
    assert run(1, tmp_path).forecast is None
    assert "Forecast" not in capsys.readouterr().err
    assert run(STEPS + 1, tmp_path, verbose=False).forecast is not None
    assert "Forecast" not in capsys.readouterr().err


def test_forecast_extrapolates_to_the_whole_run(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from super_selfish.engine.callbacks import forecast

    now = [0.0]
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: now[0])

    class Slow(RotateNetSupervisor):
        def _forward(self, data: Any) -> torch.Tensor:
            now[0] += 100.0 if self.train_state.step < 5 else 2.0
            return super()._forward(data)

    images = np.zeros((100, 32, 32, 3), np.uint8)
    supervisor = Slow(images, backbone=SmallResNet(width=4))
    supervisor.supervise(epochs=2, batch_size=2, name=tmp_path / "run", verbose=False)
    assert supervisor.forecast is not None
    assert supervisor.forecast.seconds == pytest.approx(5 * 100 + 95 * 2)
    assert supervisor.forecast.images_per_second == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "wait", "free", "word"),
    [
        ({}, 0.0, None, ""),
        ({"threads": 2}, 0.0, None, "2 of 8 cores"),
        ({"files": True}, 0.5, None, 'cache="resized"'),
        ({"files": True, "cached": True}, 0.5, None, "num_workers=8"),
        ({"custom": True}, 0.5, None, "code of your data set"),
        ({"num_workers": 2}, 0.5, None, "num_workers=8"),
        ({"device": "cuda", "num_workers": 8}, 0.5, None, 'precision="bf16"'),
        ({"device": "cuda"}, 0.0, None, 'precision="bf16"'),
        ({"device": "cuda", "precision": "bf16"}, 0.0, None, ""),
        ({}, 0.5, GB // 10, "accumulate=2"),
        ({"splittable": False}, 0.5, GB // 10, "batch_size"),
    ],
)
def test_suggestion(changes: dict[str, Any], wait: float, free: int | None, word: str) -> None:
    text = suggestion(60.0, wait, GB, free, dataclasses.replace(CONDITIONS, **changes))
    assert word in text
    assert bool(word) == bool(text)


def test_lower_resolution_is_suggested_for_long_cpu_runs() -> None:
    assert "resolution=112" in suggestion(1e6, 0.0, GB, None, CONDITIONS)
    assert suggestion(1e6, 0.0, GB, None, dataclasses.replace(CONDITIONS, side=64)) == ""
