"""Optimizers, schedules and precisions by name, in Python as on the command line."""

from __future__ import annotations

import typing
from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.engine.optim import names
from super_selfish.errors import ConfigurationError
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


class Seen(Callback):
    def on_step_end(self, run: Any) -> None:
        self.optimizer, self.precision = run.optimizer, run.precision.dtype
        self.rates = [*getattr(self, "rates", []), run.optimizer.param_groups[0]["lr"]]


def train(**settings: Any) -> Seen:
    seen = Seen()
    supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4))
    supervisor.supervise(**{"epochs": 2, "batch_size": 4, "verbose": False, "callbacks": [seen]} | settings)
    return seen


@pytest.mark.parametrize("name", typing.get_args(names.OptimizerName))
def test_optimizers(name: str) -> None:
    assert type(train(optimizer=name).optimizer) is names.OPTIMIZERS[name]


def test_names_mean_what_they_mean_on_the_command_line() -> None:
    for kind, known in (
        (names.OptimizerName, names.OPTIMIZERS),
        (names.ScheduleName, names.SCHEDULES),
        (names.PrecisionName, names.PRECISIONS),
    ):
        assert set(typing.get_args(kind)) == set(known)
    rates = train(lr_scheduler="cosine", epochs=3).rates
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 10 * rates[-1]
    assert len(set(train(lr_scheduler="constant").rates)) == 1


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", None)])
def test_precisions(name: str, dtype: torch.dtype | None) -> None:
    assert train(precision=name).precision is dtype


@pytest.mark.slow
def test_another_name_of_the_same_precision_resumes() -> None:
    train(precision="fp16", epochs=1)
    train(precision="16", epochs=2, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamm"}, "Did you mean 'adam'?"),
        ({"optimizer": "madgrad"}, "'adam', 'adamw', 'sgd', 'lars', or a class such as torch.optim.Adam"),
        ({"optimizer": 3}, "optimizer=3"),
        ({"lr_scheduler": "cosin"}, "Did you mean 'cosine'?"),
        ({"precision": "float16"}, "Did you mean"),
        ({"precision": []}, "`precision` is unknown"),
    ],
)
def test_other_names_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        train(**settings)
    assert message in str(caught.value)
