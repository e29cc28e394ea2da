"""Contrastive multiview coding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

import super_selfish
from super_selfish.data import AugmentationLabIndexedDataset, CMCTransform, LDataset, MoCoTransform
from super_selfish.errors import ConfigurationError
from super_selfish.models import Classification, CombinedNet, LayerNorm2d, SmallResNet, rgb_to_lab
from super_selfish.models.lab import FULL_RANGE, normalised_lab
from super_selfish.supervisors import ContrastiveMultiviewCodingSupervisor, LabelSupervisor
from super_selfish.training import Callback

QUIET = {"verbose": False, "name": "store/test"}


def pictures(count: int = 16, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> ContrastiveMultiviewCodingSupervisor:
    torch.manual_seed(0)
    arguments.setdefault("backbone", SmallResNet(width=4, norm_type="layer"))
    arguments.setdefault("centred", False)  # each image by itself: tests compare single embeddings
    return ContrastiveMultiviewCodingSupervisor(dataset, **arguments)


def batch(count: int = 4, versions: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    planes = [2 * torch.rand(count, 1 + odd, 32, 32, generator=generator) - 1 for odd in (0, 1) * versions]
    return (*planes, torch.arange(1, 1 + 3 * count, 3) % 16)


def two_versions(images: Any) -> AugmentationLabIndexedDataset:
    return AugmentationLabIndexedDataset(images, CMCTransform())


def test_initial_loss_is_that_of_unrelated_entries() -> None:
    supervisor = make(pictures(512), n=0, t=0.1)  # all others
    images = supervisor.preprocess(pictures(512))
    lab = normalised_lab(rgb_to_lab(images), FULL_RANGE)
    with torch.no_grad():
        loss = supervisor._forward((lab[:, :1], lab[:, 1:], torch.arange(512))).item()
    assert loss == pytest.approx(2 * (math.log(512) + 1 / (2 * 0.1**2 * 128)), abs=0.3)
    for network in (supervisor.model, supervisor.model.ab):
        for parameter in network.predictor.layers[-1].parameters():
            nn.init.zeros_(parameter)
    assert supervisor._forward(batch()).item() == pytest.approx(2 * math.log(512), abs=1e-4)


@pytest.mark.parametrize("positive", ["bank", "key"])
@pytest.mark.parametrize("versions", [1, 2])
def test_the_loss_and_its_gradient_equal_a_naive_loop(positive: Any, versions: int) -> None:
    supervisor = make(pictures(), n=0, t=0.3, positive=positive)
    data = batch(versions=versions)
    supervisor._forward(data).backward()
    gradients = [parameter.grad.clone() for parameter in supervisor.model.parameters()]
    supervisor.zero_grad()
    *planes, indices = data
    networks = [supervisor.model.backbone, supervisor.model.ab.backbone]
    heads = [supervisor.model.predictor, supervisor.model.ab.predictor]
    embeddings = {}  # of a version and an image: of L, of ab
    for version in range(versions):
        for i in range(4):
            seen = (planes[2 * version][i : i + 1], planes[2 * version + 1][i : i + 1])
            for view in range(2):
                embeddings[version, i, view] = F.normalize(heads[view](networks[view](seen[view])))[0]
    total = torch.zeros(())
    for version in range(versions):
        for i, own in enumerate(indices.tolist()):
            for view, bank in ((0, supervisor.memory_ab.memory), (1, supervisor.memory.memory)):
                anchor = embeddings[version, i, view]
                found = bank[own] if positive == "bank" else embeddings[versions - 1 - version, i, 1 - view]
                scores = [anchor @ found / 0.3] + [anchor @ bank[j] / 0.3 for j in range(16) if j != own]
                total = total - (scores[0] - torch.stack(scores).exp().sum().log()) / 4 / versions
    assert supervisor._forward(data).item() == pytest.approx(total.item(), abs=1e-5)
    supervisor.zero_grad()
    total.backward()
    for expected, parameter in zip(gradients, supervisor.model.parameters(), strict=True):
        assert torch.allclose(expected, parameter.grad, atol=1e-5)


def test_neither_encoder_sees_what_the_other_sees() -> None:
    supervisor = make(resolution=32)
    lab = batch()[:2]
    planes = [plane.requires_grad_() for plane in lab]
    for view, code in enumerate(supervisor._embed((*planes, torch.arange(4)))):
        gradients = torch.autograd.grad((code * torch.rand_like(code)).sum(), planes, retain_graph=True)
        assert gradients[view].any()
        assert not gradients[1 - view].any()


def test_the_directions_of_a_bank_train_one_encoder_each_those_of_keys_both() -> None:
    for positive, both in (("bank", False), ("key", True)):
        supervisor = make(pictures(), n=4, positive=positive)
        lightness, colours = supervisor._embed(batch())
        supervisor._one_way(lightness, colours, supervisor.memory_ab, batch()[-1]).backward()
        net = supervisor.model
        assert all(parameter.grad.any() for parameter in net.predictor.parameters())
        assert any(parameter.grad.any() for parameter in net.ab.parameters()) == both


def test_both_directions_have_the_same_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    supervisor = make(pictures(), n=5)
    for bank in supervisor.banks():
        own = bank.negatives
        monkeypatch.setattr(bank, "negatives", lambda *given, own=own: drawn.append(own(*given)) or drawn[-1])
    supervisor._forward(batch(versions=2))
    assert len(drawn) == 4
    assert all(torch.equal(rows, drawn[0]) for rows in drawn)
    supervisor.train_state.step += 1
    supervisor._forward(batch())
    assert not torch.equal(drawn[-1], drawn[0])


@pytest.mark.parametrize("given", ["own", None])
def test_training_moves_both_encoders(given: Any) -> None:
    backbone = SmallResNet(width=4, norm_type="layer") if given == "own" else None
    supervisor = make(pictures(8), backbone=backbone, resolution=32)
    before = {name: value.clone() for name, value in supervisor.named_parameters()}
    supervisor.supervise(epochs=3, batch_size=8, **QUIET)  # residual branches that start at zero follow later
    assert {name.split(".")[1] for name in before} == {"backbone", "predictor", "ab"}
    for name, value in supervisor.named_parameters():
        assert not torch.equal(value, before[name]), name


class Watch(Callback):
    def __init__(self) -> None:
        self.banks: list[list[Tensor]] = []

    def on_step_end(self, run: Any) -> None:
        trained = run.supervisor
        self.banks.append([bank.memory.clone() for bank in (trained.memory, trained.memory_ab)])


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("augmentation", [None, two_versions])
def test_step_updates_entries_of_the_batch_in_both_banks(accumulate: int, augmentation: Any) -> None:
    embeddings: list[tuple[Tensor, Tensor, Tensor]] = []

    class Own(ContrastiveMultiviewCodingSupervisor):
        def _forward(self, data: Any) -> Tensor:
            with torch.no_grad():
                *planes, indices = data
                made = []
                for view, net in enumerate((self.model, self.model.ab)):
                    each = [F.normalize(net.predictor(net.backbone(plane))) for plane in planes[view::2]]
                    made.append(F.normalize(sum(each)))
                embeddings.append((*made, indices))
            return super()._forward(data)

    torch.manual_seed(0)
    backbone = SmallResNet(width=4, norm_type="layer")
    supervisor = Own(pictures(), augmentation, n=5, memory_m=0.3, backbone=backbone, centred=False)
    last = [supervisor.memory.memory.clone(), supervisor.memory_ab.memory.clone()]
    watch = Watch()
    supervisor.supervise(epochs=1, batch_size=4, accumulate=accumulate, callbacks=[watch], **QUIET)
    assert len(watch.banks) == 4
    for step, banks in enumerate(watch.banks):
        some = embeddings[accumulate * step : accumulate * (step + 1)]
        *made, indices = [torch.cat(parts) for parts in zip(*some, strict=True)]
        assert len(indices.unique()) == 4
        for code, bank, old in zip(made, banks, last, strict=True):
            expected = old.clone()
            expected[indices] = F.normalize(0.7 * old[indices] + 0.3 * code)
            assert torch.allclose(bank, expected, atol=1e-5)
            others = [row for row in range(16) if row not in indices.tolist()]
            assert torch.equal(bank[others], old[others])
            assert not torch.isclose(bank[indices], old[indices], atol=1e-4).all(dim=1).any()
        last = banks


def test_banks_are_initialised_with_embeddings_of_the_encoders() -> None:
    supervisor = make(pictures(), bank_init="forward", memory_m=0.0, views=lambda picture: picture)
    lab = normalised_lab(rgb_to_lab(supervisor.preprocess(pictures())), FULL_RANGE)
    with torch.no_grad():
        embeddings = supervisor.embeddings((lab[:, :1], lab[:, 1:], torch.arange(16)))
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    for bank, code in zip((supervisor.memory, supervisor.memory_ab), embeddings, strict=True):
        assert torch.allclose(bank.memory, code, atol=1e-4)


def test_noise_contrastive_estimation_has_a_constant_for_each_bank() -> None:
    supervisor = make(pictures(), n=5, loss_type="nce").supervise(epochs=1, batch_size=4, **QUIET)
    first, second = supervisor.constants
    assert first.known
    assert second.known
    assert first.log_z != second.log_z
    loaded = super_selfish.load("store/test", backbone=SmallResNet(width=4, norm_type="layer"))
    assert torch.equal(loaded.constants[1].log_z, second.log_z)
    assert torch.equal(loaded.memory_ab.memory, supervisor.memory_ab.memory)


def test_the_backbones_take_rgb_wherever_they_go() -> None:
    images = pictures(8)
    labels = np.arange(8) % 2
    other = SmallResNet(width=8)
    supervisor = make(images, backbone_ab=other, n=3).supervise(epochs=1, batch_size=4, **QUIET)
    rgb = supervisor.preprocess(images)
    lab = normalised_lab(rgb_to_lab(rgb), FULL_RANGE)
    with torch.no_grad():
        lightness, colours, both = (supervisor.get_backbone(view)(rgb) for view in ("l", "ab", "both"))
        assert (lightness.shape, colours.shape, both.shape) == ((8, 32), (8, 64), (8, 96))
        assert torch.equal(torch.cat([lightness, colours], 1), both)
        assert torch.equal(supervisor.get_backbone()(rgb), lightness)
        assert torch.equal(supervisor.get_backbone(input="lab")(lab), lightness)
        assert torch.equal(supervisor.get_backbone(input="lab")(lab[:, :1]), lightness)
        assert torch.equal(supervisor.get_backbone("ab", input="lab")(lab[:, 1:]), colours)
        assert torch.equal(supervisor.get_backbone("both", input="lab")(lab), both)
        assert supervisor.get_backbone(output="map")(rgb).shape == (8, 32, 4, 4)
        assert torch.allclose(supervisor.get_backbone("both", output="pooled")(rgb), both, atol=1e-5)
        loader_made = torch.stack([LDataset((images, labels))[index][0] for index in range(8)])
        assert torch.allclose(supervisor.get_backbone(input="lab")(loader_made), lightness, atol=1e-2)
    assert supervisor.feature_dim == 32
    assert np.allclose(supervisor.extract(images)[0], lightness.numpy(), atol=1e-5)
    loaded = super_selfish.load("store/test", backbone=SmallResNet(width=4, norm_type="layer"), backbone_ab=other)
    assert np.array_equal(loaded.extract(images)[0], supervisor.extract(images)[0])
    with torch.no_grad():
        assert torch.equal(loaded.get_backbone("ab")(rgb), colours)
    net = CombinedNet(supervisor.get_backbone("both"), nn.Linear(96, 2))
    LabelSupervisor(net, (images, labels)).supervise(epochs=1, batch_size=4, verbose=False, name="store/head")
    with torch.no_grad():
        assert torch.equal(net.backbone(rgb), both), "the backbones stayed frozen"
        next(supervisor.model.ab.backbone.parameters()).zero_()
        assert not torch.equal(net.backbone(rgb), both), "they are live, not copies"
    with pytest.raises(ConfigurationError, match="`input` is unknown"):
        supervisor.get_backbone(input="hsv")
    with pytest.raises(ConfigurationError, match="`view` is unknown"):
        supervisor.get_backbone("a")


def test_the_default_networks() -> None:
    supervisor = ContrastiveMultiviewCodingSupervisor(embedding_size=32)
    assert supervisor.feature_dim == 3136
    net = supervisor.model
    assert [net.backbone.stem.in_channels, net.ab.backbone.stem.in_channels] == [1, 2]
    for part in (net, net.ab):
        linear = [module for module in part.predictor.modules() if isinstance(module, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in linear] == [(3136, 1024), (1024, 1024), (1024, 32)]
        norms = [module for module in part.predictor.modules() if isinstance(module, nn.BatchNorm1d)]
        assert norms == [part.predictor.layers[-1]]
        assert not any(isinstance(module, nn.BatchNorm2d) for module in part.backbone.modules())
        assert any(isinstance(module, LayerNorm2d) for module in part.backbone.modules())


def test_custom_networks_are_copied_for_each_view() -> None:
    backbone, predictor = SmallResNet(1, width=4), Classification([32, 8])
    supervisor = make(pictures(8), backbone=backbone, predictor=predictor, embedding_size=8, n=3)
    assert [part.backbone.stem.out_channels for part in (supervisor.model, supervisor.model.ab)] == [1, 1]
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    assert all(parameter.grad is None for part in (backbone, predictor) for parameter in part.parameters())
    given = {"backbone": backbone, "predictor": predictor}
    assert np.array_equal(
        super_selfish.load("store/test", **given).extract(pictures(2))[0], supervisor.extract(pictures(2))[0]
    )
    own = make(backbone_ab="small_resnet", predictor_ab=Classification([256, 8]), embedding_size=8)
    assert own.model.ab.predictor.layers[0].in_features == 256
    assert own.model.predictor.layers[0].in_features == 32
    with pytest.raises(ConfigurationError, match=r"\(batch, 128\)"):
        make(predictor=Classification([32, 8]))
    with pytest.raises(ConfigurationError, match=r"The predictor cannot take the backbone's features"):
        make(predictor=predictor, embedding_size=8, backbone_ab=SmallResNet(width=8))
    with pytest.raises(ConfigurationError, match="`backbone` is no network"):
        make(backbone_ab=3)


def test_weights_file_records_custom_networks() -> None:
    make(pictures(8), backbone="small_resnet", backbone_ab=SmallResNet(width=4), n=3).save("store/own")
    with pytest.raises(OSError, match="custom backbone_ab"):
        super_selfish.load("store/own")
    assert super_selfish.load("store/own", backbone_ab=SmallResNet(width=4)).memory.memory.shape == (8, 128)


def test_data_augmentation_and_views() -> None:
    for arguments in (
        {"data_augmentation": two_versions},
        {"data_augmentation": lambda images: AugmentationLabIndexedDataset(images, MoCoTransform(), views=1)},
        {"data_augmentation": two_versions, "positive": "key"},
        {"views": MoCoTransform()},
        {"views": lambda picture: picture.rotate(10)},
    ):
        supervisor = make(pictures(8), n=3, **arguments).supervise(epochs=1, batch_size=4, **QUIET)
        assert supervisor.train_state.step == 2
    with pytest.raises(ConfigurationError, match="either `views` or `data_augmentation`"):
        make(views=CMCTransform(), data_augmentation=two_versions)

    class Grey(Dataset):  # as scripts of 2020 have them
        def __init__(self, dataset: Any) -> None:
            self.dataset = dataset

        def __len__(self) -> int:
            return len(self.dataset)

        def __getitem__(self, index: int) -> tuple[Any, ...]:
            image, _ = self.dataset[index]
            return image[:1], image[1:], image[:1].flip(-1), image[1:].flip(-1), index

    assert make(pictures(8), n=3, data_augmentation=Grey).supervise(epochs=1, **QUIET).train_state.step == 1
    with pytest.raises(ConfigurationError, match="lightness and colours"):
        make(pictures(8), data_augmentation=lambda images: images).supervise(epochs=1, **QUIET)


def test_views_of_another_size_have_to_be_announced() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.Flatten())
    with pytest.raises(ConfigurationError, match=r"view_size=\(16, 24\)"):
        make(pictures(8), views=CMCTransform((16, 24)), backbone=backbone).supervise(epochs=1, batch_size=4, **QUIET)
    supervisor = make(pictures(8, 40, 32), view_size=(16, 24), backbone=backbone, n=3)
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    assert supervisor.model.ab.predictor.layers[0].in_features == 4 * 4 * 6
    assert super_selfish.load("store/test", backbone=backbone).model.predictor.layers[0].in_features == 4 * 4 * 6


def test_incompatible_images_raise() -> None:
    grey = pictures(4, channels=1)
    with pytest.raises(ConfigurationError, match=r"Expected: RGB images\. Received: 1 channel\..*channels=3"):
        make(grey)
    with pytest.raises(ConfigurationError, match="Received: 13 channels"):
        make(pictures(4, channels=13))
    with pytest.raises(ConfigurationError, match="`normalize` has no place here"):
        make(pictures(4), normalize="dataset")
    assert make(grey, channels=3, n=3).supervise(epochs=1, batch_size=4, **QUIET).train_state.step == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [("t", 0.0), ("n", -1), ("memory_m", 1.1), ("positive", "own"), ("loss_type", "mse"), ("view_size", (1, 2, 3))],
)
def test_arguments_out_of_range_raise(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"`{argument}`"):
        make(**{argument: value})


def test_the_preview() -> None:
    supervisor = make(pictures(8), n=3)
    data = batch(3)
    before = supervisor._preview(data)
    assert [panel.caption for panel in before.rows[0]] == ["a view", "its lightness L", "its colours a, b"]
    assert len(before.rows) == 3
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    with torch.no_grad():
        after = supervisor._preview(data)
        alone = supervisor._preview([part[:1] for part in data])
    assert [panel.caption.partition("\n")[0] for panel in after.rows[0]][2:] == [
        "its colours",
        *["another's colours"] * 2,
    ]
    for _, _, own, *others in after.rows:
        cosines = [float(panel.caption[-5:]) for panel in (own, *others)]
        assert cosines[1] >= cosines[2]
        assert isinstance(own.right, bool)
        assert (cosines[0] >= cosines[1]) if own.right else (cosines[0] <= cosines[1])
    assert [len(row) for row in alone.rows] == [3]
    for panel in (panel for row in after.rows for panel in row):
        assert 0 <= panel.image.min() <= panel.image.max() <= 1
        assert panel.image.shape[-2:] == (32, 32)
    assert supervisor.preview().axes
    assert supervisor.preview(pictures(3)).axes
