"""An argument that is passed is used, also if its value is the default."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from super_selfish.supervisors import RotateNetSupervisor, Supervisor

DEFAULTS = {name: each.default for name, each in inspect.signature(Supervisor.supervise).parameters.items()}
DEFAULTS["lr"] = 1e-3  # of networks with batch norm
RUN = {"epochs": 1, "batch_size": 4, "verbose": False, "name": "store/test", "watch": 0, "checkpoint_every": 0}


@pytest.fixture
def images() -> Any:
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("recipe", ["auto", "paper", "adapt"])
def test_arguments_win_over_a_recipe_also_with_their_defaults(images: Any, recipe: str) -> None:
    names = ("lr", "optimizer", "lr_scheduler", "clip_grad", "polyak")
    supervisor = RotateNetSupervisor(images, backbone="small_resnet").supervise(**RUN)
    chosen = {"recipe": recipe, **{name: DEFAULTS[name] for name in names}}
    settings = supervisor.supervise(**RUN, **chosen).settings
    assert {name: getattr(settings, name) for name in names} == {name: DEFAULTS[name] for name in names}
    replaced = supervisor.supervise(**RUN, recipe=recipe, lr=None).settings
    assert replaced.lr != DEFAULTS["lr"]
    assert replaced.lr_scheduler is not DEFAULTS["lr_scheduler"]


def test_normalize_none_replaces_the_normalisation_of_the_weights(images: Any) -> None:
    RotateNetSupervisor(images, backbone="small_resnet", normalize="dataset").supervise(**RUN)
    kept = RotateNetSupervisor(images, backbone="small_resnet", weights="store/test")
    replaced = RotateNetSupervisor(images, backbone="small_resnet", weights="store/test", normalize=None)
    assert kept.preprocessing.mean is not None
    assert replaced.preprocessing.mean is None
