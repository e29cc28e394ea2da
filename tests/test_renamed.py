"""Renamed identifiers of 0.1.0 still work, in code and in files."""

from __future__ import annotations

import importlib
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import super_selfish
from super_selfish.data import MoCoTransform, PretextDataset
from super_selfish.engine.bank import BankSupervisor
from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.expected_loss import ExpectedLoss
from super_selfish.engine.core.identity import describe
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.loading.loader import TrainState
from super_selfish.pretext.views import CustomTransform
from super_selfish.renamed import STORED_NAMES, with_present_names
from super_selfish.seeding import KeyedGenerator
from super_selfish.supervisors import (
    ContextNetSupervisor,
    InstanceDiscriminationSupervisor,
    MomentumContrastSupervisor,
    RotateNetSupervisor,
)
from super_selfish.transforms.base import Transform

SMALL = {"backbone": "small_resnet", "resolution": 32}
RUN = {"epochs": 1, "batch_size": 4, "name": "store/run", "verbose": False, "checkpoint_every": 1}
MODULES = {
    "super_selfish.data": ("MoCoRecipe", "BYOLRecipe", "PIRLImageRecipe", "Recipe"),
    "super_selfish.transforms.moco": ("MoCoRecipe",),
    "super_selfish.transforms.crop_and_colour": ("CropColourRecipe",),
    "super_selfish.pretext.views": ("ForeignRecipe", "as_recipe"),
    "super_selfish.seeding": ("Stream", "stream_from_torch"),
    "super_selfish.loading.loader": ("Cursor",),
    "super_selfish.models": ("follow",),
    "super_selfish.transformer": ("stored", "rebuilt"),
}


def images() -> Any:
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("module", MODULES)
def test_old_names_of_modules_warn(module: str) -> None:
    for name in MODULES[module]:
        with pytest.warns(FutureWarning, match=name):
            found = getattr(importlib.import_module(module), name)
        assert found.__name__ != name
        assert found is getattr(importlib.import_module(module), found.__name__)
    with pytest.raises(AttributeError, match="unknown"):
        getattr(importlib.import_module(module), "unknown")  # noqa: B009


def test_pickles_of_renamed_classes_load() -> None:
    data = pickle.dumps(MoCoTransform(blur=0.0), protocol=2).replace(b"MoCoTransform", b"MoCoRecipe")
    with pytest.warns(FutureWarning, match="MoCoRecipe"):
        assert pickle.loads(data) == MoCoTransform(blur=0.0)


def test_old_names_of_attributes_warn() -> None:
    supervisor = RotateNetSupervisor(images(), **SMALL)
    seen = []

    class Watch(Callback):
        def on_step_end(self, run: Any) -> None:
            with pytest.warns(FutureWarning, match="train_state"):
                seen.append(run.cursor.step)

    supervisor.supervise(**RUN, callbacks=[Watch()])
    assert seen == [1, 2, 3]
    with pytest.warns(FutureWarning, match="train_state"):
        assert supervisor.cursor is supervisor.train_state
    with pytest.warns(FutureWarning, match="train_state"):
        supervisor.cursor = TrainState(epoch=3)
    assert supervisor._train_state.epoch == 3
    with pytest.warns(FutureWarning, match="train_state"), pytest.raises(ConfigurationError, match="_train_state"):
        supervisor.cursor = 0
    with pytest.warns(FutureWarning, match="input_size"):
        supervisor.seen_size = (20, 20)
    assert supervisor.input_size == (20, 20)


def test_hooks_can_be_overridden_by_old_names() -> None:
    with pytest.warns(FutureWarning, match="_expected_loss"):

        class Mine(RotateNetSupervisor):
            def _expectation(self) -> ExpectedLoss:
                return ExpectedLoss(chance=2 * super()._expectation().chance)

    supervisor, parent = Mine(images(), **SMALL), RotateNetSupervisor(images(), **SMALL)
    assert supervisor._expected_loss().chance == 2 * parent._expected_loss().chance

    with pytest.warns(FutureWarning, match="embeddings"):

        class Bank(InstanceDiscriminationSupervisor):
            def codes(self, data: Any) -> tuple[Tensor, ...]:
                return tuple(-code for code in super().codes(data))

    bank = Bank(images(), **SMALL)
    batch = (torch.rand(4, 3, 32, 32), torch.arange(4))
    assert torch.equal(bank.embeddings(batch)[0], -InstanceDiscriminationSupervisor.embeddings(bank, batch)[0])
    bank.supervise(**RUN)


def test_methods_can_be_called_by_old_names() -> None:
    gan = ContextNetSupervisor(images(), **SMALL)
    logits = torch.zeros(2, 1)
    assert torch.equal(gan.says(logits, 1.0), gan.adversarial_loss(logits, 1.0))
    assert gan.makers_turn is gan.is_generator_step is True
    assert len(gan.players()) == len(gan.parameters_by_loss()) == 2
    assert BankSupervisor.codes is BankSupervisor.embeddings


def test_old_name_of_runs_user_code() -> None:
    with pytest.warns(FutureWarning, match="runs_user_code"):

        class Mine(PretextDataset):
            foreign = True

            def sample(self, index: int, generator: KeyedGenerator) -> Any:
                return self.images.read(index), generator.integer(2)

    with pytest.warns(FutureWarning, match="runs_user_code"):

        class Darker(Transform):
            foreign = True

            def augment(self, image: Any, generator: KeyedGenerator) -> Any:
                return image // (1 + generator.integer(2))

    assert Mine(images()).runs_user_code
    assert Darker().runs_user_code
    assert CustomTransform(nn.Identity()).foreign
    assert not MoCoTransform().foreign


def test_descriptions_use_current_names() -> None:
    old = [{"own": "MoCoRecipe(blur=0.0, colours=ForeignRecipe(f))"}, None, "natural", {"own": "MyRecipe()"}]
    new = [{"own": "MoCoTransform(blur=0.0, colours=CustomTransform(f))"}, None, "natural", {"own": "MyRecipe()"}]
    assert with_present_names(old) == new == with_present_names(new)
    assert with_present_names(None) is None


def test_trainings_with_old_names_load_and_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    def old(value: Any) -> Any:
        text = json.dumps(describe(value))
        for name, present in STORED_NAMES.items():
            text = text.replace(present, name)
        return json.loads(text)

    views = (MoCoTransform(blur=0.0), CustomTransform(nn.Identity()))
    made = {"views": views, "K": 1, **SMALL}
    with monkeypatch.context() as patch:
        patch.setattr("super_selfish.engine.persistence.describe", old)
        MomentumContrastSupervisor(images(), **made).supervise(**RUN)
    stored = super_selfish.inspect("store/run")
    assert stored.is_valid
    loaded = super_selfish.load("store/run", views=views, dataset=images())
    assert loaded.train_state.step == 3
    for supervisor in (loaded, MomentumContrastSupervisor(images(), **made)):
        supervisor.supervise(**{**RUN, "epochs": 2}, resume=True)
        assert supervisor.train_state.step == 6
    other = MomentumContrastSupervisor(images(), **{**made, "views": (MoCoTransform(blur=0.1), views[1])})
    with pytest.raises(CheckpointMismatch, match="views"):
        other.supervise(**{**RUN, "epochs": 3}, resume=True)
