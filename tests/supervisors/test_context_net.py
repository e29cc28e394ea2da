"""Context encoder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import super_selfish
from super_selfish.engine.persistence import stored_arguments
from super_selfish.models import ChannelwiseFC, SmallResNet
from super_selfish.supervisors import ContextNetSupervisor, RotateNetSupervisor

QUIET = {"verbose": False, "name": "store/test"}


def pictures(count: int = 8, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> ContextNetSupervisor:
    torch.manual_seed(0)
    arguments.setdefault("backbone", SmallResNet(width=4))
    return ContextNetSupervisor(dataset, **arguments)


def batch(supervisor: ContextNetSupervisor, count: int = 3) -> list[Tensor]:
    return [torch.stack(parts) for parts in zip(*(supervisor.dataset[i] for i in range(count)), strict=True)]


def frozen_norms(supervisor: ContextNetSupervisor) -> ContextNetSupervisor:
    """Batch statistics would tie the images of a batch together."""
    return supervisor.eval()


@pytest.mark.parametrize("adversarial", [False, True])
def test_the_loss_and_its_gradient_equal_a_naive_loop(adversarial: bool) -> None:
    supervisor = frozen_norms(make(pictures(), adversarial=adversarial, adv_weight=0.25))
    data = batch(supervisor)
    loss = supervisor._forward(data)
    loss.backward()
    found = [None if p.grad is None else p.grad.clone() for p in supervisor.parameters()]
    supervisor.zero_grad()
    expected, composites = torch.zeros(()), []
    for corrupted, clean, mask in zip(*data, strict=True):
        painted = supervisor.model(corrupted[None])[0]
        composite = clean.clone()
        places = mask[0].nonzero().tolist()
        for y, x in places:
            expected = expected + ((painted[:, y, x] - clean[:, y, x]) ** 2).sum() / (3 * len(places)) / 3
            composite[:, y, x] = painted[:, y, x]
        composites.append(composite)
    if adversarial:
        judge = supervisor.discriminator
        real = [(judge(image[None]) - 1) ** 2 / 3 for image in data[1]]
        fake = [judge(image.detach()[None]) ** 2 / 3 for image in composites]
        told = (sum(real) + sum(fake)).squeeze() / 2
        told.backward()
        kept = [None if p.grad is None else p.grad.clone() for p in judge.parameters()]
        fooled = sum((judge(image[None]) - 1) ** 2 / 3 for image in composites).squeeze()
        joint = 0.75 * expected + 0.25 * fooled
        joint.backward()
        for parameter, gradient in zip(judge.parameters(), kept, strict=True):
            parameter.grad = gradient
        expected = told + joint
    else:
        expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for gradient, parameter in zip(found, supervisor.parameters(), strict=True):
        assert (gradient is None) == (parameter.grad is None)
        assert gradient is None or torch.allclose(gradient, parameter.grad, atol=1e-5)


def test_the_loss_ignores_pixels_that_were_not_erased() -> None:
    supervisor = frozen_norms(make(pictures()))
    corrupted, clean, mask = batch(supervisor)
    painted = supervisor.model(corrupted)
    painted.retain_grad()
    supervisor.model.forward = lambda _images: painted  # type: ignore[method-assign]
    supervisor._forward((corrupted, clean, mask)).backward()
    touched = painted.grad.abs().sum(1, keepdim=True) > 0
    assert not touched[~mask].any()
    assert touched[mask].all()
    other = torch.where(mask, painted, painted + 5.0)
    supervisor.model.forward = lambda _images: other  # type: ignore[method-assign]
    moved = supervisor._forward((corrupted, clean, mask))
    supervisor.model.forward = lambda _images: painted  # type: ignore[method-assign]
    assert moved.item() == pytest.approx(supervisor._forward((corrupted, clean, mask)).item(), abs=1e-6)


def test_loss_of_perfect_inpainting_and_undecided_discriminator() -> None:
    supervisor = make(pictures())
    nn.init.zeros_(supervisor.discriminator.predictor.layers[-1].weight)
    nn.init.zeros_(supervisor.discriminator.predictor.layers[-1].bias)
    corrupted, clean, mask = batch(supervisor)
    supervisor.model.forward = lambda _images: clean.clone()  # type: ignore[method-assign]
    assert supervisor._forward((corrupted, clean, mask)).item() == pytest.approx(0.5 + 0.001, abs=1e-6)
    alone = make(pictures(), adversarial=False)
    alone.model.forward = lambda _images: clean.clone()  # type: ignore[method-assign]
    assert alone._forward((corrupted, clean, mask)).item() == 0


def test_the_paper_s_cross_entropy() -> None:
    supervisor = make(pictures(), loss=nn.BCEWithLogitsLoss(), adv_weight=1.0)
    for part in (
        supervisor.discriminator.predictor.layers[-1].weight,
        supervisor.discriminator.predictor.layers[-1].bias,
    ):
        nn.init.zeros_(part)
    assert supervisor._forward(batch(supervisor)).item() == pytest.approx(2 * math.log(2), abs=1e-5)


@pytest.mark.parametrize("adversarial", [False, True])
def test_all_networks_are_updated(adversarial: bool) -> None:
    supervisor = make(pictures(), adversarial=adversarial)
    before = {name: value.detach().clone() for name, value in supervisor.named_parameters()}
    supervisor.supervise(lr=0.1, epochs=1, batch_size=8, **QUIET)
    assert all(not torch.equal(before[name], value) for name, value in supervisor.named_parameters())
    assert (supervisor.discriminator is not None) == adversarial
    assert any(name.startswith("discriminator") for name in before) == adversarial


def test_custom_criterion_gets_errors_of_erased_blocks_only() -> None:
    seen = []

    def absolute(composite: Tensor, clean: Tensor) -> Tensor:
        seen.append((composite - clean).abs().sum(1) > 0)
        return (composite - clean).abs().mean()

    supervisor = make(pictures(), fake_loss=absolute, adversarial=False)
    data = batch(supervisor)
    supervisor._forward(data)
    assert torch.equal(seen[0], data[2][:, 0])


def test_the_default_networks() -> None:
    supervisor = ContextNetSupervisor()
    spread = next(part for part in supervisor.model.modules() if isinstance(part, ChannelwiseFC))
    assert spread.weights[0].shape == (64, 49, 49), "weights of its own for each channel"
    assert supervisor.model(torch.rand(2, 3, 225, 225)).shape == (2, 3, 224, 224)
    assert supervisor.discriminator(torch.rand(2, 3, 225, 225)).shape == (2, 1)
    assert supervisor.feature_dim == 3136
    assert isinstance(supervisor.discriminator.predictor.layers[-1], nn.Linear)


def test_channels_do_not_mix_before_they_should() -> None:
    spread = ChannelwiseFC([4, 4], channels=3)
    images = torch.rand(1, 3, 2, 2, requires_grad=True)
    spread(images)[0, 1].sum().backward()
    assert images.grad[0, 1].abs().sum() > 0
    assert images.grad[0, [0, 2]].abs().sum() == 0


def test_large_maps_are_averaged_before_they_are_connected() -> None:
    supervisor = make(pictures(4, 96, 128))  # a map of 12×16
    spread = next(part for part in supervisor.model.modules() if isinstance(part, ChannelwiseFC))
    assert spread.weights[0].shape == (32, 64, 64)
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)


def test_weights_load_without_images() -> None:
    trained = make(pictures(8, 40, 48), backbone="small_resnet").supervise(epochs=1, batch_size=4, **QUIET)
    loaded = super_selfish.load("store/test")
    assert np.array_equal(loaded.extract(pictures(3, 40, 48))[0], trained.extract(pictures(3, 40, 48))[0])
    assert torch.equal(
        loaded.discriminator.predictor.layers[-1].weight, trained.discriminator.predictor.layers[-1].weight
    )


def test_preview_shows_inpainted_blocks() -> None:
    supervisor = make(pictures())
    before = supervisor.preview(count=2)
    assert sum("erased" in text.get_text() for text in before.axes[0].texts) >= 2
    assert not any("inpainted" in text.get_text() for text in before.axes[0].texts)
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    texts = [text.get_text() for text in supervisor.preview(count=2).axes[0].texts]
    assert texts.count("inpainted") == 2
    assert any("in the erased blocks" in text for text in texts)


@pytest.mark.parametrize(("argument", "value"), [("p", -1), ("adv_weight", 2), ("adversarial", 1), ("block_fill", "x")])
def test_arguments_out_of_range_raise(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        make(pictures(), **{argument: value})


def test_files_of_0_1_0_call_block_fill_fill() -> None:
    before = {"supervisor": "context_net", "arguments": {"p": 0.3, "fill": 0.5}}
    arguments = stored_arguments(ContextNetSupervisor, before)
    assert (arguments["block_fill"], "fill" in arguments) == (0.5, False)
    now = {"supervisor": "context_net", "arguments": {"block_fill": 0.5, "fill": 7.0}}
    assert stored_arguments(ContextNetSupervisor, now).items() >= {"block_fill": 0.5, "fill": 7.0}.items()
    other = {"supervisor": "rotate_net", "arguments": {"fill": 7.0}}
    assert stored_arguments(RotateNetSupervisor, other) == {"fill": 7.0}


def test_fill_without_block_fill_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    ContextNetSupervisor(backbone="small_resnet", channels=3, resolution=32, fill=0.5)
    assert "block_fill" in caplog.text
