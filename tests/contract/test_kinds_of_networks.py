"""Networks and factories that people have: they work, or there is one clear error before training."""

from __future__ import annotations

import contextlib
import functools
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.checkpoint import checkpoint

from super_selfish.engine.gan import GanSupervisor
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.models import CombinedNet
from super_selfish.supervisors import (
    LabelSupervisor,
    MomentumContrastSupervisor,
    RotateNetSupervisor,
    Supervisor,
    all_supervisors,
)
from super_selfish.training import Callback

RUN = {"epochs": 1, "batch_size": 4, "verbose": False, "name": "store/test", "watch": 0}


class Versioned(nn.Sequential):
    """Has extra state that is no tensor, and counts the calls of set_extra_state."""

    version, restored = 1, 0

    def get_extra_state(self) -> Any:
        return {"version": self.version, "names": ["a"]}

    def set_extra_state(self, state: Any) -> None:
        self.version = state["version"]
        self.restored += 1


def lazy(backbone: nn.Module) -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(3, 1), nn.LazyBatchNorm2d(), backbone)


def scripted(backbone: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        return torch.jit.script(backbone)


def normed(norm: Callable[..., nn.Module]) -> Callable[[nn.Module], nn.Module]:
    def convert(backbone: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated
            norm(next(module for module in backbone.modules() if isinstance(module, nn.Conv2d)))
        return backbone

    return convert


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm": normed(nn.utils.weight_norm),
    "parametrized weight norm": normed(nn.utils.parametrizations.weight_norm),
    "spectral norm": normed(nn.utils.spectral_norm),
    "parametrized spectral norm": normed(nn.utils.parametrizations.spectral_norm),
    "lazy layers": lazy,
    "extra state": Versioned,
    "TorchScript": scripted,
}


class Stop(Callback):
    def on_epoch_end(self, run: Any) -> None:
        if run.train_state.epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_networks_are_trained_stored_and_resumed(
    make: Callable[..., Any], images: Callable[..., Any], tiny_backbone: type, weights: Callable[..., Any], kind: str
) -> None:
    def build() -> Any:
        torch.manual_seed(0)
        return make(images(8), backbone=KINDS[kind](tiny_backbone()))

    supervisor = build().supervise(**RUN | {"epochs": 2})
    before = weights(supervisor)
    features = supervisor.extract(images(4))[0]
    assert np.isfinite(features).all()
    read = build().load("store/test")
    assert np.allclose(read.extract(images(4))[0], features, atol=1e-6)
    with pytest.raises(KeyboardInterrupt):
        build().supervise(callbacks=[Stop()], **RUN | {"epochs": 2, "name": "store/stopped"})
    resumed = build().supervise(**RUN | {"epochs": 2, "name": "store/stopped", "resume": True})
    for key, value in before.items():
        found = weights(resumed)[key]
        assert torch.equal(found, value) if isinstance(value, Tensor) else found == value, key


def test_extra_state_is_restored(images: Callable[..., Any], tiny_backbone: type) -> None:
    first = RotateNetSupervisor(images(8), backbone=Versioned(tiny_backbone()))
    first.model.backbone.version = 7
    first.supervise(**RUN)
    second = RotateNetSupervisor(images(8), backbone=Versioned(tiny_backbone())).load("store/test")
    assert (second.model.backbone.version, second.model.backbone.restored) == (7, 1)
    with pytest.raises(CheckpointMismatch):
        RotateNetSupervisor(images(8), backbone=nn.Sequential(tiny_backbone())).load("store/test")


def test_extra_state_that_cannot_be_stored_is_an_error_before_training(
    images: Callable[..., Any], tiny_backbone: type
) -> None:
    class Set(Versioned):
        def get_extra_state(self) -> Any:
            return {1, 2}

    with pytest.raises(ConfigurationError, match="extra state"):
        RotateNetSupervisor(images(8), backbone=Set(tiny_backbone())).supervise(**RUN)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_are_an_error_that_names_them(
    make: Callable[..., Any], images: Callable[..., Any], tiny_backbone: type, dtype: torch.dtype
) -> None:
    with pytest.raises(ConfigurationError, match=str(dtype)):
        make(images(8), backbone=tiny_backbone().to(dtype))
    with pytest.raises(ConfigurationError, match=str(dtype)):
        make(images(8)).to(dtype).supervise(**RUN)


def test_a_network_that_converts_its_input_may_have_any_dtype(images: Callable[..., Any], tiny_backbone: type) -> None:
    class Double(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = tiny_backbone().double()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.double()).float()

    assert RotateNetSupervisor(images(8), backbone=Double()).supervise(**RUN).train_state.step == 2


def test_the_default_dtype_is_explained(images: Callable[..., Any]) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ConfigurationError, match="float64"):
            RotateNetSupervisor(images(8), backbone="small_resnet").supervise(**RUN)
    finally:
        torch.set_default_dtype(torch.float32)


def bare(net: CombinedNet) -> Supervisor:
    data = torch.utils.data.TensorDataset(torch.rand(8, 3, 8, 8), torch.arange(8) % 2)
    return Supervisor(net, data)


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (CombinedNet(nn.Flatten(), nn.LazyLinear(2)), "Lazy"),
        (CombinedNet(nn.Flatten(), nn.Linear(192, 2).double()), "float64"),
        (CombinedNet(nn.Flatten(), nn.Linear(192, 2).bfloat16()), "bfloat16"),
    ],
    ids=["lazy", "float64", "bfloat16"],
)
def test_a_bare_supervisor_explains_networks_that_it_cannot_train(net: CombinedNet, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        bare(net).supervise(**RUN)


def test_lazy_heads(images: Callable[..., Any], tiny_backbone: type) -> None:
    head = MomentumContrastSupervisor(images(8), backbone=tiny_backbone(), predictor=nn.LazyLinear(128))
    assert head.supervise(**RUN).train_state.step == 2
    net = CombinedNet(tiny_backbone(), nn.Sequential(nn.Flatten(), nn.LazyLinear(2)))
    assert LabelSupervisor(net, (images(8), np.arange(8) % 2)).supervise(**RUN).train_state.step == 2


LATER = {
    "None": lambda optimizer: None,
    "no scheduler": lambda optimizer: 0.1,
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=1),
    "chained": lambda optimizer: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(optimizer), lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=1)]
    ),
    "sequential": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.ConstantLR(optimizer), lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=2)],
        milestones=[1],
    ),
    "table": lambda optimizer: lr_scheduler.LambdaLR(optimizer, [1.0, 0.5].__getitem__),
}


@pytest.mark.parametrize("kind", LATER)
def test_schedules_that_cannot_last_are_an_error_before_training(
    images: Callable[..., Any], tiny_backbone: type, kind: str
) -> None:
    seen: list[int] = []

    class Own(RotateNetSupervisor):
        def _forward(self, data: Any) -> Tensor:
            seen.append(1)
            return super()._forward(data)

    supervisor = Own(images(8), backbone=tiny_backbone())
    with pytest.raises(ConfigurationError, match=r"lr_scheduler|schedule"):
        supervisor.supervise(**RUN | {"epochs": 2}, lr_scheduler=LATER[kind])
    assert not seen


def test_a_schedule_of_exactly_the_length_works(images: Callable[..., Any], tiny_backbone: type) -> None:
    for interval, steps in (("step", 4), ("epoch", 2)):
        supervisor = RotateNetSupervisor(images(8), backbone=tiny_backbone())
        supervisor.supervise(
            **RUN | {"epochs": 2, "scheduler_interval": interval},
            lr_scheduler=lambda optimizer, total=steps: lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=total),
        )
        assert supervisor.train_state.step == 4


def test_an_optimizer_factory_that_returns_none(images: Callable[..., Any], tiny_backbone: type) -> None:
    with pytest.raises(ConfigurationError, match="`optimizer` does not create"):
        RotateNetSupervisor(images(8), backbone=tiny_backbone()).supervise(**RUN, optimizer=lambda weights, lr: None)


@pytest.mark.parametrize("how", [{"batch_size": 1}, {"batch_size": 4, "accumulate": 4}], ids=str)
def test_batch_norm_of_one_value_is_an_error_or_works(
    make: Callable[..., Any], images: Callable[..., Any], how: dict[str, int]
) -> None:
    supervisor = make(images(8))
    with contextlib.suppress(ConfigurationError):  # any other error fails the test
        supervisor.supervise(**RUN | how)
    assert all(np.isfinite(entry["loss"]) for entry in supervisor.history)
    assert supervisor.train_state.step in (0, len(supervisor.history) * 8 // how["batch_size"])


def recomputed(layers: nn.Sequential, x: Tensor) -> Tensor:
    """A forward pass that is assigned to an instance, of which copies of the network have their own."""
    return checkpoint(functools.partial(nn.Sequential.forward, layers), x, use_reentrant=False)


class Recomputed(nn.Module):
    """Recomputes its layers in the backward pass."""

    def __init__(self, backbone: nn.Module, mode: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.mode = mode
        if mode == "assigned":
            backbone.layers.forward = types.MethodType(recomputed, backbone.layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.mode in ("plain", "assigned") or not torch.is_grad_enabled():
            return self.backbone(x)
        reentrant = self.mode == "reentrant"
        return checkpoint(self.backbone, x.requires_grad_() if reentrant else x, use_reentrant=reentrant)


def recomputing(mode: str, network: nn.Module, *inputs: Tensor) -> Tensor:
    """A forward pass of a network, recomputed in the backward pass."""
    forward = functools.partial(type(network).forward, network)
    if mode == "plain" or not torch.is_grad_enabled():
        return forward(*inputs)
    inputs = tuple(each if each.requires_grad else each.detach().requires_grad_() for each in inputs)
    return checkpoint(forward, *inputs, use_reentrant=mode == "reentrant")


def gradients_of(supervisor: Supervisor) -> list[Tensor]:
    """The gradients of one step on eight images."""
    gradients: list[Tensor] = []

    class Keep(Callback):
        def on_train_begin(self, run: Any) -> None:
            def keep(optimizer: Any, *_: Any) -> None:
                weights = [weight for group in optimizer.param_groups for weight in group["params"]]
                gradients.extend(weight.grad.clone() for weight in weights if weight.grad is not None)

            run.optimizer.register_step_pre_hook(keep)

    supervisor.supervise(callbacks=[Keep()], **RUN | {"batch_size": 8})
    return gradients


def assert_equal_gradients(found: dict[str, list[Tensor]]) -> None:
    for gradients in found.values():
        assert len(gradients) == len(found["plain"]) > 2
        for one, other in zip(gradients, found["plain"], strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_activation_checkpointing_gives_the_same_gradients(
    make: Callable[..., Any], images: Callable[..., Any], tiny_backbone: type
) -> None:
    found = {}
    for mode in ("plain", "assigned", "torch", "reentrant"):
        torch.manual_seed(0)
        found[mode] = gradients_of(make(images(8), backbone=Recomputed(tiny_backbone(), mode)))
    assert_equal_gradients(found)


@pytest.mark.parametrize("name", [name for name, cls in all_supervisors().items() if issubclass(cls, GanSupervisor)])
def test_activation_checkpointing_in_the_discriminator_gives_the_same_gradients(
    images: Callable[..., Any], tiny_backbone: type, name: str
) -> None:
    found = {}
    for mode in ("plain", "torch", "reentrant"):
        torch.manual_seed(0)
        supervisor = all_supervisors()[name](images(8), backbone=tiny_backbone())
        part = supervisor.discriminator
        part = part.backbone if isinstance(part, CombinedNet) else part
        part.forward = types.MethodType(functools.partial(recomputing, mode), part)
        found[mode] = gradients_of(supervisor)
    assert_equal_gradients(found)
