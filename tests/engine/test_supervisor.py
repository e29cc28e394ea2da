"""The base class with a user's own exercise: a data set of tensors, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from super_selfish.engine.optim.recipes import Recipe
from super_selfish.errors import ConfigurationError, NonFiniteLoss
from super_selfish.models import CombinedNet, SmallResNet
from super_selfish.supervisors import RotateNetSupervisor, Supervisor
from super_selfish.training import Callback

QUIET = {"verbose": False, "batch_size": 4, "epochs": 2}


def net() -> CombinedNet:
    return CombinedNet(SmallResNet(width=4), nn.Linear(32, 2))


def test_a_data_set_of_tensors() -> None:
    torch.manual_seed(0)
    data = TensorDataset(torch.rand(8, 3, 20, 24), torch.arange(8) % 2)
    first, second = Supervisor(net(), data), Supervisor(net())
    seen: list[torch.Tensor] = []
    first.model.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    assert first.supervise(**QUIET).train_state.step == 4
    assert {tuple(batch.shape) for batch in seen} == {(4, 3, 20, 24)}
    assert first.feature_dim == 32
    second.load("store/base")
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_a_callback_that_could_not_begin_has_no_end() -> None:
    class Told(Callback):
        def __init__(self, fails: bool = False) -> None:
            self.fails, self.ends = fails, 0

        def on_train_begin(self, run: Any) -> None:
            if self.fails:
                raise RuntimeError("no connection")

        def on_train_end(self, run: Any) -> None:
            self.ends += 1

    data = TensorDataset(torch.rand(8, 3, 16, 16), torch.arange(8) % 2)
    before, broken, after = Told(), Told(fails=True), Told()
    with pytest.raises(RuntimeError, match="no connection"):
        Supervisor(net(), data).supervise(callbacks=[before, broken, after], **QUIET)
    assert [told.ends for told in (before, broken, after)] == [1, 0, 0]


def test_an_algorithm_of_ones_own_brings_its_recipes() -> None:
    class Own(Supervisor):
        recipes = {  # noqa: RUF012
            "auto": Recipe(torch.optim.RMSprop, 0.01),
            "paper": Recipe(torch.optim.SGD, 0.1, images=8),
        }

    data = TensorDataset(torch.rand(8, 3, 16, 16), torch.arange(8) % 2)
    made = {}
    for recipe in ("auto", "paper", "adapt"):
        settings = Own(net(), data).supervise(recipe=recipe, **QUIET).settings
        assert settings is not None
        made[recipe] = (settings.optimizer, settings.lr)
    assert made == {
        "auto": (torch.optim.RMSprop, 0.01),
        "paper": (torch.optim.SGD, 0.05),
        "adapt": (torch.optim.RMSprop, 0.002),
    }


def test_uint8_tensors_are_scaled() -> None:
    data = TensorDataset(torch.full((8, 3, 16, 16), 51, dtype=torch.uint8), torch.arange(8) % 2)
    supervisor = Supervisor(net(), data)
    seen: list[torch.Tensor] = []
    supervisor.model.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    supervisor.supervise(**QUIET)
    assert torch.allclose(seen[0], torch.tensor(0.2))


def test_items_of_any_structure_and_ones_own_collation() -> None:
    class Dicts(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"image": torch.rand(3, 16, 16), "label": index % 2}

    class Own(Supervisor):
        def _forward(self, data: Any) -> torch.Tensor:
            return self.loss(self.model(data["image"]), data["label"])

    assert Own(net(), Dicts()).supervise(**QUIET).train_state.step == 4

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "image": torch.stack([item["image"] for item in items]),
            "label": torch.tensor([item["label"] for item in items]),
        }

    assert Own(net(), Dicts(), collate_fn=collate).supervise(**QUIET).train_state.step == 4


def test_pictures_alone() -> None:
    class Pictures(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Image.Image:
            return Image.new("RGB", (24, 16), (51, 102, index))

    class Own(Supervisor):
        def _forward(self, data: Any) -> torch.Tensor:
            assert data.shape == (4, 3, 16, 24)
            assert torch.allclose(data[:, 0], torch.tensor(0.2))
            return self.model(data).square().mean()

    assert Own(net(), Pictures()).supervise(**QUIET).train_state.step == 4


def test_streams_are_refused_with_advice() -> None:
    class Endless(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(ConfigurationError, match="readable by index"):
        RotateNetSupervisor(Endless())
    with pytest.raises(ConfigurationError, match=r"readable by index.*Received: Endless"):
        Supervisor(net(), Endless()).supervise(**QUIET)


def test_a_loss_that_is_not_a_number_stops_although_its_gradient_is_finite() -> None:
    images = np.zeros((8, 32, 32, 3), np.uint8)
    supervisor = RotateNetSupervisor(
        images,
        backbone="small_resnet",
        loss=lambda logits, target: nn.functional.cross_entropy(logits, target) + float("nan"),
    )
    with pytest.raises(NonFiniteLoss, match="The loss or its gradients are not finite in epoch 1, batch 1, step 1"):
        supervisor.supervise(epochs=1, batch_size=8, verbose=False, name="store/test")
    assert not Path("store/test.safetensors").exists()
