"""The split-brain autoencoder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import super_selfish
from super_selfish.errors import ConfigurationError
from super_selfish.evaluation import extract_features
from super_selfish.models import (
    CombinedNet,
    GroupedBackbone,
    GroupedEfficientFeatures,
    GroupedUpsampling,
    SmallResNet,
    Upsampling,
    rgb_to_lab,
)
from super_selfish.models.lab import normalised_lab
from super_selfish.supervisors import LabelSupervisor, SplitBrainNetSupervisor

QUIET = {"verbose": False}


def pictures(count: int = 8, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> SplitBrainNetSupervisor:
    arguments.setdefault("backbone", SmallResNet(width=4))
    return SplitBrainNetSupervisor(dataset, **arguments)


def batch(supervisor: SplitBrainNetSupervisor, count: int = 3) -> tuple[Tensor, Tensor]:
    lab, classes = zip(*(supervisor.dataset[index] for index in range(count)), strict=True)
    return torch.stack(lab), torch.stack(classes)


def test_initial_loss_is_at_chance_level() -> None:
    for arguments, counts in (({}, (50, 100)), ({"l_step": 10, "ab_step": 64}, (10, 16))):
        supervisor = make(pictures(), **arguments)
        for decoder in supervisor.model.predictor.decoders:
            for parameter in decoder[-1].parameters():
                nn.init.zeros_(parameter)
        loss = supervisor._forward(batch(supervisor)).item()
        assert loss == pytest.approx(math.log(counts[0]) + math.log(counts[1]), abs=1e-4)
        assert arguments or loss == pytest.approx(8.517, abs=1e-3)


@pytest.mark.parametrize("backbone", ["small_resnet", None])
def test_neither_half_predicts_what_it_sees(backbone: Any) -> None:
    supervisor = make(backbone=backbone, resolution=64)
    lab = (torch.rand(2, 3, 64, 64) - 0.5).requires_grad_()
    logits = supervisor.model(lab)
    assert logits.shape[1] == 150
    for part, own, other in ((logits[:, :50], [0], [1, 2]), (logits[:, 50:], [1, 2], [0])):
        weights = torch.rand_like(part)
        (gradient,) = torch.autograd.grad((part * weights).sum(), lab, retain_graph=True)
        assert not gradient[:, own].any(), "predicted from itself"
        assert all(gradient[:, channel].any() for channel in other)


def test_all_halves_get_gradients() -> None:
    supervisor = make(pictures())
    supervisor._forward(batch(supervisor)).backward()
    for name, parameter in supervisor.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_each_decoder_learns_from_its_own_classes() -> None:
    supervisor = make(pictures())
    lab, classes = batch(supervisor)
    logits = supervisor.model(lab)
    lightness = F.interpolate(logits[:, :50], size=(16, 16), mode="bilinear")
    F.cross_entropy(lightness, classes[:, 0]).backward()
    moved = {name for name, parameter in supervisor.model.named_parameters() if parameter.grad.any()}
    kinds = {".".join(name.split(".")[1:3]) for name in moved if not name.startswith("predictor")}
    assert kinds == {"stems.1", "branches.1"}, "lightness is predicted by the half that sees colours"


def test_the_loss_and_its_gradient_equal_a_naive_loop() -> None:
    supervisor = make(pictures()).eval()
    data = batch(supervisor)
    supervisor._forward(data).backward()
    gradients = [parameter.grad.clone() for parameter in supervisor.model.parameters()]
    supervisor.model.zero_grad()
    total = torch.zeros(())
    for lab, classes in zip(*data, strict=True):
        logits = supervisor.model(lab[None])
        assert logits.shape == (1, 150, 16, 16)
        for part, target in zip((logits[0, :50], logits[0, 50:]), classes, strict=True):
            right = torch.gather(part, 0, target[None])[0]
            total = total + (part.exp().sum(0).log() - right).mean() / 3
    total.backward()
    for expected, parameter in zip(gradients, supervisor.model.parameters(), strict=True):
        assert torch.allclose(expected, parameter.grad, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "target_size", "expected"), [((97, 130), None, (16, 17)), ((32, 32), 32, (32, 32)), ((40, 40), 7, (7, 7))]
)
def test_the_logits_are_as_large_as_the_classes(size: Any, target_size: Any, expected: Any) -> None:
    seen = []

    def noted(logits: Tensor, classes: Tensor) -> Tensor:
        seen.append((logits.shape, classes.shape))
        return logits.square().mean()

    supervisor = make(pictures(2, *size), target_size=target_size, loss=noted)
    supervisor.supervise(epochs=1, batch_size=2, **QUIET)
    assert seen == [((2, 150, *expected), (2, 2, *expected))]


def test_the_backbone_takes_rgb_wherever_it_goes() -> None:
    images = pictures(8)
    labels = np.arange(8) % 2
    supervisor = make(images, backbone="small_resnet").supervise(epochs=1, batch_size=4, **QUIET)
    backbone = supervisor.get_backbone()
    rgb = supervisor.preprocess(images)
    assert torch.equal(rgb, torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    lab = normalised_lab(rgb_to_lab(rgb))
    with torch.no_grad():
        expected = supervisor.get_backbone(input="lab")(lab)
        assert torch.equal(backbone(rgb), expected)
        assert supervisor.get_backbone(output="map")(rgb).shape == (8, 512, 4, 4)
        assert torch.allclose(supervisor.get_backbone(output="pooled")(rgb), expected, atol=1e-5)
        flat = supervisor.get_backbone(input="lab", output="flat")(lab)
        assert torch.allclose(flat.view(8, 512, 16).mean(-1), expected, atol=1e-5)
    assert expected.shape[1] == supervisor.feature_dim == 512
    assert not backbone.training
    assert backbone.preprocessing == supervisor.preprocessing
    assert np.allclose(supervisor.extract(images)[0], expected.numpy(), atol=1e-5)
    assert np.allclose(extract_features(backbone, images)[0], expected.numpy(), atol=1e-5)
    loaded = super_selfish.load("store/base")
    assert np.array_equal(loaded.extract(images)[0], supervisor.extract(images)[0])
    net = CombinedNet(loaded.get_backbone(), nn.Linear(loaded.feature_dim, 2))
    LabelSupervisor(net, (images, labels)).supervise(epochs=1, batch_size=4, name="store/head", **QUIET)
    assert torch.allclose(net.backbone(rgb), expected, atol=1e-5), "the backbone stayed frozen"
    with torch.no_grad():
        next(supervisor.model.backbone.parameters()).zero_()
        assert not torch.equal(backbone(rgb), expected), "the backbone is live, not a copy"
    with pytest.raises(ConfigurationError, match="`input` is unknown"):
        supervisor.get_backbone(input="hsv")


def test_the_default_networks() -> None:
    supervisor = SplitBrainNetSupervisor()
    assert supervisor.feature_dim == 3136
    backbone = supervisor.model.backbone
    assert isinstance(backbone, GroupedEfficientFeatures)
    assert [(stem.in_channels, stem.out_channels) for stem in backbone.stems] == [(1, 3), (2, 3)]
    steps = [
        [layer.in_channels for layer in decoder if isinstance(layer, nn.ConvTranspose2d)]
        for decoder in supervisor.model.predictor.decoders
    ]
    assert steps == [[32, 128]] * 2, "from 7×7 to 28×28, for classes of 29×29"
    full = SplitBrainNetSupervisor(target_size=225)
    assert len([layer for layer in full.model.predictor.decoders[0] if isinstance(layer, nn.ConvTranspose2d)]) == 5


@pytest.mark.parametrize("channels", [1, 3])
def test_custom_networks(channels: int) -> None:
    given = SmallResNet(channels, width=4)
    supervisor = make(pictures(4), backbone=given).supervise(epochs=1, batch_size=2, **QUIET)
    assert [stem.out_channels for stem in supervisor.model.backbone.stems] == [channels, channels]
    assert all(parameter.grad is None for parameter in given.parameters())
    loaded = super_selfish.load("store/base", backbone=given)
    assert np.array_equal(loaded.extract(pictures(2))[0], supervisor.extract(pictures(2))[0])


def test_a_backbone_in_two_halves_is_taken_as_it_is() -> None:
    halves = GroupedBackbone([SmallResNet(width=4), SmallResNet(width=4, blocks=2)])
    assert make(backbone=halves).model.backbone is halves
    assert isinstance(make(backbone="efficientnet-b1").model.backbone, GroupedEfficientFeatures)
    unequal = GroupedBackbone([SmallResNet(width=4), SmallResNet(width=8)])
    with pytest.raises(ConfigurationError, match=r"not made of two equal halves.*with \[32, 64\] channels"):
        make(backbone=unequal)
    with pytest.raises(ConfigurationError, match=r"Received: groups=\(2, 1\)"):
        make(backbone=GroupedBackbone(SmallResNet(width=4), groups=(2, 1)))
    with pytest.raises(ConfigurationError, match="`backbone` is no network"):
        make(backbone=3)


def test_predictor_that_is_not_crossed_raises() -> None:
    good = GroupedUpsampling([32, 8], out_resolution=None, sources=(1, 0))
    assert make(predictor=good).model.predictor is good
    with pytest.raises(ConfigurationError, match=r"predicts lightness from the half that sees lightness.*sources"):
        make(predictor=GroupedUpsampling([32, 8], out_resolution=None))
    with pytest.raises(ConfigurationError, match="predicts colour from the half that sees colour"):
        make(predictor=GroupedUpsampling([32, 8], out_resolution=None, sources=(1, 1)))
    with pytest.raises(ConfigurationError, match="predicts lightness from the half that sees lightness"):
        make(predictor=Upsampling([64, 150], out_resolution=None))
    with pytest.raises(ConfigurationError, match=r"maps of shape \(batch, 150, height, width\)"):
        make(predictor=Upsampling([64, 149], out_resolution=None))


def test_incompatible_images_raise() -> None:
    grey = pictures(4, channels=1)
    with pytest.raises(ConfigurationError, match=r"Expected: RGB images\. Received: 1 channel\..*channels=3"):
        make(grey)
    with pytest.raises(ConfigurationError, match="Received: 13 channels"):
        make(pictures(4, channels=13))
    for normalize in ("dataset", ([0.5] * 3, [0.2] * 3)):
        with pytest.raises(ConfigurationError, match="`normalize` has no place here"):
            make(pictures(4), normalize=normalize)
    assert make(grey, channels=3).supervise(epochs=1, batch_size=4, **QUIET).train_state.step == 1


@pytest.mark.parametrize("arguments", [{"l_step": 0}, {"ab_step": None}, {"b_offset": "1"}, {"target_size": (1, 2, 3)}])
def test_invalid_arguments_raise(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(arguments))}` is out of range. Expected: "):
        make(pictures(4), **arguments)


def test_sizes_and_steps_are_stored() -> None:
    make(pictures(4), target_size=(12, 20), l_step=5, backbone="small_resnet").save("store/own")
    loaded = super_selfish.load("store/own", dataset=pictures(4))
    assert (tuple(loaded.target_size), loaded.l_step) == ((12, 20), 5)
    loaded.supervise(epochs=1, batch_size=4, **QUIET)
    assert loaded.dataset[0][1].shape == (2, 12, 20)


def test_the_preview() -> None:
    supervisor = make(pictures(4), crop=None, flip=0.0)
    before = supervisor._preview(batch(supervisor))
    assert [panel.caption for panel in before.rows[0]] == ["image", "lightness L", "colours a, b"]
    assert len(before.rows) == 3
    assert torch.allclose(before.rows[2][0].image, torch.from_numpy(pictures()[2]).permute(2, 0, 1) / 255, atol=1e-4)
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    with torch.no_grad():
        after = supervisor._preview(batch(supervisor))
    assert [panel.caption for panel in after.rows[0]][3:] == ["a, b predicted from L", "L predicted from a, b"]
    for panel in (panel for row in after.rows for panel in row):
        assert 0 <= panel.image.min() <= panel.image.max() <= 1
        assert panel.image.shape[-2:] == (32, 32)
    assert supervisor.preview().axes
