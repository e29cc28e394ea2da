"""Runs in half precision."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from super_selfish.engine.loop.precision import Precision
from super_selfish.errors import ConfigurationError, NonFiniteLoss
from super_selfish.models import CombinedNet, SmallResNet
from super_selfish.supervisors import (
    InstanceDiscriminationSupervisor,
    MomentumContrastSupervisor,
    RotateNetSupervisor,
    Supervisor,
    all_supervisors,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
CPU = torch.device("cpu")


def some_daily() -> list[Any]:
    """Every algorithm; three of them every day."""
    daily = {"bi_gan", "contrastive_predictive_coding", "pirl"}
    return [name if name in daily else pytest.param(name, marks=pytest.mark.slow) for name in sorted(all_supervisors())]


def quiet(path: Any) -> dict[str, Any]:
    return {"epochs": 1, "batch_size": 8, "name": path / "run", "verbose": False}


class Noted(SmallResNet):
    """Remembers what numbers its last convolution computed with."""

    def __init__(self) -> None:
        super().__init__(width=4)
        self.seen: set[torch.dtype] = set()
        last = [part for part in self.modules() if isinstance(part, nn.Conv2d)][-1]
        last.register_forward_hook(lambda _module, _inputs, made: self.seen.add(made.dtype))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("16", torch.float16)])
def test_layers_compute_in_half_and_everything_else_stays_float32(
    precision: str, dtype: torch.dtype, tmp_path: Any
) -> None:
    seen: list[torch.dtype] = []

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        seen.append(logits.dtype)
        return nn.functional.cross_entropy(logits, target)

    backbone = Noted()
    supervisor = MomentumContrastSupervisor(IMAGES, backbone=backbone, loss=loss, queue_size=32)
    before = [parameter.detach().clone() for parameter in supervisor.trainable_parameters()]
    backbone.seen.clear()
    supervisor.supervise(precision=precision, **quiet(tmp_path))
    assert backbone.seen == {dtype}  # of the key encoder, a copy, too
    assert seen == [torch.float32] * 2
    assert supervisor.queue.data().dtype == torch.float32
    assert torch.allclose(supervisor.queue.data().norm(dim=1), torch.ones(32), atol=1e-5)
    after = supervisor.trainable_parameters()
    assert {parameter.dtype for parameter in after} == {torch.float32}
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    backbone.seen.clear()
    supervisor.get_backbone()(torch.rand(1, 3, 32, 32))
    assert backbone.seen == {torch.float32}  # the precision is the run's, not the network's


@pytest.mark.parametrize("name", some_daily())
def test_every_algorithm_trains_in_bfloat16(name: str, tmp_path: Any) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"backbone": SmallResNet(width=4)}
    if name == "exemplar_net":
        options |= {"n_classes": 8, "n_trans": 2}
    if name == "contrastive_predictive_coding":
        options |= {"patch_size": 8}
    supervisor = all_supervisors()[name](IMAGES, **options)
    plain = [parameter.detach().clone() for parameter in supervisor.trainable_parameters()]
    supervisor.supervise(precision="bf16", **quiet(tmp_path))
    assert np.isfinite(supervisor.history[0]["loss"])
    assert any(not torch.equal(a, b) for a, b in zip(plain, supervisor.trainable_parameters(), strict=True))
    dtypes = {value.dtype for value in supervisor.state_dict().values()}
    assert not dtypes & {torch.bfloat16, torch.float16}


def test_losses_of_both_precisions_are_close(tmp_path: Any) -> None:
    losses = {}
    for precision in ("32", "bf16", "16"):
        torch.manual_seed(0)
        supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=8))
        losses[precision] = supervisor.supervise(precision=precision, **quiet(tmp_path)).history[0]["loss"]
    assert losses["bf16"] == pytest.approx(losses["32"], rel=0.05)
    assert losses["16"] == pytest.approx(losses["32"], rel=0.05)
    assert len(set(losses.values())) == 3


def network() -> tuple[CombinedNet, torch.optim.Optimizer]:
    net = CombinedNet(nn.Flatten(), nn.Linear(4, 1))
    return net, torch.optim.SGD(net.parameters(), lr=1.0)


def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    precision = Precision("16", CPU)
    net, optimizer = network()
    before = net.predictor.weight.detach().clone()
    precision.backward(net(torch.ones(1, 4)).sum() * 1e36)
    assert not precision.step(optimizer)
    assert torch.equal(net.predictor.weight, before)
    assert precision.state_dict()["scale"] == 2.0**15
    optimizer.zero_grad()
    precision.backward(net(torch.ones(1, 4)).sum())
    precision.unscale(optimizer)
    assert torch.equal(net.predictor.weight.grad, torch.ones(1, 4))  # at its own scale again
    assert precision.step(optimizer)
    assert torch.allclose(net.predictor.weight, before - 1)


def test_gradients_that_never_fit_are_told() -> None:
    precision = Precision("16", CPU)
    net, optimizer = network()
    for _ in range(16):
        precision.backward(net(torch.ones(1, 4)).sum() * float("nan"))
        precision.step(optimizer)
    precision.backward(net(torch.ones(1, 4)).sum() * float("nan"))
    with pytest.raises(NonFiniteLoss, match="however the loss is scaled"):
        precision.step(optimizer)


def test_a_loss_that_is_no_number_is_no_overflow(tmp_path: Any) -> None:
    class Fails(RotateNetSupervisor):
        def _forward(self, data: Any) -> Tensor:
            return super()._forward(data) * (float("nan") if self.train_state.step == 1 else 1.0)

    with pytest.raises(NonFiniteLoss, match=r"not finite in epoch 1.*step 2"):
        Fails(IMAGES, backbone=SmallResNet(width=4)).supervise(precision="16", **quiet(tmp_path) | {"batch_size": 4})
    supervisor = Fails(IMAGES, backbone=SmallResNet(width=4))
    with pytest.raises(NonFiniteLoss, match="1 updates were skipped already"):
        supervisor.supervise(
            precision="16", on_nonfinite="skip", nonfinite_limit=1, **quiet(tmp_path) | {"batch_size": 4}
        )


def test_a_fused_optimizer_would_hide_what_it_leaves_out(tmp_path: Any) -> None:
    fused = functools.partial(torch.optim.AdamW, fused=True)
    supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4))
    with pytest.raises(ConfigurationError, match="fused"):
        supervisor.supervise(precision="16", optimizer=fused, **quiet(tmp_path))


def test_a_skipped_step_does_not_move_schedule_or_cursor(tmp_path: Any) -> None:
    class Overflows(RotateNetSupervisor):
        calls = 0

        def _forward(self, data: Any) -> Tensor:
            self.calls += 1
            return super()._forward(data) * (1e37 if self.calls == 1 else 1.0)

    supervisor = Overflows(IMAGES, backbone=SmallResNet(width=4))
    schedules = []

    def schedule(optimizer: torch.optim.Optimizer) -> Any:
        schedules.append(torch.optim.lr_scheduler.StepLR(optimizer, 100))
        return schedules[0]

    supervisor.supervise(precision="16", lr_scheduler=schedule, on_nonfinite="ignore", **quiet(tmp_path))
    assert (supervisor.calls, supervisor.train_state.step, supervisor.train_state.samples) == (2, 1, 16)
    assert schedules[0].last_epoch == 1
    assert supervisor.train_state.epoch == 1


@pytest.mark.parametrize(("bad", "moved"), [((), 2), ((2,), 2), ((1,), 2), ((1, 2), 1)])
def test_the_schedule_follows_epochs_whose_last_step_is_skipped(bad: Any, moved: int, tmp_path: Any) -> None:
    class Overflows(RotateNetSupervisor):
        calls = 0

        def _forward(self, data: Any) -> Tensor:
            self.calls += 1
            return super()._forward(data) * (1e37 if self.calls in bad else 1e-3)

    supervisor = Overflows(IMAGES, backbone=SmallResNet(width=4))
    rates = []

    def schedule(optimizer: torch.optim.Optimizer) -> Any:
        rates.append(torch.optim.lr_scheduler.StepLR(optimizer, 100))
        return rates[0]

    settings = quiet(tmp_path) | {"epochs": 2, "scheduler_interval": "epoch", "on_nonfinite": "ignore"}
    supervisor.supervise(precision="16", lr_scheduler=schedule, **settings)
    assert supervisor.train_state.epoch == moved
    assert rates[0].last_epoch == moved


@pytest.mark.parametrize("own_loop", [False, True])
def test_an_epoch_whose_steps_all_overflow_is_reported_once_and_not_counted(
    own_loop: bool, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Overflows(RotateNetSupervisor):
        calls = 0

        def _forward(self, data: Any) -> Tensor:
            self.calls += 1
            return super()._forward(data) * (1e37 if self.calls <= 4 else 1.0)

    class Loop(Overflows):
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            for _ in range(epochs):
                for data in train_loader:
                    self._update(self._forward(data), optimizer, lr_scheduler)

    schedules: list[Any] = []

    def schedule(optimizer: torch.optim.Optimizer) -> Any:
        schedules.append(torch.optim.lr_scheduler.StepLR(optimizer, 100))
        return schedules[0]

    supervisor = (Loop if own_loop else Overflows)(IMAGES, backbone=SmallResNet(width=4))
    settings = quiet(tmp_path) | {"batch_size": len(IMAGES) // 4, "epochs": 2, "lr_scheduler": schedule}
    supervisor.supervise(precision="16", **settings)
    assert (supervisor.train_state.epoch, supervisor.train_state.step, len(supervisor.history)) == (1, 4, 1)
    assert schedules[0].last_epoch == 4
    assert sum("All 4 steps of an epoch were skipped" in message for message in caplog.messages) == 1
    assert not [message for message in caplog.messages if "optimizer step" in message]


def test_a_run_in_float16_resumes_with_its_scale(tmp_path: Any) -> None:
    def run(epochs: int, resume: bool) -> Supervisor:
        torch.manual_seed(0)
        supervisor = InstanceDiscriminationSupervisor(IMAGES, backbone=SmallResNet(width=4), n=8, centred=False)
        settings = quiet(tmp_path) | {"epochs": epochs, "name": tmp_path / name, "batch_size": 4}
        return supervisor.supervise(precision="16", resume=resume, **settings)

    name = "whole"
    whole = run(3, False)
    name = "parts"
    assert run(2, False).train_state.step > 0
    resumed = run(3, True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_an_own_update_needs_bfloat16(tmp_path: Any) -> None:
    class Own(RotateNetSupervisor):
        def _update(self, loss: Tensor, optimizer: Any, lr_scheduler: Any) -> None:
            super()._update(loss, optimizer, lr_scheduler)

    supervisor = Own(IMAGES, backbone=SmallResNet(width=4))
    with pytest.raises(ConfigurationError, match=r"own `_update`.*bf16"):
        supervisor.supervise(precision="16", **quiet(tmp_path))
    supervisor.supervise(precision="bf16", **quiet(tmp_path))


@pytest.mark.parametrize("precision", ["float16", 16, None])
def test_other_precisions_are_refused(precision: Any, tmp_path: Any) -> None:
    supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4))
    with pytest.raises(ConfigurationError, match="'32' or 'fp32' or 'bf16' or '16' or 'fp16'"):
        supervisor.supervise(precision=precision, **quiet(tmp_path))
