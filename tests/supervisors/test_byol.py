"""BYOL."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import super_selfish
from super_selfish.data import AugmentationDataset, BYOLTransform, MoCoTransform
from super_selfish.models import Classification, SequentialUpTo, SmallResNet, cosine_momentum
from super_selfish.supervisors import BYOLSupervisor
from super_selfish.training import Callback

QUIET = {"verbose": False, "name": "store/test"}


def pictures(count: int = 16, side: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> BYOLSupervisor:
    torch.manual_seed(0)
    arguments.setdefault("backbone", SmallResNet(arguments.get("channels") or 3, width=4))
    return BYOLSupervisor(dataset, **{"embedding_size": 16, "hidden_size": 32, **arguments})


def two(batch: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, 32, 32, generator=generator), torch.rand(batch, 3, 32, 32, generator=generator)


def plain(second: nn.Module) -> SequentialUpTo:
    """Heads without batch norm: a projector to four numbers, and a second stage."""
    return SequentialUpTo(nn.Linear(32, 4), second)


def turned(by: Tensor) -> nn.Module:
    layer = nn.Linear(4, 4, bias=False)
    layer.weight.data.copy_(by)
    return layer


QUARTER = torch.tensor([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0]])


@pytest.mark.parametrize(("turn", "value"), [(torch.eye(4), 0.0), (QUARTER, 4.0), (-torch.eye(4), 8.0)])
def test_the_first_loss_has_its_closed_form(turn: Tensor, value: float) -> None:
    supervisor = make(embedding_size=4, predictor=plain(turned(turn)))
    same = two()[0]
    assert supervisor._forward((same, same)).item() == pytest.approx(value, abs=1e-4)


def test_untrained_predictions_have_nothing_to_do_with_the_target() -> None:
    supervisor = make(embedding_size=128, hidden_size=256)
    assert supervisor._forward(two(16)).item() == pytest.approx(4.0, abs=0.8)


@pytest.mark.parametrize("norm_type", ["batch", "layer"])
def test_the_loss_and_its_gradient_equal_a_naive_implementation(norm_type: str) -> None:
    own = {} if norm_type == "batch" else {"embedding_size": 4, "predictor": plain(nn.Linear(4, 4))}
    supervisor = make(backbone=SmallResNet(width=4, norm_type=norm_type), **own)
    first, second = two()
    for parameter in supervisor.ema.parameters():
        parameter.data.mul_(1.1)
    reference = copy.deepcopy(supervisor)
    loss = supervisor._forward((first, second))
    loss.backward()
    total = torch.zeros(())
    backbone, (projector, predictor) = reference.model.backbone, reference.model.predictor
    for seen, other in ((first, second), (second, first)):
        predicted = predictor(projector(backbone(seen)))
        with torch.no_grad():
            projected = reference.ema.predictor(reference.ema.backbone(other))
        for p, z in zip(predicted, projected, strict=True):
            total = total + (2 - 2 * (p @ z) / (p.norm() * z.norm())) / 4
    total.backward()
    assert loss.item() == pytest.approx(total.item(), abs=1e-5)
    for ours, theirs in zip(supervisor.model.parameters(), reference.model.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_the_loss_does_not_depend_on_the_order_of_the_views() -> None:
    first, second = two()
    losses = [copy.deepcopy(make())._forward(pair).item() for pair in ((first, second), (second, first))]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert make()._forward((first, first)).item() != pytest.approx(losses[0], abs=1e-4)


def test_the_target_has_no_predictor_gets_no_gradient_and_is_not_optimized() -> None:
    supervisor = make(pictures())
    projector, predictor = supervisor.model.predictor
    followed = [*supervisor.model.backbone.parameters(), *projector.parameters()]
    targets = list(supervisor.ema.parameters())
    assert [value.shape for value in targets] == [value.shape for value in followed]
    assert sum(map(torch.numel, supervisor.model.parameters())) - sum(map(torch.numel, targets)) == sum(
        map(torch.numel, predictor.parameters())
    )
    supervisor._forward(two()).backward()
    assert all(value.grad is None and not value.requires_grad for value in targets)
    assert all(value.grad is not None for value in supervisor.model.parameters())
    trained = {id(value) for value in supervisor.parameter_groups(0.1)}
    assert trained == {id(value) for value in supervisor.model.parameters()}


class Watch(Callback):
    def __init__(self) -> None:
        self.online: list[list[Tensor]] = []

    def on_step_end(self, run: Any) -> None:
        projector = run.supervisor.model.predictor[0]
        parts = [*run.supervisor.model.backbone.parameters(), *projector.parameters()]
        self.online.append([value.detach().clone() for value in parts])


@pytest.mark.parametrize("schedule", ["cosine", None])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_target_is_the_average_of_what_was_trained(schedule: str | None, accumulate: int) -> None:
    supervisor, watch = make(pictures(), m=0.6, m_schedule=schedule), Watch()
    expected = [value.clone() for value in supervisor.ema.parameters()]
    run = {"lr": 0.1, "optimizer": torch.optim.SGD, "batch_size": 8, "accumulate": accumulate, "callbacks": [watch]}
    for epochs in (2, 1):  # a second call goes on with the same target, and its own schedule
        watch.online.clear()
        supervisor.supervise(epochs=epochs, **run, **QUIET)
        for step, online in enumerate(watch.online):
            m = 0.6 if schedule is None else cosine_momentum(step, 2 * epochs, 0.6)
            expected = [m * old + (1 - m) * new for old, new in zip(expected, online, strict=True)]
        assert len(watch.online) == 2 * epochs
        for average, value, online in zip(supervisor.ema.parameters(), expected, watch.online[-1], strict=True):
            assert torch.allclose(average, value, atol=1e-5)
            assert not torch.equal(average, online)


def test_without_momentum_the_target_is_the_network() -> None:
    supervisor = make(pictures(), m=0.0, m_schedule=None).supervise(epochs=1, batch_size=8, **QUIET)
    followed = [*supervisor.model.backbone.parameters(), *supervisor.model.predictor[0].parameters()]
    assert all(torch.equal(*pair) for pair in zip(followed, supervisor.ema.parameters(), strict=True))


def test_the_target_has_batch_statistics_of_its_own() -> None:
    supervisor = make(m=1.0)
    for parameter in supervisor.ema.parameters():
        parameter.data.mul_(1.5)
    supervisor.train()._forward(two())
    for network in (supervisor.model, supervisor.ema):
        norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        assert all(part.num_batches_tracked == 2 for part in norms), "each view by itself"
    ours, theirs = supervisor.model.predictor[0].layers[1], supervisor.ema.predictor.layers[1]
    assert not torch.allclose(ours.running_var, theirs.running_var)
    kept = theirs.running_var.clone()
    supervisor.momentum.begin(1)
    supervisor._after_update()
    assert torch.equal(theirs.running_var, kept)


def test_projections_start_spread_out() -> None:
    supervisor = BYOLSupervisor(backbone=nn.Flatten(), resolution=32)
    projected = F.normalize(supervisor.train().ema(two(64)[0]))
    assert projected.std(0).mean().item() == pytest.approx(128**-0.5, rel=0.15)


class KillAfter(Callback):
    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == 5:
            raise RuntimeError


@pytest.mark.parametrize("epochs", [2, 3])
def test_resumed_training_continues_the_momentum_schedule(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"batch_size": 4, "checkpoint_every": 1, **QUIET}
    supervisor = make(pictures(8), m=0.5).supervise(epochs=1, **run)  # two updates in a call of their own
    with pytest.raises(RuntimeError):
        supervisor.supervise(epochs=2, callbacks=[KillAfter()], **run)
    seen: list[float] = []
    monkeypatch.setattr("super_selfish.supervisors.byol.update_ema", lambda _ema, _online, m: seen.append(m))
    make(pictures(8), m=0.5).supervise(epochs=epochs, resume=True, **run)
    assert seen == [cosine_momentum(step, 2 * epochs, 0.5) for step in range(3, 2 * epochs)]


def test_the_target_is_stored() -> None:
    trained = make(pictures(8), m=0.9).supervise(epochs=1, batch_size=4, **QUIET)
    loaded = super_selfish.load("store/test", backbone=SmallResNet(width=4))
    assert (loaded.m, loaded.m_schedule, loaded.hidden_size) == (0.9, "cosine", 32)
    here, there = trained.ema.state_dict(), loaded.ema.state_dict()
    assert all(torch.equal(here[key], there[key]) for key in here)


def test_the_default_networks() -> None:
    supervisor = BYOLSupervisor()
    projector, predictor = supervisor.model.predictor
    for head, inputs in ((projector, 3136), (predictor, 128)):
        assert [type(layer) for layer in head.layers] == [nn.Linear, nn.BatchNorm1d, nn.PReLU, nn.Linear]
        shapes = [(layer.in_features, layer.out_features) for layer in head.layers if isinstance(layer, nn.Linear)]
        assert shapes == [(inputs, 1024), (1024, 128)]
    assert BYOLSupervisor.algorithm() == "byol"


def test_the_two_views_differ_in_kind() -> None:
    first, second = make(pictures(8), view_size=40).dataset.transforms
    assert (first, second) == (BYOLTransform(40, view=1), BYOLTransform(40, view=2))


def test_custom_loss_gets_normalised_embeddings_of_both_views() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def own(prediction: Tensor, target: Tensor) -> Tensor:
        seen.append((prediction, target))
        return (prediction - target).abs().sum()

    loss = make(loss=own)._forward(two())
    assert len(seen) == 2
    assert loss.item() == pytest.approx(sum((p - z).abs().sum().item() for p, z in seen), rel=1e-6)
    for prediction, target in seen:
        assert prediction.requires_grad
        assert not target.requires_grad
        for rows in (prediction, target):
            assert torch.allclose(rows.norm(dim=1), torch.ones(4), atol=1e-5)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("m", 1.1),
        ("m", -0.1),
        ("embedding_size", 0),
        ("hidden_size", 0),
        ("m_schedule", "linear"),
        ("view_size", 0),
        ("views", 3),
        ("data_augmentation", 3),
        ("predictor", Classification([32, 16])),
        ("predictor", nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 16))),
    ],
)
def test_arguments_out_of_range_raise(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        make(**{argument: value})


def test_stages_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"embedding_size=16. Received: shapes \(1, 8\) and \(1, 16\)"):
        make(predictor=nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 16)))
    with pytest.raises(ValueError, match=r"shapes \(1, 16\) and \(1, 8\)"):
        make(predictor=nn.Sequential(nn.Linear(32, 16), nn.Linear(16, 8)))
    with pytest.raises(ValueError, match="cannot take the backbone's features"):
        make(predictor=nn.Sequential(nn.Linear(31, 16), nn.Linear(16, 16)))


@pytest.mark.parametrize("size", [None, 16])
def test_custom_stages_after_a_feature_map(size: int | None) -> None:
    backbone = nn.Conv2d(3, 4, 8, 8)
    side = (size or 32) // 8
    heads = nn.Sequential(nn.Linear(4 * side * side, 16), nn.Linear(16, 16))
    supervisor = make(pictures(8), backbone=backbone, predictor=heads, view_size=size)
    assert supervisor.model.predictor[1] is heads[1]
    supervisor.supervise(epochs=1, batch_size=1, **QUIET)  # without batch norm an image may be alone
    assert supervisor.train_state.step == 8
    loaded = super_selfish.load("store/test", backbone=backbone, predictor=heads)
    assert loaded.momentum.kind == "cosine"


def test_batch_norm_with_a_single_image_raises() -> None:
    for run in ({"batch_size": 1}, {"batch_size": 3, "accumulate": 2}):
        supervisor = make(pictures(8))
        with pytest.raises(ValueError, match="at least 2 images"):
            supervisor.supervise(epochs=1, **run, **QUIET)
        assert supervisor.train_state.step == 0

    class Own(BYOLSupervisor):
        def _init_data_optimizer(self, *arguments: Any) -> Any:
            _, optimizer, scheduler = super()._init_data_optimizer(*arguments)
            return DataLoader(self.dataset, 4), optimizer, scheduler

    supervisor = Own(pictures(9), backbone=SmallResNet(width=4))
    with pytest.raises(ValueError, match=r"of at least 2 images\. Received: 1"):
        supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    assert supervisor.train_state.step == 2


@pytest.mark.parametrize("channels", [1, 13])
def test_images_that_are_neither_square_nor_rgb(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 56, channels), np.uint8)
    supervisor = make(images, channels=channels).supervise(epochs=1, batch_size=2, **QUIET)
    assert supervisor.train_state.step == 3
    assert supervisor.extract(images)[0].shape == (6, 32)


def test_custom_views() -> None:
    for views in (MoCoTransform(), (MoCoTransform(), v2.RandomHorizontalFlip()), lambda picture: picture.rotate(10)):
        assert make(pictures(8), views=views).supervise(epochs=1, batch_size=4, **QUIET).train_state.step == 2
    own = make(pictures(8), data_augmentation=lambda images: AugmentationDataset(images, MoCoTransform()))
    assert own.supervise(epochs=1, batch_size=4, **QUIET).train_state.step == 2
    with pytest.raises(ValueError, match="either `views` or `data_augmentation`"):
        make(views=MoCoTransform(), data_augmentation=lambda images: AugmentationDataset(images, MoCoTransform()))
    with pytest.raises(ValueError, match=r"Pass view_size=\(16, 16\)"):
        make(pictures(8), views=MoCoTransform(16)).supervise(epochs=1, batch_size=4, **QUIET)


def test_preview() -> None:
    supervisor = make(pictures(8))
    data = two(5)
    before = supervisor.eval()._preview(data)
    assert before.title.endswith("?")
    assert [len(row) for row in before.rows] == [3] * 5
    assert {panel.caption for panel in before.rows[0]} == {"view", "its other view", "another image"}
    assert all(panel.right is None for row in before.rows for panel in row)
    supervisor.train_state.step = 1
    for place, row in enumerate(supervisor._preview(data).rows):
        own, other = (float(panel.caption.split("\n")[1]) for panel in row[1:])
        assert row[1].right == (own > other) or own == other
        assert torch.equal(row[1].image, data[1][place])
        assert not torch.equal(row[2].image, data[1][place])
    assert [len(row) for row in supervisor._preview(two(1)).rows] == [2]
