"""ExemplarNet."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import super_selfish
from super_selfish.data import ExemplarDataset, ExemplarTransform, MoCoTransform
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.models import Classification, CombinedNet, SmallResNet
from super_selfish.pretext.base import sample_key
from super_selfish.seeding import KeyedGenerator
from super_selfish.supervisors import ExemplarNetSupervisor

QUIET = {"verbose": False, "batch_size": 4, "epochs": 1, "name": "store/test", "checkpoint_every": 0}


def pictures(count: int = 8, side: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> ExemplarNetSupervisor:
    arguments.setdefault("backbone", SmallResNet(width=4))
    return ExemplarNetSupervisor(dataset, **arguments)


def batch(supervisor: ExemplarNetSupervisor, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    items = []
    for index in range(count):
        with sample_key(0, index):
            items.append(supervisor.dataset[index])
    return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])


def same(one: nn.Module, other: nn.Module) -> bool:
    there = other.state_dict()
    return all(torch.equal(value, there[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("count", [5, 23])
def test_initial_loss_is_at_chance_level(count: int) -> None:
    supervisor = make(pictures(count))
    nn.init.zeros_(supervisor.model.predictor.layers[-1].weight)
    nn.init.zeros_(supervisor.model.predictor.layers[-1].bias)
    assert supervisor._forward(batch(supervisor)).item() == pytest.approx(math.log(count), abs=1e-5)


def test_the_loss_and_its_gradient_equal_a_naive_loop() -> None:
    supervisor = make(pictures(6)).eval()  # batch statistics would tie the samples of a batch together
    versions, labels = batch(supervisor)
    supervisor._forward((versions, labels)).backward()
    gradients = [parameter.grad.clone() for parameter in supervisor.model.parameters()]
    supervisor.model.zero_grad()
    total = torch.zeros(())
    for index in range(4):
        logits = supervisor.model(versions[index][None])[0]
        total = total - (logits[index] - logits.exp().sum().log()) / 4
    total.backward()
    for expected, parameter in zip(gradients, supervisor.model.parameters(), strict=True):
        assert torch.allclose(expected, parameter.grad, atol=1e-5)


def test_the_head_has_an_output_for_each_image() -> None:
    def sizes(supervisor: ExemplarNetSupervisor) -> list[int]:
        return [layer.out_features for layer in supervisor.model.predictor.layers if isinstance(layer, nn.Linear)]

    assert sizes(make(pictures(8))) == [1024, 1024, 8]
    assert sizes(make(pictures(8), n_classes=5)) == [1024, 1024, 5]
    assert sizes(make()) == [1024, 1024, 8000]
    assert sizes(make(n_classes=12)) == [1024, 1024, 12]
    supervisor = make(pictures(8), n_classes=5, n_trans=7, max_elms=3, p=0.25, class_seed=4)
    dataset = supervisor.dataset
    assert isinstance(dataset, ExemplarDataset)
    expected = ExemplarDataset(pictures(8), None, 5, 7, 3, 0.25, seed=4)
    assert dataset.transforms == expected.transforms
    assert np.array_equal(dataset.chosen, expected.chosen)
    stated = {"n_classes": 5, "n_trans": 7, "max_elms": 3, "p": 0.25, "class_seed": 4}
    assert supervisor.hyperparameters() == stated


def test_it_learns_which_image_a_version_is_of() -> None:
    images = pictures(12, side=4).repeat(8, axis=1).repeat(8, axis=2)
    supervisor = make(images, backbone=SmallResNet(width=8), predictor=nn.Linear(64, 12), max_elms=3)
    supervisor.supervise(**{**QUIET, "epochs": 60, "batch_size": 12}, lr=3e-3)
    right = []
    for key in range(10):
        with sample_key(1, key), torch.no_grad():
            right += [supervisor.model(supervisor.dataset[k][0][None]).argmax().item() == k for k in range(12)]
    assert np.mean(right) > 0.5


def test_a_file_brings_its_number_of_classes(run_python: Callable[..., Any]) -> None:
    images = pictures(23)
    trained = make(images, backbone="small_resnet").supervise(**QUIET)
    assert trained.n_classes == 8000
    loaded = make(backbone="small_resnet").load("store/test")
    assert same(trained, loaded)
    assert loaded.model.predictor.layers[-1].out_features == 23
    assert loaded.model.predictor.layers[-1].weight.requires_grad
    for built in (super_selfish.load("store/test"), super_selfish.load("store/test", dataset=images)):
        assert built.n_classes == 8000
        assert same(trained, built)
    assert np.array_equal(built.dataset.chosen, trained.dataset.chosen)
    assert built.dataset.transforms == trained.dataset.transforms
    np.save("images.npy", images)
    done = run_python(
        "-c",
        "import numpy, super_selfish; s = super_selfish.load('store/test');"
        "t = super_selfish.load('store/test', dataset=numpy.load('images.npy'));"
        "print(s.get_predictor().layers[-1].out_features, *t.dataset.chosen, *t.dataset.transforms[5].names)",
    )
    assert done.returncode == 0, done.stderr
    chosen, names = trained.dataset.chosen, trained.dataset.transforms[5].names
    assert done.stdout.split() == ["23", *map(str, chosen), *names]


def test_the_same_images_are_trained_on() -> None:
    images = pictures(23)
    first = make(images, n_classes=10).supervise(**QUIET)
    again = make(images, n_classes=10).load("store/test")
    before = again.model.predictor.layers[-1].weight.detach().clone()
    again.supervise(**QUIET)
    assert (again.train_state.epoch, len(again.history)) == (2, 2)
    assert not torch.equal(before, again.model.predictor.layers[-1].weight), "the optimizer has the old layer"
    pretrained = make(images, n_classes=10).supervise(**QUIET, pretrained=True)
    assert (first.train_state.step, again.train_state.step, pretrained.train_state.step) == (2, 4, 6)


def test_images_other_than_the_classes_raise() -> None:
    make(pictures(8)).supervise(**QUIET)
    for supervisor in (
        make(pictures(11)).load("store/test"),
        super_selfish.load("store/test", dataset=pictures(11), backbone=SmallResNet(width=4)),
    ):
        with pytest.raises(ConfigurationError, match=r"the 8 images.*Received: 11 images.*get_backbone"):
            supervisor.supervise(**QUIET)
        assert supervisor.train_state.step == 2
    with pytest.raises(ConfigurationError, match="the 8 images"):
        make(pictures(11)).supervise(**QUIET, pretrained=True)
    with pytest.raises(CheckpointMismatch, match="n_classes is 5 here and 8000 in the file"):
        make(pictures(11), n_classes=5).load("store/test")


def test_custom_predictor() -> None:
    supervisor = make(pictures(8), predictor=nn.Linear(32, 8)).supervise(**QUIET)
    assert isinstance(supervisor.get_predictor(), nn.Linear)
    loaded = super_selfish.load("store/test", backbone=SmallResNet(width=4), predictor=nn.Linear(32, 8))
    assert same(supervisor, loaded)
    with pytest.raises(ConfigurationError, match=r"Expected: outputs of shape \(batch, 8\)"):
        make(pictures(8), predictor=Classification([32, 5]))
    with pytest.raises(ConfigurationError, match=r"Expected: outputs of shape \(batch, classes\)"):
        make(predictor=nn.Unflatten(1, (4, 8)))
    net = CombinedNet(supervisor.get_backbone(), nn.Linear(supervisor.feature_dim, 3))
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_custom_loss_and_transformations() -> None:
    calls = []

    def smooth(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(logits.shape)
        return F.cross_entropy(logits, labels, label_smoothing=0.1)

    images = pictures(8)
    supervisor = make(images, loss=smooth, transformations=ExemplarTransform(("invert",)))
    assert np.array_equal(supervisor.dataset.sample(3, KeyedGenerator(0))[0], 255 - images[3])
    supervisor.supervise(**QUIET)
    assert calls == [(4, 8)] * 2
    make(images, transformations=lambda image: image.rotate(45)).supervise(**QUIET)
    small = {"transformations": MoCoTransform(size=48)}
    make(images, **small).supervise(**QUIET)  # the features of this backbone do not depend on the size
    with pytest.raises(ConfigurationError, match=r"Expected: 32×32×3. Received: 48×48×3.*must keep the size"):
        make(images, **small, backbone=nn.Conv2d(3, 2, 8, stride=8)).supervise(**QUIET)


@pytest.mark.parametrize("channels", [1, 13])
def test_any_channels(channels: int) -> None:
    supervisor = make(pictures(8, 20, channels), backbone=SmallResNet(channels, width=4)).supervise(**QUIET)
    assert supervisor.preprocessing.resolution == (32, 32)
    assert [len(row) for row in supervisor._preview(batch(supervisor)).rows] == [5] * 4


@pytest.mark.parametrize(
    "arguments",
    [{"n_classes": 1}, {"n_trans": 0}, {"max_elms": 1.5}, {"p": -0.1}, {"class_seed": "a"}, {"transformations": 3}],
)
def test_arguments_out_of_range_raise(arguments: dict[str, Any]) -> None:
    for dataset in (None, pictures(4)):
        with pytest.raises(ConfigurationError, match=rf"`{next(iter(arguments))}` is out of range.*Expected"):
            make(dataset, **arguments)


def test_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    from super_selfish.engine import previews

    images = pictures(12)
    supervisor = make(images, n_classes=9)
    before = previews.preview(supervisor, None, 3)
    chosen = supervisor.dataset.chosen[[0, 4, 8]]
    assert [[panel.caption for panel in row] for row in before.rows] == [
        [f"image {index}", "version 1", "version 2", "version 3", "version 4"] for index in chosen
    ]
    assert np.array_equal(before.rows[1][0].image, images[chosen[1]])
    assert len({panel.image.tobytes() for row in before.rows for panel in row}) > 12
    assert all(panel.right is None for row in before.rows for panel in row)
    assert "not trained yet" in before.note
    supervisor.supervise(**QUIET)
    always = torch.full((1, 9), 0.0)
    always[:, 4] = 1.0
    with monkeypatch.context() as patch:
        patch.setattr(supervisor.model, "forward", lambda seen: always.expand(len(seen), -1))
        after = previews.preview(supervisor, None, 3)
    assert [[panel.right for panel in row] for row in after.rows] == [
        [None, *[False] * 4],
        [None, *[True] * 4],
        [None, *[False] * 4],
    ]
    assert after.rows[0][1].caption == f"image {chosen[1]}"
    assert "11.1 % on 9 images" in after.note, "one of nine classes is right, also of images that are not drawn"
    other = previews.preview(supervisor, pictures(5, seed=9), 2)
    assert [len(row) for row in other.rows] == [5, 5]
    assert all(panel.right is None for row in other.rows for panel in row)
    assert "No predictions" in other.note
    assert supervisor._shown is None
    loaded = make(n_classes=9).load("store/test")
    note = previews.preview(loaded, pictures(5), 2).note
    assert "No predictions" in note
    assert "Not scored: The number of images differs from the number of classes of the head." in note
