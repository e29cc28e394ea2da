"""Recipes, averages of weights, and weights to start from."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import super_selfish
from super_selfish.engine import tuning
from super_selfish.engine.optim.lars import LARS
from super_selfish.engine.optim.recipes import Recipe
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.engine.tuning import chosen_lr
from super_selfish.errors import CheckpointError, CheckpointMismatch, ConfigurationError
from super_selfish.models import CombinedNet, SmallResNet
from super_selfish.supervisors import (
    BiGanSupervisor,
    BYOLSupervisor,
    ContextNetSupervisor,
    ContrastiveMultiviewCodingSupervisor,
    RotateNetSupervisor,
    SplitBrainNetSupervisor,
    Supervisor,
    all_supervisors,
)
from super_selfish.training import Callback

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
QUIET: dict[str, Any] = {"batch_size": 4, "verbose": False}


class Watch(Callback):
    """Keeps what the optimizer was, and every step's rates and first weights."""

    def __init__(self) -> None:
        self.optimizer: Any = None
        self.rates: list[list[float]] = []
        self.weights: list[torch.Tensor] = []

    def on_train_begin(self, run: Any) -> None:
        self.optimizer = run.optimizer
        self.weights.append(next(run.supervisor.model.parameters()).detach().clone())

    def on_step_end(self, run: Any) -> None:
        self.rates.append([group["lr"] for group in run.optimizer.param_groups])
        self.weights.append(next(run.supervisor.model.parameters()).detach().clone())


def small() -> SmallResNet:
    return SmallResNet(width=4)


def rotate(**arguments: Any) -> RotateNetSupervisor:
    return RotateNetSupervisor(IMAGES, backbone=small(), predictor=nn.Linear(32, 4), **arguments)


def test_every_algorithm_has_a_recipe_of_its_paper() -> None:
    recipes = [cls.training_recipe(name) for cls in all_supervisors().values() for name in ("paper", "auto", "adapt")]
    assert {type(recipe) for recipe in recipes} == {Recipe}


def test_auto_fits_batch_and_length_and_is_stored() -> None:
    watch = Watch()
    supervisor = rotate().supervise(recipe="auto", epochs=5, callbacks=[watch], **QUIET)
    settings = supervisor.settings
    assert settings is not None
    assert isinstance(watch.optimizer, torch.optim.AdamW)
    assert settings.lr == pytest.approx(2e-3 * (4 / 64) ** 0.5)
    schedule = settings.lr_scheduler
    assert isinstance(schedule, Schedule)
    assert (schedule.total, schedule.warm_up_steps) == (15, 3)
    assert watch.rates[2][0] == pytest.approx(settings.lr)
    assert watch.rates[-1][0] == pytest.approx(0)
    stored = json.loads(Path("store/base.json").read_text())["training"]["settings"]
    assert (stored["recipe"], stored["lr"], stored["optimizer"][:6]) == ("auto", settings.lr, "AdamW(")


def test_the_rate_is_that_of_batches_that_there_are_images_for() -> None:
    settings = rotate().supervise(recipe="auto", epochs=1, batch_size=1024, verbose=False).settings
    assert settings is not None
    assert settings.lr == pytest.approx(2e-3 * (12 / 64) ** 0.5, rel=1e-5)
    for wrong in (0, -4, "8"):
        with pytest.raises(ConfigurationError, match="`batch_size` is out of range"):
            rotate().supervise(recipe="auto", batch_size=wrong)


def test_byol_is_trained_as_long_as_its_authors_did() -> None:
    found = {
        epochs: all_supervisors()["byol"].training_recipe("paper", epochs) for epochs in (1, 40, 120, 400, 1000, 5000)
    }
    assert {epochs: recipe and recipe.lr for epochs, recipe in found.items()} == {
        1: 0.45, 40: 0.45, 120: 0.45, 400: 0.3, 1000: 0.2, 5000: 0.2
    }  # fmt: skip
    for epochs in (40, 300, 1000):
        recipe = found.get(epochs) or all_supervisors()["byol"].training_recipe("paper", epochs)
        assert recipe is not None
        assert replace(recipe.schedule, total=7 * epochs, batches=7).warm_up_steps == 70


def test_what_was_given_stays() -> None:
    own = torch.optim.SGD
    settings = rotate().supervise(recipe="paper", optimizer=own, epochs=1, clip_grad=3.0, **QUIET).settings
    assert settings is not None
    assert (settings.optimizer, settings.lr, settings.clip_grad) == (own, 1e-3, 3.0)
    assert isinstance(settings.lr_scheduler, Schedule)
    settings = rotate().supervise(recipe="paper", lr=0.5, epochs=1, **QUIET).settings
    assert settings is not None
    assert settings.lr == 0.5


def test_norms_and_biases_do_not_decay() -> None:
    watch = Watch()
    supervisor = BYOLSupervisor(IMAGES, backbone=small(), embedding_size=8, hidden_size=8, m=0.5)
    supervisor.supervise(recipe="paper", epochs=1, callbacks=[watch], **QUIET)
    assert isinstance(watch.optimizer, LARS)
    groups = watch.optimizer.param_groups
    assert [(group["weight_decay"], group["adapt"]) for group in groups] == [(1e-6, True), (0.0, False)]
    assert [{weight.ndim > 1 for weight in group["params"]} for group in groups] == [{True}, {False}]
    count = sum(len(group["params"]) for group in groups)
    assert count == len(supervisor.trainable_parameters())


def test_the_discriminator_of_a_paper_is_slower() -> None:
    watch = Watch()
    supervisor = ContextNetSupervisor(IMAGES, backbone=small(), adversarial=True)
    supervisor.supervise(recipe="paper", epochs=1, callbacks=[watch], **QUIET)
    assert {group["lr"] for group in watch.optimizer.param_groups} == {2e-3, 2e-4}


@pytest.mark.parametrize(("d_lr", "rate"), [(None, 2e-4), (3e-4, 3e-4)])
def test_the_discriminator_of_bi_gan_is_slower_by_recipe_auto(d_lr: float | None, rate: float) -> None:
    watch = Watch()
    supervisor = BiGanSupervisor(IMAGES, backbone=small(), d_lr=d_lr)
    supervisor.supervise(recipe="auto", lr=1e-3, epochs=1, callbacks=[watch], **QUIET)
    assert {group["initial_lr"] for group in watch.optimizer.param_groups} == {1e-3, rate}


def test_adapt_holds_the_backbone_still_at_first() -> None:
    watch = Watch()
    rotate(weights=small()).supervise(recipe="adapt", epochs=4, callbacks=[watch], **QUIET)
    same = [torch.equal(watch.weights[0], weight) for weight in watch.weights[1:]]
    assert same == [True] + [False] * 11  # a tenth of twelve updates
    with pytest.raises(ConfigurationError, match="Pass `weights`"):
        rotate().supervise(recipe="adapt", **QUIET)


def test_adapting_warms_the_backbone_up_once_it_moves() -> None:
    watch = Watch()
    rotate(weights=small()).supervise(recipe="adapt", epochs=20, callbacks=[watch], **QUIET)
    frozen = [rates[-1] for rates in watch.rates]
    held = sum(rate == 0 for rate in frozen[:30])
    assert held == 5  # of 60 updates a tenth; rates are those of the next update
    assert 0 < frozen[5] < frozen[6] < frozen[8] < max(rates[0] for rates in watch.rates)


def test_adapting_goes_on_without_weights() -> None:
    settings = {"recipe": "adapt", "epochs": 4, **QUIET}
    rotate(weights=small()).supervise(**settings)
    again = rotate().supervise(resume=True, **settings | {"epochs": 5})
    assert again.train_state.epoch == 5


def test_other_images_go_on_at_the_same_part_of_the_schedule() -> None:
    class Stop(Callback):
        def on_epoch_end(self, run: Any) -> None:
            if run.train_state.epoch == 5:
                raise KeyboardInterrupt

    settings = {"recipe": "auto", "epochs": 10, **QUIET}
    second, whole = Watch(), Watch()

    def byol(images: np.ndarray) -> BYOLSupervisor:
        return BYOLSupervisor(images, backbone=small(), embedding_size=8, hidden_size=8)

    with pytest.raises(KeyboardInterrupt):
        byol(np.tile(IMAGES, (3, 1, 1, 1))).supervise(callbacks=[Stop()], **settings)
    fewer = byol(IMAGES).supervise(callbacks=[second], resume=True, allow_dataset_change=True, **settings)
    straight = byol(IMAGES).supervise(callbacks=[whole], name="store/whole", **settings)
    assert len(second.rates) == 15
    assert second.rates == whole.rates[15:]
    assert fewer.momentum.step == straight.momentum.step == 30


def test_recipes_that_do_not_exist() -> None:
    with pytest.raises(ConfigurationError, match="'auto' or 'paper' or 'adapt'"):
        rotate().supervise(recipe="best", **QUIET)
    data = TensorDataset(torch.rand(8, 3, 16, 16), torch.arange(8) % 2)
    own = Supervisor(CombinedNet(small(), nn.Linear(32, 2)), data)
    with pytest.raises(ConfigurationError, match="No recipe of a paper"):
        own.supervise(recipe="paper", **QUIET)
    own.supervise(recipe="auto", epochs=1, **QUIET)


def test_a_target_that_is_too_slow_is_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_logged_hints", set())
    supervisor = BYOLSupervisor(IMAGES, backbone=small(), embedding_size=8, hidden_size=8)
    with caplog.at_level(logging.WARNING):
        supervisor.supervise(recipe="auto", epochs=1, **QUIET)
    assert "m=0.996" in caplog.text
    assert "m=0.9 " in caplog.text
    caplog.clear()
    fast = BYOLSupervisor(IMAGES, backbone=small(), embedding_size=8, hidden_size=8, m=0.9)
    fast.supervise(recipe="auto", epochs=1, **QUIET)
    assert "lags" not in caplog.text  # nothing better is known


def test_what_the_defaults_lose_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RotateNetSupervisor, "auto_gain", 4.2)
    monkeypatch.setattr(tuning, "_logged_hints", set())
    for _ in range(2):
        rotate().supervise(epochs=1, batch_size=4)
    rotate().supervise(epochs=1, batch_size=4, recipe="auto")
    told = capsys.readouterr().err
    assert told.count("by 4.2") == 1
    assert told.count('recipe="auto": AdamW') == 1


def test_the_average_follows_each_update() -> None:
    class Average(Watch):
        def on_step_end(self, run: Any) -> None:
            super().on_step_end(run)
            decay = min(0.5, (1 + run.train_state.step) / (10 + run.train_state.step))
            self.weights[0] = decay * self.weights[0] + (1 - decay) * self.weights[-1]

    watch = Average()
    supervisor = rotate()
    with pytest.raises(ConfigurationError, match="polyak"):
        supervisor.get_backbone(averaged=True)
    supervisor.supervise(polyak=0.5, epochs=3, callbacks=[watch], **QUIET)
    averaged, live = supervisor.get_backbone(averaged=True), supervisor.get_backbone()
    first = next(averaged.parameters())
    assert torch.allclose(first, watch.weights[0], atol=1e-6)
    assert not torch.equal(first, next(live.parameters()))
    assert all(torch.equal(*pair) for pair in zip(averaged.buffers(), live.buffers(), strict=True))


def test_the_average_is_stored_and_continues() -> None:
    class Stop(Callback):
        def on_epoch_end(self, run: Any) -> None:
            if run.finished_epochs == 2:
                raise KeyboardInterrupt

    torch.manual_seed(0)
    first, second = rotate(), rotate()
    second.load_state_dict(first.state_dict())
    first.supervise(polyak=0.9, recipe="auto", epochs=4, name="store/whole", **QUIET)
    with pytest.raises(KeyboardInterrupt):
        second.supervise(polyak=0.9, recipe="auto", epochs=4, name="store/cut", callbacks=[Stop()], **QUIET)
    third = rotate().supervise(polyak=0.9, recipe="auto", epochs=4, name="store/cut", resume=True, **QUIET)
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in third.state_dict().items())
    loaded = super_selfish.load("store/cut", backbone=small(), predictor=nn.Linear(32, 4))
    assert torch.equal(*(next(net.get_backbone(averaged=True).parameters()) for net in (third, loaded)))
    third.supervise(epochs=1, name="store/plain", **QUIET)
    assert third.average is None  # it would stay behind for ever


def test_weights_of_a_training() -> None:
    trained = rotate(normalize="dataset").supervise(epochs=1, name="store/first", **QUIET)
    begun = BYOLSupervisor(IMAGES, backbone=small(), embedding_size=8, weights="store/first")
    for left, right in zip(trained.get_backbone().parameters(), begun.get_backbone().parameters(), strict=True):
        assert torch.equal(left, right)
    assert torch.equal(next(begun.ema.parameters()), next(begun.model.parameters()))
    assert begun.preprocessing.mean == trained.preprocessing.mean
    assert "weights" not in begun.hyperparameters()
    halves = SplitBrainNetSupervisor(IMAGES, backbone=small(), weights="store/first")
    assert halves.preprocessing.mean is None


@pytest.mark.parametrize(
    ("algorithm", "size"), [(ContrastiveMultiviewCodingSupervisor, {"n": 5}), (SplitBrainNetSupervisor, {})]
)
def test_networks_of_two_branches_begin_with_their_own_or_with_one_for_both(algorithm: Any, size: Any) -> None:
    trained = algorithm(IMAGES, backbone=small(), **size).supervise(epochs=2, name="store/two", polyak=0.5, **QUIET)
    again = algorithm(IMAGES, backbone=small(), weights="store/two", **size)
    own, theirs = trained.model.state_dict(), again.model.state_dict()
    backbones = [key for key in own if "backbone." in key]
    assert len(backbones) > 20
    assert all(torch.equal(own[key], theirs[key]) for key in backbones)

    rotated = rotate().supervise(epochs=1, name="store/one", **QUIET)
    begun = algorithm(IMAGES, backbone=small(), weights="store/one", **size).model.state_dict()
    stems = [key for key in begun if key.endswith("stem.0.weight")]
    assert len(stems) == 2
    assert all(torch.equal(begun[key], rotated.model.backbone.state_dict()["stem.0.weight"]) for key in stems)


def test_the_default_halves_begin_with_their_own() -> None:
    trained = SplitBrainNetSupervisor(IMAGES)
    trained.save("store/halves")
    again = SplitBrainNetSupervisor(IMAGES, weights="store/halves")
    own, theirs = trained.model.backbone.state_dict(), again.model.backbone.state_dict()
    assert all(torch.equal(own[key], theirs[key]) for key in own)


def test_live_weights_are_taken_where_their_average_is_stored_too() -> None:
    trained = rotate().supervise(epochs=2, name="store/averaged", polyak=0.9, **QUIET)
    begun = rotate(weights="store/averaged")
    assert torch.equal(next(begun.model.parameters()), next(trained.model.parameters()))
    assert not torch.equal(next(begun.model.parameters()), next(trained.average.parameters()))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_with_other_names_and_channels(tmp_path: Path, suffix: str) -> None:
    source = small()
    tensors = {f"module.encoder.{key}": value.contiguous() for key, value in source.state_dict().items()}
    tensors |= {"fc.weight": torch.ones(3, 3)}
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"epoch": 3, "state_dict": OrderedDict(tensors)}, path)
    else:
        from safetensors.torch import save_file

        save_file(tensors, path)
    grey = RotateNetSupervisor(IMAGES[..., 0], backbone=SmallResNet(1, width=4), weights=path)
    stem, theirs = next(grey.model.backbone.parameters()), next(source.parameters())
    assert torch.allclose(stem, theirs.sum(1, keepdim=True), atol=1e-6)


def test_classifiers_of_torchvision() -> None:
    from torchvision.models import resnet18

    whole = resnet18()
    begun = RotateNetSupervisor(IMAGES, backbone="resnet18", weights=whole.state_dict())
    assert torch.equal(next(begun.model.backbone.parameters()), whole.conv1.weight)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatch, match=r"stem\.0\.weight has shape"):
        rotate(weights=SmallResNet(width=8))
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"broken\.pt"):
        rotate(weights=tmp_path / "broken.pt")
    with pytest.raises(ConfigurationError, match="no tensors"):
        rotate(weights={"a": 1})


@pytest.mark.parametrize("algorithm", all_supervisors())
def test_paper_recipes_decay_norms_and_biases_where_the_authors_do(algorithm: str) -> None:
    supervisor = all_supervisors()[algorithm](channels=3, resolution=32, backbone="small_resnet")
    recipe = supervisor.training_recipe("paper")
    assert recipe is not None
    settings: Any = SimpleNamespace(recipe="paper", epochs=1000)
    groups = tuning.split_groups(supervisor, supervisor.parameter_groups(0.1), settings)
    made = recipe.optimizer(groups, lr=0.1)
    decays = {bool(group["weight_decay"]) for group in made.param_groups if group["params"][0].ndim <= 1}
    plain_pytorch_sgd = {
        "rotate_net",
        "instance_discrimination",
        "momentum_contrast",
        "contrastive_multiview_coding",
        "pirl",
    }
    assert decays == {algorithm in plain_pytorch_sgd}
    assert ("norms and biases too" in recipe.describe()) == (algorithm in plain_pytorch_sgd)


WITH_LAYER_NORM = {
    "jigsaw_net",
    "instance_discrimination",
    "momentum_contrast",
    "contrastive_multiview_coding",
    "pirl",
    "contrastive_predictive_coding",
}


def norms(*layers: nn.Module) -> nn.Module:
    """A backbone with certain norms."""
    return nn.Sequential(nn.Conv2d(3, 32, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)


@pytest.mark.parametrize(
    ("backbone", "rate"),
    [
        (norms(), 1e-3),
        (norms(nn.LayerNorm(32)), 1e-4),
        (norms(nn.LayerNorm(32), nn.BatchNorm1d(32)), 1e-3),
        ("small_resnet", 1e-3),
    ],
)
def test_the_default_rate_is_smaller_for_layer_norm(backbone: Any, rate: float) -> None:
    supervisor = RotateNetSupervisor(IMAGES, backbone=backbone)
    assert chosen_lr(supervisor, None) == rate
    assert chosen_lr(supervisor, 0.5) == 0.5


def test_the_default_rate_trains() -> None:
    watch = Watch()
    net = norms(nn.LayerNorm(32))
    supervisor = RotateNetSupervisor(IMAGES, backbone=net, predictor=nn.Linear(32, 4))
    supervisor.supervise(epochs=1, callbacks=[watch], **QUIET)
    assert watch.rates[0] == [1e-4]
    supervisor.supervise(epochs=1, lr=1e-3, callbacks=[watch], **QUIET)
    assert watch.rates[-1] == [1e-3]


@pytest.mark.parametrize("algorithm", all_supervisors())
def test_the_default_rate_of_each_default_network(algorithm: str) -> None:
    supervisor = all_supervisors()[algorithm](channels=3, resolution=96)
    assert chosen_lr(supervisor, None) == (1e-4 if algorithm in WITH_LAYER_NORM else 1e-3)


@pytest.mark.parametrize(
    ("side", "resolution", "expected"),
    [
        (50, 96, "about 50 px and are enlarged to 96 px: resolution=50 is sufficient, and about 3.7 times as fast"),
        (50, 64, None),
        (20, 32, None),
        (20, 64, "resolution=32 is sufficient"),
    ],
)
def test_enlarged_images_are_reported_once(
    side: int, resolution: int, expected: str | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_logged_hints", set())
    images = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), np.uint8)
    for _ in range(2):
        supervisor = RotateNetSupervisor(images, backbone=small(), resolution=resolution)
        supervisor.supervise(epochs=1, checkpoint_every=0, **QUIET)
    found = [text for text in caplog.messages if "enlarged" in text]
    assert len(found) == (expected is not None)
    assert not found or expected in found[0]


def test_enlarged_images_of_trained_weights_are_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), np.uint8)
    supervisor = RotateNetSupervisor(images, backbone=small(), resolution=96, weights=small())
    supervisor.supervise(epochs=1, checkpoint_every=0, **QUIET)
    assert "enlarged" not in caplog.text
