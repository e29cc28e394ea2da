"""What was written for the release of 2020 works, or is answered in a sentence that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import super_selfish
from super_selfish.data import jigsaw
from super_selfish.errors import CheckpointError, ConfigurationError
from super_selfish.losses import CPCLoss
from super_selfish.memory import BatchedMemory
from super_selfish.models import Classification, CombinedNet


def test_the_network_behind_the_network(make: Callable[..., Any]) -> None:
    supervisor = make(None)
    assert supervisor.model.module is supervisor.model.model is supervisor.model
    assert supervisor.model.module.backbone is supervisor.model.backbone


def test_a_subclass_may_have_a_module_of_its_own() -> None:
    class Own(CombinedNet):
        def __init__(self) -> None:
            super().__init__(nn.Identity(), nn.Identity())
            self.module = nn.Linear(2, 2)

    assert isinstance(Own().module, nn.Linear)
    with pytest.raises(AttributeError, match="absent"):
        Own().absent  # noqa: B018


def test_the_layers_of_a_head() -> None:
    head = Classification([8, 4, 2])
    assert head.model is head.layers
    assert "model.0.weight" not in head.state_dict()


@pytest.mark.parametrize("but", [[0], 0, torch.tensor([0]), np.array([0]), [0, 0, 0], torch.tensor([0, 0, 0])])
def test_rows_but_one(but: Any) -> None:
    bank = BatchedMemory(4, 8)
    rows = bank.data(50, 3, but_idx=but)
    assert rows.shape == (3, 50, 8)
    assert not (rows == bank.memory[0]).all(-1).any()


@pytest.mark.parametrize("but", [[0, 1], [4], [-1], [0.5]])
def test_rows_that_are_not_there(but: Any) -> None:
    with pytest.raises(ConfigurationError, match="but_idx"):
        BatchedMemory(4, 8).data(5, 3, but_idx=but)


def test_predictions_of_all_steps_in_the_channels() -> None:
    made, targets = torch.randn(2, 3, 16, 5, 4), torch.randn(2, 16, 5, 4)
    loss = CPCLoss(k=3, ignore=1)
    assert torch.equal(loss(made.flatten(1, 2), targets), loss(made[:, 1:], targets))
    for wrong in (torch.randn(2, 32, 5, 4), torch.randn(2, 2, 15, 5, 4), torch.randn(2, 48)):
        with pytest.raises(ConfigurationError, match="targets"):
            loss(wrong, targets)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_a_puzzle_of_a_pil_image(mode: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).convert(mode)
    puzzle = jigsaw(image, range(9), 20, None)
    assert puzzle.shape[1:] == (90, 90)
    assert torch.isfinite(puzzle).all()


@pytest.mark.parametrize("content", ["state", "parallel", "network", "list"])
def test_files_of_2020_are_refused(content: str, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(8))
    state = {f"model.net.{key}": value for key, value in nn.Linear(3, 2).state_dict().items()}
    parallel = {f"module.{key}": value for key, value in state.items()}
    Path("store").mkdir()
    torch.save(
        {"state": state, "parallel": parallel, "network": nn.Linear(3, 2), "list": [1]}[content], "store/base.pt"
    )
    for read in (
        lambda: supervisor.load("store/base"),
        lambda: supervisor.supervise(name="store/base", pretrained=True, verbose=False),
        lambda: super_selfish.load("store/base"),
        lambda: supervisor.model.load("store/base"),
    ):
        with pytest.raises(CheckpointError, match="Train again"):
            read()
