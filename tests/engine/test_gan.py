"""Two players: losses with disjoint gradients, one optimizer, one file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from super_selfish.models import CombinedNet
from super_selfish.supervisors import BiGanSupervisor, ContextNetSupervisor, GanSupervisor
from super_selfish.training import Callback

QUIET = {"verbose": False, "name": "store/test"}


class Flat(nn.Module):
    """Images to one number."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Plain(GanSupervisor):
    """The least that plays: what the network makes of images should look like images."""

    def _forward(self, data: Any) -> Tensor:
        made = self.model(data)
        told = self.discriminator_loss((data,), (made,))
        return told + self.adversarial_loss(self.discriminator_logits(made), 1.0) if self.is_generator_step else told


def make(**arguments: Any) -> Plain:
    torch.manual_seed(0)
    net = CombinedNet(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))
    data = [torch.rand(3, 8, 8) for _ in range(8)]
    return Plain(net, Flat(), data, **arguments)


def gradients(network: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for parameter in network.parameters()]


def test_each_loss_reaches_its_own_player_alone() -> None:
    supervisor = make()
    images = torch.rand(4, 3, 8, 8)
    made = supervisor.model(images)
    supervisor.discriminator_loss((images,), (made,)).backward(retain_graph=True)
    assert all(gradient is None for gradient in gradients(supervisor.model))
    told = [gradient.clone() for gradient in gradients(supervisor.discriminator)]
    assert all(gradient.abs().sum() > 0 for gradient in told)
    supervisor.adversarial_loss(supervisor.discriminator_logits(made), 1.0).backward()
    assert all(gradient.abs().sum() > 0 for gradient in gradients(supervisor.model))
    assert all(torch.equal(*pair) for pair in zip(told, gradients(supervisor.discriminator), strict=True))


def test_the_sum_has_the_gradients_of_its_parts() -> None:
    supervisor = make()
    images = torch.rand(4, 3, 8, 8)
    supervisor._forward(images).backward()
    found = [gradient.clone() for gradient in gradients(supervisor)]
    supervisor.zero_grad()
    bce = nn.BCEWithLogitsLoss()
    made = supervisor.model(images)
    judge = supervisor.discriminator
    for_judge = torch.autograd.grad(
        (bce(judge(images), torch.ones(4, 1)) + bce(judge(made.detach()), torch.zeros(4, 1))) / 2,
        list(judge.parameters()),
    )
    for_maker = torch.autograd.grad(bce(judge(made), torch.ones(4, 1)), list(supervisor.model.parameters()))
    for expected, gradient in zip((*for_maker, *for_judge), found, strict=True):
        assert torch.allclose(expected, gradient, atol=1e-7)


def test_both_players_have_a_rate_of_their_own() -> None:
    seen: list[Any] = []

    def sgd(groups: Any, lr: float) -> Any:
        seen.append(torch.optim.SGD(groups, lr=lr))
        return seen[0]

    make(d_lr=0.3).supervise(lr=0.1, epochs=2, batch_size=4, optimizer=sgd, **QUIET)
    assert [group["lr"] for group in seen[0].param_groups] == [0.1, 0.3]
    sizes = [sum(parameter.numel() for parameter in group["params"]) for group in seen[0].param_groups]
    assert sizes == [2 * 4 * 3 * 9 + 7, 193]


def test_several_steps_of_the_discriminator_for_each_of_the_rest() -> None:
    class Moves(Callback):
        def __init__(self) -> None:
            self.moved: list[tuple[bool, bool]] = []

        def on_train_begin(self, run: Any) -> None:
            self.before = self.state(run.supervisor)

        def on_step_end(self, run: Any) -> None:
            now = self.state(run.supervisor)
            self.moved.append(tuple(not torch.equal(*pair) for pair in zip(self.before, now, strict=True)))
            self.before = now

        @staticmethod
        def state(supervisor: Any) -> list[Tensor]:
            players = (supervisor.model, supervisor.discriminator)
            return [torch.cat([part.detach().flatten() for part in player.parameters()]) for player in players]

    watch = Moves()
    make(d_steps=3).supervise(lr=0.1, epochs=3, batch_size=4, callbacks=[watch], **QUIET)
    assert watch.moved == [(True, True), (False, True), (False, True)] * 2


def test_gradients_are_clipped_for_each_player() -> None:
    supervisor = make()
    players = [supervisor.model, supervisor.discriminator]
    before = [torch.cat([part.detach().flatten() for part in player.parameters()]) for player in players]
    supervisor.supervise(lr=1.0, optimizer=torch.optim.SGD, epochs=1, batch_size=8, clip_grad=1e-3, **QUIET)
    after = [torch.cat([part.detach().flatten() for part in player.parameters()]) for player in players]
    for old, new in zip(before, after, strict=True):
        assert 0.999e-3 <= (new - old).norm() <= 1.001e-3


def test_the_discriminator_is_stored(tmp_path: Any) -> None:
    supervisor = make().supervise(epochs=1, batch_size=4, **QUIET)
    other = make()
    assert not torch.equal(other.discriminator.layers[1].weight, supervisor.discriminator.layers[1].weight)
    other.load("store/test")
    assert torch.equal(other.discriminator.layers[1].weight, supervisor.discriminator.layers[1].weight)


@pytest.mark.parametrize(("argument", "value"), [("d_lr", 0), ("d_lr", "fast"), ("d_steps", 0), ("d_steps", 1.5)])
def test_arguments_out_of_range(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        make(**{argument: value})


@pytest.mark.parametrize("cls", [ContextNetSupervisor, BiGanSupervisor])
def test_a_discriminator_of_ones_own_is_checked(cls: Any) -> None:
    images = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="cannot process its inputs"):
        cls(images, backbone="small_resnet", discriminator=nn.Linear(5, 1))
    with pytest.raises(ValueError, match="`discriminator`"):
        cls(images, backbone="small_resnet", discriminator=lambda *inputs: 1)
    with pytest.raises(ValueError, match="logit"):
        cls(images, backbone="small_resnet", discriminator=Two())


class Two(nn.Module):
    """Two numbers an image."""

    def forward(self, images: Tensor, *codes: Tensor) -> Tensor:
        return images.mean((2, 3))[:, :2]


def test_undecided_judges_cost_ln_2() -> None:
    supervisor = make()
    nn.init.zeros_(supervisor.discriminator.layers[1].weight)
    nn.init.zeros_(supervisor.discriminator.layers[1].bias)
    images = torch.rand(4, 3, 8, 8)
    assert supervisor.discriminator_loss((images,), (images,)).item() == pytest.approx(math.log(2))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_a_discriminator_that_cannot_be_copied_can_judge() -> None:
    convolution = nn.utils.weight_norm(nn.Conv2d(3, 2, 3))
    judge = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    supervisor = ContextNetSupervisor(images, backbone="small_resnet", discriminator=judge)
    assert supervisor.supervise(epochs=1, batch_size=4, **QUIET).train_state.step == 1
