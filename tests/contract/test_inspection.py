"""Looking at a supervisor during training changes nothing that is trained, and frozen batch norm stays frozen."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from super_selfish.models import CombinedNet
from super_selfish.supervisors import LabelSupervisor, RotateNetSupervisor
from super_selfish.training import Callback

RUN = {"epochs": 2, "batch_size": 4, "verbose": False, "name": "store/test", "watch": 4}


def use_backbone(supervisor: Any, images: Any) -> None:
    """What a callback may do with a backbone: call it in both modes, freeze it, convert it and write to it."""
    for backbone in (supervisor.get_backbone(), supervisor.get_backbone(output="pooled")):
        inputs = supervisor.preprocess(images)
        assert not any(module.training for module in backbone.modules())
        backbone(inputs).sum().backward()
        backbone.train()(inputs)
        backbone.requires_grad_(False).to(torch.float64)
        backbone.register_forward_hook(lambda *_: pytest.fail("a hook on a copy was called by the training"))
        for parameter in backbone.parameters():
            parameter.zero_()
    supervisor.get_predictor().train().requires_grad_(False)


def look(supervisor: Any, images: Any) -> None:
    """Everything that reads a supervisor."""
    supervisor.extract(images, batch_size=3)
    supervisor.preprocess(images)
    supervisor.preview(count=2)
    supervisor.preview(images, count=2)
    supervisor.evaluate_pretext(count=4)
    supervisor.save("store/looked")
    repr(supervisor), supervisor.feature_dim, supervisor.hyperparameters(), supervisor.forecast, supervisor.history
    for name in ("get_backbone", "get_predictor"):
        getattr(supervisor, name)()
    random.random(), np.random.rand()  # callbacks may use the global generators


class Look(Callback):
    """Looks at every event, and records the modes of all modules in the steps between."""

    def __init__(self, images: Any) -> None:
        self.images = images

    def on_train_begin(self, run: Any) -> None:
        look(run.supervisor, self.images)
        use_backbone(run.supervisor, self.images)

    on_step_end = on_epoch_end = on_train_end = on_train_begin


def watched(base: type, modes: list[Any], inside: Callable[[Any], None]) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        def _epochs(self, *arguments: Any) -> None:
            inside(self)
            super()._epochs(*arguments)

        def _forward(self, data: Any) -> Any:
            modes.append([module.training for module in self.modules()])
            inside(self)
            return super()._forward(data)

    return Own


def test_looking_from_callbacks_and_stages_changes_nothing(
    make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    found, modes, base = [], [], type(make())
    data = images(8)
    for looks in (False, True):
        seen: list[Any] = []
        cls = watched(base, seen, (lambda supervisor: look(supervisor, data)) if looks else lambda _: None)
        supervisor = make(data, cls=cls).supervise(callbacks=[Look(data)] if looks else [], **RUN)
        found.append((weights(supervisor), [entry["loss"] for entry in supervisor.history]))
        modes.append(seen)
    assert modes[0] == modes[1]
    assert found[0][1] == found[1][1]
    assert found[0][0].keys() == found[1][0].keys()
    differing = [key for key, value in found[0][0].items() if not torch.equal(value, found[1][0][key])]
    assert differing == []


def test_a_backbone_of_a_stage_shares_its_weights(
    make: Callable[..., Any], images: Callable[..., Any], algorithm: str
) -> None:
    """A term of the loss that is computed with get_backbone() trains the weights; its modes are its own."""
    base, seen = type(make()), []

    class Own(base):  # type: ignore[misc, valid-type]
        def _forward(self, data: Any) -> Any:
            backbone = self.get_backbone()
            weight = next(weight for weight in backbone.parameters())
            seen.append((any(weight is other for other in self.parameters()), self.model.training, backbone.training))
            return super()._forward(data)

    make(images(8), cls=Own).supervise(**RUN | {"epochs": 1})
    assert seen == [(True, True, False)] * 2
    assert algorithm  # every algorithm


def test_outside_of_training_the_backbone_is_the_trained_one_in_eval_mode(make: Callable[..., Any]) -> None:
    supervisor = make().train()
    backbone = supervisor.get_backbone()
    own = {id(weight) for weight in supervisor.parameters()}
    assert {id(weight) for weight in backbone.parameters()} <= own
    assert not any(module.training for module in backbone.modules())
    assert not supervisor.get_predictor().training


class InPlace(nn.Module):
    """Writes into its input, or into a copy of it."""

    def __init__(self, backbone: nn.Module, copies: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.copies = copies

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone() if self.copies else x
        return self.backbone(x.sub_(0.4).mul_(2))


def test_networks_that_write_into_their_input_get_images_of_their_own(
    images: Callable[..., Any], tiny_backbone: type
) -> None:
    rows = []
    for copies in (True, False):
        torch.manual_seed(0)
        supervisor = RotateNetSupervisor(images(8), backbone=InPlace(tiny_backbone(), copies))
        supervisor.supervise(**RUN)
        rows.append([[entry[key] for key in ("std", "alignment", "uniformity")] for entry in supervisor.history])
    assert np.allclose(rows[0], rows[1], rtol=1e-4)


def frozen(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
    return network


def statistics(supervisor: Any) -> list[Tensor]:
    return [value.clone() for key, value in supervisor.state_dict().items() if key.endswith("running_mean")]


def test_frozen_batch_norm_stays_frozen(
    make: Callable[..., Any], images: Callable[..., Any], tiny_backbone: type
) -> None:
    supervisor = make(images(8), backbone=frozen(tiny_backbone()))
    norms = [module for module in supervisor.modules() if isinstance(module, nn.BatchNorm2d)]
    own = [norm for norm in norms if not norm.training]
    before = [norm.running_mean.clone() for norm in own]
    for _ in range(2):  # a run ends in eval mode
        supervisor.supervise(**RUN | {"epochs": 1})
    assert own
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(own, before, strict=True))


def test_adapting_keeps_the_statistics_of_batch_norm_and_trains_its_weights(
    make: Callable[..., Any], images: Callable[..., Any], tiny_backbone: type
) -> None:
    supervisor = make(images(8), backbone=tiny_backbone(), weights=tiny_backbone())
    norms = [norm for own in supervisor.backbones() for norm in own.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert norms
    before = [(norm.running_mean.clone(), norm.weight.detach().clone()) for norm in norms]
    supervisor.supervise(recipe="adapt", **RUN | {"epochs": 10})
    for norm, (mean, weight) in zip(norms, before, strict=True):
        assert torch.equal(norm.running_mean, mean)
        assert not torch.equal(norm.weight, weight)
    supervisor.supervise(recipe="auto", **RUN | {"epochs": 1})
    assert not any(torch.equal(norm.running_mean, mean) for norm, (mean, _) in zip(norms, before, strict=True))


@pytest.mark.parametrize("case", ["no gradients", "eval mode"])
def test_batch_norm_that_is_not_frozen_is_trained_in_every_run(
    make: Callable[..., Any], images: Callable[..., Any], tiny_backbone: type, case: str
) -> None:
    backbone = tiny_backbone()
    norm = next(module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d))
    if case == "no gradients":
        norm.requires_grad_(False)  # in training mode: its statistics adapt to the images
    else:
        backbone.eval()  # as networks of model zoos are
    supervisor = make(images(8), backbone=backbone)
    for _ in range(2):
        before = statistics(supervisor)
        supervisor.supervise(**RUN | {"epochs": 1})
        changed = [not torch.equal(a, b) for a, b in zip(before, statistics(supervisor), strict=True)]
        assert all(changed)


def test_a_deep_copy_made_by_a_callback_is_independent(images: Callable[..., Any]) -> None:
    class Copy(Callback):
        def on_epoch_end(self, run: Any) -> None:
            twin = copy.deepcopy(run.supervisor.model)
            twin.eval().requires_grad_(False)

    states = []
    for callbacks in ([], [Copy()]):
        torch.manual_seed(0)
        net = CombinedNet(nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4), nn.Flatten()), nn.Linear(64, 2))
        supervisor = LabelSupervisor(net, (images(8), np.arange(8) % 2), finetune=True)
        supervisor.supervise(callbacks=callbacks, **RUN)
        states.append(supervisor.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
