"""``Supervisor(folder).supervise()`` on photographs, with the default network and the default optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from super_selfish.models import CombinedNet
from super_selfish.supervisors import LabelSupervisor, Supervisor, all_supervisors
from super_selfish.utils import test


def check_training(
    supervisor: Supervisor, photographs: Path, features_in_new_process: Callable[..., Any], epochs: int
) -> None:
    """Train with defaults; the weights move, are stored, and give the same features in a new process."""
    before = {name: value.detach().clone() for name, value in supervisor.model.named_parameters()}
    supervisor.supervise(epochs=epochs)
    assert supervisor.train_state.step == epochs, "a step an epoch: the batch is as large as the data set"
    assert all(math.isfinite(entry["loss"]) for entry in supervisor.history)
    moved = [name for name, value in supervisor.model.named_parameters() if not torch.equal(before[name], value)]
    assert len(moved) > 0.5 * len(before)  # residual branches that start at zero follow in the second step
    assert all(value.isfinite().all() for value in supervisor.state_dict().values())
    assert {path.name for path in Path("store").iterdir()} >= {"base.safetensors", "base.json", "base.history.csv"}
    features, names = supervisor.extract(photographs)
    assert len(names) == len(features) == 8
    np.testing.assert_allclose(features_in_new_process(Path("store/base"), photographs), features, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_defaults(algorithm: str, photographs: Path, features_in_new_process: Callable[..., Any]) -> None:
    torch.set_num_threads(1)
    supervisor = all_supervisors()[algorithm](photographs)
    assert supervisor.preprocessing.resolution == (225, 225)
    check_training(supervisor, photographs, features_in_new_process, epochs=2)
    assert math.isfinite(supervisor.evaluate_pretext().value)


def test_default_network_on_small_images(
    algorithm: str, small_photographs: Path, features_in_new_process: Callable[..., Any]
) -> None:
    supervisor = all_supervisors()[algorithm](small_photographs, resolution=64)
    check_training(supervisor, small_photographs, features_in_new_process, epochs=1)


def check_release_of_2020(algorithm: str, photographs: Path, epochs: int, **images: Any) -> None:
    """Pretraining, a head on the frozen backbone, and its accuracy, as scripts for release 0.0.6 do it."""
    supervisor = all_supervisors()[algorithm](photographs, **images)
    supervisor.supervise(lr=1e-3, epochs=epochs, batch_size=8, name="store/base_" + algorithm, pretrained=False)
    combined = CombinedNet(supervisor.get_backbone(), nn.Linear(supervisor.feature_dim, 2))
    before = {name: value.clone() for name, value in combined.backbone.state_dict().items()}
    LabelSupervisor(combined, photographs).supervise(lr=1e-3, epochs=1, batch_size=8, name="store/head")
    assert all(torch.equal(before[name], value) for name, value in combined.backbone.state_dict().items())
    assert 0 <= float(test(combined, photographs)) <= 1


@pytest.mark.slow
def test_scripts_for_the_release_of_2020(algorithm: str, photographs: Path) -> None:
    check_release_of_2020(algorithm, photographs, epochs=1)


def test_scripts_for_the_release_of_2020_on_small_images(algorithm: str, small_photographs: Path) -> None:
    check_release_of_2020(algorithm, small_photographs, epochs=0, resolution=64, backbone="small_resnet")
