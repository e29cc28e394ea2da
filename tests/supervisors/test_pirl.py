"""PIRL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.transforms import v2

import super_selfish
from super_selfish.data import AugmentationIndexedDataset, MoCoTransform, PIRLImageTransform
from super_selfish.models import Classification, SmallResNet
from super_selfish.supervisors import PIRLSupervisor

QUIET = {"verbose": False, "name": "store/test"}


def pictures(count: int = 8, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> PIRLSupervisor:
    torch.manual_seed(0)
    arguments.setdefault("backbone", SmallResNet(arguments.get("channels") or 3, width=4, norm_type="layer"))
    arguments.setdefault("centred", False)  # each image by itself: tests compare single embeddings
    return PIRLSupervisor(dataset, **arguments)


def batch(indices: tuple[int, ...] = (5, 0, 3, 6), seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images, puzzles = torch.rand(2, len(indices), 3, 32, 32, generator=generator)
    return images, puzzles, torch.tensor(indices)


def gradients(module: nn.Module) -> list[Tensor | None]:
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in module.parameters()]


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_the_loss_and_its_gradients_equal_a_naive_loop(lam: float) -> None:
    supervisor = make(pictures(), lam=lam, t=0.3, n=0)
    data = images, puzzles, indices = batch()
    supervisor._forward(data).backward()
    found = gradients(supervisor)
    supervisor.zero_grad()
    rows = supervisor.memory.memory
    total = torch.zeros(())
    for place, own in enumerate(indices.tolist()):
        of_image = F.normalize(supervisor.model(images[place : place + 1]))[0]
        of_puzzle = F.normalize(supervisor.predictor_g(supervisor.model.backbone(puzzles[place : place + 1])))[0]
        for weight, anchor in ((1 - lam, of_image), (lam, of_puzzle)):
            scores = {row: anchor @ rows[row] / 0.3 for row in range(len(rows))}
            others = [scores[row] for row in scores if row != own]
            loss = -(scores[own] - torch.stack([scores[own], *others]).exp().sum().log())
            total = total + weight * loss / len(indices)
    total.backward()
    for mine, naive in zip(found, gradients(supervisor), strict=True):
        zeros = torch.zeros(()) if naive is None else torch.zeros_like(naive)
        assert torch.allclose(zeros if mine is None else mine, zeros if naive is None else naive, atol=1e-5)
    assert supervisor._forward(data).item() == pytest.approx(total.item(), abs=1e-5)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shared_negatives", [True, False])
def test_the_first_loss_follows_from_the_number_of_negatives(lam: float, shared_negatives: bool) -> None:
    torch.manual_seed(1)
    supervisor = make(pictures(2000), n=500, lam=lam, shared_negatives=shared_negatives)
    losses = []
    for seed in range(8):
        # random rows and random anchors are independent: with as many directions as in the bank the formula holds
        anchors = F.normalize(torch.randn(200, 128))
        supervisor.embeddings = lambda _data, made=anchors: (made,)  # type: ignore[method-assign]
        supervisor._jigsaw_embeddings = lambda _puzzles, made=anchors: made.roll(1, 0)  # type: ignore[method-assign]
        rows = torch.randperm(2000)[:200]
        losses.append(supervisor.eval()._forward((*batch(seed=seed)[:2], rows)).item())
    expected = math.log(501) + 1 / (2 * 0.07**2 * 128)
    assert np.mean(losses) == pytest.approx(expected, abs=0.1)  # 7.01


def test_zero_embeddings_give_the_logarithm_of_the_choices() -> None:
    supervisor = make(pictures(), n=0)
    for head in (supervisor.model.predictor, supervisor.predictor_g):
        nn.init.zeros_(head.layers[-1].weight)
        nn.init.zeros_(head.layers[-1].bias)
    assert supervisor._forward(batch()).item() == pytest.approx(math.log(8), abs=1e-5)


def test_no_gradient_where_there_is_no_weight() -> None:
    for lam, silent, heard in ((0.0, "predictor_g", "model.predictor"), (1.0, "model.predictor", "predictor_g")):
        supervisor = make(pictures(), lam=lam)
        supervisor._forward(batch()).backward()
        assert all(grad is None for grad in gradients(supervisor.get_submodule(silent)))
        assert all(grad is not None and grad.any() for grad in gradients(supervisor.get_submodule(heard)))
        assert any(grad.any() for grad in gradients(supervisor.model.backbone))
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)  # an optimizer takes parameters without gradient
    assert supervisor.train_state.step == 2


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_bank_stores_embeddings_of_images_after_the_update(lam: float) -> None:
    supervisor = make(pictures(), lam=lam, memory_m=0.5)
    before = supervisor.memory.memory.clone()
    data = images, _, indices = batch((5, 0, 3))
    with torch.no_grad():
        of_images = F.normalize(supervisor.model(images))
    supervisor._forward(data)
    assert torch.equal(supervisor.memory.memory, before)
    supervisor._after_update()
    expected = before.clone()
    expected[indices] = F.normalize((before[indices] + of_images) / 2)
    assert torch.allclose(supervisor.memory.memory, expected, atol=1e-6)
    supervisor.eval()._forward(data)
    supervisor._after_update()
    assert torch.allclose(supervisor.memory.memory, expected, atol=1e-6), "a look changes nothing"


@pytest.mark.parametrize("shared_negatives", [True, False])
def test_own_entry_is_never_a_negative(shared_negatives: bool) -> None:
    """The own row is the anchor, the others are its opposite: one more of its kind would double the choices."""
    supervisor = make(pictures(), shared_negatives=shared_negatives, n=3, t=0.05, lam=0.5)
    anchor = F.normalize(torch.randn(1, 128))
    supervisor.embeddings = lambda data: (anchor.expand(len(data[2]), -1),)  # type: ignore[method-assign]
    supervisor._jigsaw_embeddings = lambda puzzles: anchor.expand(len(puzzles), -1)  # type: ignore[method-assign]
    for own in range(8):
        supervisor.memory.memory.copy_(-anchor.expand(8, -1))
        supervisor.memory.memory[own] = anchor[0]
        for step in range(5):
            supervisor.train_state.step = step
            assert supervisor.eval()._forward(batch((own,))).item() == pytest.approx(0.0, abs=1e-6)


def test_both_heads_are_trained_and_start_with_weights_of_their_own() -> None:
    supervisor = make(pictures())
    pairs = list(zip(supervisor.model.predictor.parameters(), supervisor.predictor_g.parameters(), strict=True))
    assert any(not torch.equal(f, g) for f, g in pairs)
    trainable = {id(parameter) for parameter in supervisor.trainable_parameters()}
    assert all(id(f) in trainable and id(g) in trainable for f, g in pairs)
    before = [parameter.detach().clone() for parameter in supervisor.predictor_g.parameters()]
    supervisor.supervise(epochs=1, batch_size=8, **QUIET)
    assert all(not torch.equal(a, b) for a, b in zip(before, supervisor.predictor_g.parameters(), strict=True))


def test_batch_norm_in_the_last_layer_of_the_heads_only() -> None:
    supervisor = PIRLSupervisor(embedding_size=32)
    for head in (supervisor.model.predictor, supervisor.predictor_g):
        linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in linear] == [(3136, 1024), (1024, 1024), (1024, 32)]
        assert isinstance(head.layers[-1], nn.BatchNorm1d)
    assert sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in supervisor.modules()) == 2


def test_stored_and_loaded_with_both_heads_and_the_bank() -> None:
    supervisor = make(pictures()).supervise(epochs=1, batch_size=4, **QUIET)
    loaded = super_selfish.load("store/test", backbone=SmallResNet(width=4, norm_type="layer"))
    own = supervisor.state_dict()
    assert {key.split(".")[0] for key in own} == {"model", "predictor_g", "memory"}
    assert all(torch.equal(value, own[key]) for key, value in loaded.state_dict().items())
    head = Classification([32, 128])
    supervisor = make(pictures(), predictor_g=head).supervise(epochs=1, batch_size=4, **QUIET)
    assert supervisor.predictor_g is head
    with pytest.raises(OSError, match="custom predictor_g"):
        super_selfish.load("store/test", backbone=SmallResNet(width=4, norm_type="layer"))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (97, 130), (225, 225)])
@pytest.mark.parametrize("backbone", [nn.Sequential(nn.Conv2d(3, 2, 5, 8), nn.Flatten()), nn.Conv2d(3, 2, 5, 8)])
def test_shuffled_patches_fit_the_head_at_any_size(height: int, width: int, backbone: nn.Module) -> None:
    supervisor = make(pictures(4, height, width), backbone=backbone)
    image, puzzle, index = supervisor.dataset[3]
    assert image.shape == puzzle.shape == (3, height, width)
    assert index == 3
    assert supervisor.supervise(epochs=1, batch_size=2, **QUIET).train_state.step == 2


@pytest.mark.parametrize("channels", [1, 13])
def test_any_number_of_channels(channels: int) -> None:
    supervisor = make(pictures(4, channels=channels), channels=channels).supervise(epochs=1, batch_size=2, **QUIET)
    assert np.isfinite(supervisor.history[-1]["loss"])


def test_custom_views() -> None:
    for arguments in (
        {"views": MoCoTransform()},
        {"views": (PIRLImageTransform(), v2.RandomRotation((90, 90)))},
        {"views": lambda picture: picture.rotate(10), "patch_views": v2.RandomInvert(), "crops": 2},
        {"view_size": (48, 40)},
    ):
        supervisor = make(pictures(), **arguments).supervise(epochs=1, batch_size=4, **QUIET)
        assert supervisor.train_state.step == 2
    for name in ("views", "patch_views"):
        with pytest.raises(ValueError, match=f"either `{name}` or `data_augmentation`"):
            make(
                **{name: MoCoTransform()},
                data_augmentation=lambda images: AugmentationIndexedDataset(images, MoCoTransform()),
            )
    with pytest.raises(ValueError, match=r"Expected: 3×32×32. Received: 3×16×16"):
        make(pictures(), views=MoCoTransform(16), backbone=nn.Conv2d(3, 2, 5, 8)).supervise(
            epochs=1, batch_size=4, **QUIET
        )


def test_data_augmentation_makes_the_data_set() -> None:
    supervisor = make(pictures(), data_augmentation=lambda images: AugmentationIndexedDataset(images, MoCoTransform()))
    assert isinstance(supervisor.dataset, AugmentationIndexedDataset)

    class Flipped(Dataset):  # as scripts of 2020 have them
        def __init__(self, dataset: Any) -> None:
            self.dataset = dataset

        def __len__(self) -> int:
            return len(self.dataset)

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
            image, _ = self.dataset[index]
            return image, image.flip(-1), index

    supervisor = make(pictures(), data_augmentation=Flipped)
    before = supervisor.memory.memory.clone()
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    assert (supervisor.memory.memory != before).any(dim=1).all()


def test_noise_contrastive_estimation_trains() -> None:
    supervisor = make(pictures(), loss_type="nce", bank_init="forward").supervise(epochs=2, batch_size=4, **QUIET)
    assert np.isfinite(supervisor.history[-1]["loss"])
    assert len(supervisor.constants) == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("lam", 1.1),
        ("lam", -0.1),
        ("crops", 1),
        ("t", 0.0),
        ("n", -1),
        ("memory_m", 2.0),
        ("embedding_size", 0),
        ("view_size", 0),
        ("loss_type", "mse"),
        ("predictor_g", "linear"),
        ("views", 3),
        ("patch_views", 3),
        ("views", (MoCoTransform(),)),
    ],
)
def test_arguments_out_of_range_raise(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match="`views`" if argument == "patch_views" else f"`{argument}`"):
        make(**{argument: value})


def test_networks_that_do_not_fit() -> None:
    for heads in ({"predictor": Classification([32, 10])}, {"predictor_g": Classification([32, 10])}):
        with pytest.raises(ValueError, match=r"\(batch, 128\)"):
            make(**heads)
    with pytest.raises(ValueError, match="cannot take the backbone's features"):
        make(predictor_g=Classification([7, 128]))
    with pytest.raises(ValueError, match="too small for 9×9 tiles"):
        make(pictures(), crops=9).supervise(epochs=1, batch_size=4, **QUIET)


@pytest.mark.parametrize("backbone", [nn.Conv2d(3, 2, 5, 8), nn.Sequential(nn.Conv2d(3, 2, 5, 8), nn.Flatten())])
def test_heads_of_one_layer(backbone: nn.Module) -> None:
    supervisor = make(pictures(), backbone=backbone, predictor=nn.Linear(32, 128))
    assert supervisor._forward(batch()).isfinite()


def test_preview_of_images_and_shuffled_patches() -> None:
    supervisor = make(pictures()).eval()
    before = supervisor._preview(batch())
    supervisor.train_state.step = 1
    after = supervisor._preview(batch())
    for shown in (before, after):
        assert shown.title.endswith("?")
        assert [len(row) for row in shown.rows] == [4] * 4
    assert [panel.caption for panel in before.rows[0]] == ["image view", "its patches"] + ["another's patches"] * 2
    assert "cosine" in after.note.lower()
    images, puzzles, _ = batch()
    f, g = (
        F.normalize(supervisor.model(images)),
        F.normalize(supervisor.predictor_g(supervisor.model.backbone(puzzles))),
    )
    for row, panels in enumerate(after.rows):
        own, others = (f[row] @ g[row]).item(), sorted((f[row] @ g[k]).item() for k in range(4) if k != row)
        assert [panel.caption.split("\n")[-1] for panel in panels[1:]] == [
            f"{value:+.2f}" for value in (own, others[-1], others[-2])
        ]
        assert panels[1].right == (own > others[-1])
