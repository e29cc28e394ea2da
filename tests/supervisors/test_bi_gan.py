"""BiGAN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import super_selfish
from super_selfish.models import CombinedNet, SmallResNet
from super_selfish.models.bidirectional import strided_convolutions
from super_selfish.supervisors import BiGanSupervisor

QUIET = {"verbose": False, "name": "store/test"}


def pictures(count: int = 8, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> BiGanSupervisor:
    torch.manual_seed(0)
    arguments.setdefault("backbone", SmallResNet(width=4))
    return BiGanSupervisor(dataset, **arguments)


def batch(supervisor: BiGanSupervisor, count: int = 3) -> list[Tensor]:
    return [torch.stack(parts) for parts in zip(*(supervisor.dataset[i] for i in range(count)), strict=True)]


def grads(network: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("rec_weight", [0.0, 0.5])
def test_the_loss_and_its_gradient_equal_a_naive_loop(rec_weight: float) -> None:
    supervisor = make(pictures(), rec_weight=rec_weight).eval()  # batch statistics would tie the images together
    codes, images = batch(supervisor)
    loss = supervisor._forward((codes, images))
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in supervisor.named_parameters()}
    supervisor.zero_grad()
    judge, net = supervisor.discriminator, supervisor.model
    told, fooled = torch.zeros(()), torch.zeros(())
    for z, x in zip(codes, images, strict=True):
        real = judge(x[None], net.features(x[None])).squeeze()
        fake = judge(net.predict(z[None]), z[None]).squeeze()
        told = told - (real.sigmoid().log() + (1 - fake.sigmoid()).log()) / 2 / 3
        fooled = fooled - ((1 - real.sigmoid()).log() + fake.sigmoid().log()) / 2 / 3
        if rec_weight:
            fooled = fooled + rec_weight * ((net.predict(net.features(x[None])) - x) ** 2).mean() / 3
    players = [list(net.parameters()), list(judge.parameters())]
    expected = [
        *torch.autograd.grad(fooled, players[0], retain_graph=True),
        *torch.autograd.grad(told, players[1]),
    ]
    assert loss.item() == pytest.approx((told + fooled).item(), abs=1e-5)
    names = [f"model.{name}" for name, _ in net.named_parameters()]
    names += [f"discriminator.{name}" for name, _ in judge.named_parameters()]
    for name, gradient in zip(names, expected, strict=True):
        assert torch.allclose(found[name], gradient, atol=1e-5), name


def test_loss_of_an_undecided_discriminator_is_twice_ln_2() -> None:
    supervisor = make(pictures())
    nn.init.zeros_(supervisor.discriminator.head.layers[-1].weight)
    nn.init.zeros_(supervisor.discriminator.head.layers[-1].bias)
    assert supervisor._forward(batch(supervisor)).item() == pytest.approx(2 * math.log(2), abs=1e-6)


def test_generator_loss_updates_encoder_and_generator_only() -> None:
    supervisor = make(pictures())
    codes, images = batch(supervisor)
    real = supervisor.discriminator_logits(images, supervisor.model.features(images))
    supervisor.adversarial_loss(real, 0.0).backward()
    assert all(gradient.abs().sum() > 0 for gradient in grads(supervisor.model.backbone))
    assert grads(supervisor.model.predictor) == []
    assert grads(supervisor.discriminator) == []
    supervisor.zero_grad()
    supervisor.adversarial_loss(supervisor.discriminator_logits(supervisor.model.predict(codes), codes), 1.0).backward()
    assert len(grads(supervisor.model.predictor)) == len(list(supervisor.model.predictor.parameters()))
    assert grads(supervisor.model.backbone) == []
    assert grads(supervisor.discriminator) == []


def test_discriminator_loss_updates_discriminator_only() -> None:
    supervisor = make(pictures())
    codes, images = batch(supervisor)
    generated, code = supervisor.model.predict(codes), supervisor.model.features(images)
    supervisor.discriminator_loss((images, code), (generated, codes)).backward()
    assert grads(supervisor.model) == []
    assert len(grads(supervisor.discriminator)) == len(list(supervisor.discriminator.parameters()))


def test_the_encoder_moves_in_one_step() -> None:
    supervisor = make(pictures())
    before = {name: value.detach().clone() for name, value in supervisor.named_parameters()}
    supervisor.supervise(lr=1e-3, epochs=1, batch_size=8, **QUIET)
    for part in ("model.backbone", "model.latent", "model.predictor", "discriminator"):
        moved = [not torch.equal(old, supervisor.get_parameter(name)) for name, old in before.items() if part in name]
        assert moved, part
        assert all(moved), part


def test_codes_of_any_sign_behind_a_backbone_that_has_none() -> None:
    supervisor = make(pictures())
    code = supervisor.model.features(batch(supervisor)[1])
    assert code.shape == (3, 32, 4, 4)
    assert code.min() < 0 < code.max()


def test_the_default_networks() -> None:
    supervisor = BiGanSupervisor()
    assert supervisor.feature_dim == 1568
    assert supervisor.get_backbone()(torch.rand(1, 3, 225, 225)).min() < 0, "no activation behind the last convolution"
    supervisor = BiGanSupervisor(pictures(4, 64, 96))
    codes, images = batch(supervisor, 2)
    assert codes.shape == (2, 32, 2, 3)
    assert supervisor.model.features(images).shape == codes.shape
    assert supervisor.model.predict(codes).shape == images.shape
    net = CombinedNet(supervisor.get_backbone(), nn.Linear(supervisor.feature_dim, 10))
    assert net(images).shape == (2, 10)


def test_shapes_of_codes() -> None:
    assert make(pictures(), shape=(5, 4, 4)).dataset[0][0].shape == (5, 4, 4)
    with pytest.raises(ValueError, match=r"`shape`.*\(32, 4, 4\)"):
        make(pictures(), shape=(32, 7, 7))
    with pytest.raises(ValueError, match=r"`shape`"):
        make(pictures(), shape=(32, 7))


def test_custom_rand_gen_is_reproducible() -> None:
    ends = []
    for _ in range(2):
        supervisor = make(pictures(), rand_gen=np.random.rand).supervise(epochs=1, batch_size=4, **QUIET)
        ends.append(torch.cat([parameter.detach().flatten() for parameter in supervisor.parameters()]))
    assert torch.equal(*ends)


def test_weights_load_without_images() -> None:
    trained = make(pictures(8, 40, 48), backbone="small_resnet").supervise(epochs=1, batch_size=4, **QUIET)
    loaded = super_selfish.load("store/test")
    assert np.array_equal(loaded.extract(pictures(3, 40, 48))[0], trained.extract(pictures(3, 40, 48))[0])
    codes = torch.rand(2, 32, 5, 6)
    assert torch.equal(loaded.model.predict(codes), trained.model.predict(codes))


def test_preview_shows_image_reconstruction_and_fake() -> None:
    supervisor = make(pictures())
    captions = ("image x", "G(E(x))", "G(z), z random")
    for counts in ([2, 0, 0], [2, 2, 2]):
        texts = [text.get_text() for text in supervisor.preview(count=2).axes[0].texts]
        assert [texts.count(caption) for caption in captions] == counts
        supervisor.train_state.step = 1


@pytest.mark.parametrize(("argument", "value"), [("rec_weight", -1), ("rand_gen", 3), ("d_lr", -1)])
def test_arguments_out_of_range_raise(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        make(pictures(), **{argument: value})


@pytest.mark.parametrize(
    ("size", "features"),
    [((225, 225), 1152), ((32, 32), 512), ((64, 96), 768), ((8, 8), 256), ((31, 33), 256), ((16, 256), 384)],
)
def test_the_convolutions_of_the_discriminator(size: tuple[int, int], features: int) -> None:
    layers, found = strided_convolutions(4, size)
    assert layers(torch.rand(2, 4, *size)).flatten(1).shape == (2, found)
    assert found == features


def test_the_discriminator_sees_the_contrast_of_a_batch() -> None:
    """Batch norm in the first layer would remove it, as generated images are a batch of their own."""
    torch.manual_seed(0)
    layers, _ = strided_convolutions(3, (32, 32))
    images = torch.rand(8, 3, 32, 32) - 0.5
    first = [layers[0](images * contrast).abs().mean().item() for contrast in (1.0, 4.0)]
    assert first[1] > 3 * first[0]


def test_the_discriminator_of_0_1_is_like_the_backbone() -> None:
    supervisor = make(pictures(), backbone="small_resnet", discriminator_type="backbone")
    assert isinstance(supervisor.discriminator.backbone, SmallResNet)
    assert not isinstance(make(pictures()).discriminator.backbone, SmallResNet)
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    assert super_selfish.load("store/test").discriminator_type == "backbone"
    with pytest.raises(ValueError, match=r"`discriminator_type`.*'dcgan' or 'backbone'"):
        make(pictures(), discriminator_type="dcgam")
