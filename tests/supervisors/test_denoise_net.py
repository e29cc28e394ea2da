"""The denoising autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import SmallResNet, Upsampling
from super_selfish.supervisors import DenoiseNetSupervisor

QUIET = {"verbose": False}


def pictures(count: int = 8, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> DenoiseNetSupervisor:
    arguments.setdefault("backbone", SmallResNet((arguments.get("channels") or 3), width=4))
    return DenoiseNetSupervisor(dataset, **arguments)


def batch(supervisor: DenoiseNetSupervisor, count: int = 3) -> tuple[Tensor, ...]:
    return tuple(torch.stack(parts) for parts in zip(*(supervisor.dataset[i] for i in range(count)), strict=True))


class Perfect(nn.Module):
    """Returns a fixed image for any input."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.answer = torch.zeros(1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer * self.scale


def test_initial_loss_is_that_of_a_zero_output() -> None:
    for arguments in ({}, {"loss_on": "masked"}):
        supervisor = make(pictures(), **arguments)
        for parameter in supervisor.model.predictor.layers[-1].parameters():
            nn.init.zeros_(parameter)
        data = batch(supervisor)
        chosen = data[2].expand_as(data[1]) if arguments else torch.ones_like(data[1], dtype=torch.bool)
        each = [image[own].square().mean() for image, own in zip(data[1], chosen, strict=True)]
        expected = torch.stack(each).mean().item()
        assert supervisor._forward(data).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_the_loss_and_its_gradient_equal_a_naive_loop(loss_on: Any) -> None:
    supervisor = make(pictures(), loss_on=loss_on).eval()
    data = batch(supervisor)
    supervisor._forward(data).backward()
    gradients = [parameter.grad.clone() for parameter in supervisor.model.parameters()]
    supervisor.model.zero_grad()
    errors = []
    for corrupted, clean, mask in zip(*data, strict=True):
        answer = supervisor.model(corrupted[None])[0]
        counts = mask.expand_as(clean) if loss_on == "masked" else torch.ones_like(clean, dtype=torch.bool)
        errors.append(((answer - clean)[counts] ** 2).mean())
    torch.stack(errors).mean().backward()
    for expected, parameter in zip(gradients, supervisor.model.parameters(), strict=True):
        assert torch.allclose(expected, parameter.grad, atol=1e-5)


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_a_perfect_decoder_has_no_loss(loss_on: Any) -> None:
    supervisor = make(pictures(), predictor=Perfect(), loss_on=loss_on)
    data = batch(supervisor)
    supervisor.model.predictor.answer = data[1]
    assert supervisor._forward(data).item() == 0
    wrong = data[1] + data[2] * 0.5
    supervisor.model.predictor.answer = wrong
    expected = 0.25 if loss_on == "masked" else 0.25 * data[2].float().mean().item()
    assert supervisor._forward(data).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("height", "width", "channels"), [(97, 130, 3), (33, 64, 1), (40, 40, 13)])
def test_output_has_the_size_of_the_image(height: int, width: int, channels: int) -> None:
    seen = []

    def noted(reconstruction: Tensor, clean: Tensor) -> Tensor:
        seen.append((reconstruction.shape, clean.shape))
        return nn.functional.mse_loss(reconstruction, clean)

    supervisor = make(pictures(2, height, width, channels), channels=channels, loss=noted)
    supervisor.supervise(epochs=1, batch_size=2, **QUIET)
    assert seen == [((2, channels, height, width),) * 2]


def test_custom_criterion_gets_masked_pixels_only() -> None:
    seen = []

    def absolute(composite: Tensor, clean: Tensor) -> Tensor:
        seen.append((composite != clean).any(dim=1, keepdim=True))
        return (composite - clean).abs().mean()

    supervisor = make(pictures(), loss=absolute, loss_on="masked")
    data = batch(supervisor)
    supervisor._forward(data).backward()
    assert torch.equal(seen[0], data[2])


def test_the_networks() -> None:
    supervisor = DenoiseNetSupervisor()
    assert supervisor.feature_dim == 3136
    steps = [layer for layer in supervisor.model.predictor.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [step.in_channels for step in steps] == [64, 256, 256, 128, 64]
    assert isinstance(supervisor.model.predictor.layers[-1], nn.ConvTranspose2d), "the last layer is plain"
    assert supervisor.get_backbone()(torch.rand(1, 3, 225, 225)).shape == (1, 3136)
    with pytest.raises(ConfigurationError, match=r"maps of shape \(batch, 3, height, width\)"):
        make(pictures(), predictor=Upsampling([32, 4], out_resolution=None))


def test_it_learns_to_restore() -> None:
    generator = np.random.default_rng(0)
    tints = np.repeat(generator.integers(0, 256, (64, 1, 1, 3)), 32, axis=1).repeat(32, axis=2).astype(np.uint8)
    supervisor = make(tints, backbone=SmallResNet(width=8), loss_on="masked", p=0.5)
    supervisor.supervise(lr=3e-3, epochs=9, batch_size=8, **QUIET)
    assert supervisor.history[-1]["loss"] < 0.6 * (tints / 255).var(axis=0).mean()


@pytest.mark.parametrize("normalize", [None, ([0.5] * 3, [0.25] * 3)])
def test_the_preview(normalize: Any) -> None:
    supervisor = make(pictures(4), patch=4, normalize=normalize)
    before = supervisor._preview(batch(supervisor))
    assert [len(row) for row in before.rows] == [2] * 3
    assert "block of 4×4 px" in before.note
    assert "output" not in str([panel.caption for panel in before.rows[0]]) + before.note
    for panel in before.rows[0]:
        assert panel.image.min() >= 0
        assert panel.image.max() <= 1
    assert torch.allclose(before.rows[1][1].image, torch.from_numpy(pictures()[1]).permute(2, 0, 1) / 255, atol=1e-6)
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    after = supervisor._preview(batch(supervisor))
    assert [panel.caption for panel in after.rows[0]] == [
        "input: corrupted",
        "target: original",
        "output: restored",
    ]
    assert supervisor.preview().axes


@pytest.mark.parametrize(
    "arguments",
    [{"p": -0.1}, {"noise": "snow"}, {"patch": 0}, {"sigma": "1"}, {"loss_on": "unmasked"}],
)
def test_invalid_arguments_raise(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(arguments))}` is out of range. Expected: "):
        make(pictures(), **arguments)
