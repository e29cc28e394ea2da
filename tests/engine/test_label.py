"""Training with labels on top of a trained backbone."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

import super_selfish
from super_selfish.cli import lists, main
from super_selfish.datasets.tables import as_csv
from super_selfish.errors import CheckpointError, ConfigurationError, DataError
from super_selfish.evaluation import test as measure
from super_selfish.models import CombinedNet, SmallResNet
from super_selfish.report.sections import diagnosis
from super_selfish.supervisors import LabelSupervisor, RotateNetSupervisor

QUIET = {"verbose": False}


def labelled(count: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Dark images are of class 0, bright ones of class 1."""
    labels = np.arange(count) % 2
    noise = np.random.default_rng(0).normal(0, 20, (count, 32, 32, 3))
    return np.clip(60 + 120 * labels[:, None, None, None] + noise, 0, 255).astype(np.uint8), labels


def net() -> CombinedNet:
    return CombinedNet(SmallResNet(width=4), nn.Linear(32, 2))


def test_a_frozen_backbone_is_as_before() -> None:
    model = net()
    model.backbone.stem.eval()
    next(model.backbone.parameters()).requires_grad_(False)
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    head = model.predictor.weight.detach().clone()
    LabelSupervisor(model, labelled()).supervise(lr=0.05, epochs=3, batch_size=8, **QUIET)
    assert all(torch.equal(value, model.backbone.state_dict()[key]) for key, value in before.items())
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert not torch.equal(head, model.predictor.weight)


def test_finetuning_trains_everything() -> None:
    model = net()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    LabelSupervisor(model, labelled(), finetune=True).supervise(lr=0.01, epochs=8, batch_size=8, **QUIET)
    assert measure(model, labelled()) > 0.9
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_more_epochs_are_not_advised_on_few_images(capsys: pytest.CaptureFixture[str]) -> None:
    model = RotateNetSupervisor(labelled()[0], backbone=net()).get_backbone()
    supervisor = LabelSupervisor(model, labelled(), finetune=True)
    supervisor.supervise(lr=0.01, epochs=8, batch_size=8, seed=0, name="store/few")
    printed = capsys.readouterr().err
    assert "Still improving" in printed
    assert "only 32 images per epoch" in printed
    assert "Train longer" not in printed
    [found] = diagnosis(supervisor, {})
    assert "only 32 images per epoch" in found.text


def test_the_preprocessing_of_the_backbone_is_used() -> None:
    images, labels = labelled()
    pretext = RotateNetSupervisor(images, backbone=SmallResNet(width=4), resolution=40, normalize="dataset")
    model = CombinedNet(pretext.get_backbone(), nn.Linear(pretext.feature_dim, 2))
    supervisor = LabelSupervisor(model, (images, labels))
    assert supervisor.preprocessing == pretext.preprocessing
    sizes = []
    model.backbone.register_forward_pre_hook(lambda _module, given: sizes.append(given[0].shape[-1]))
    supervisor.supervise(epochs=1, batch_size=8, **QUIET)
    measure(model, (images, labels))
    assert set(sizes) == {40}


def test_what_cannot_be_trained_is_told() -> None:
    with pytest.raises(DataError, match="The images have no labels"):
        LabelSupervisor(net(), labelled()[0])
    with pytest.raises(ConfigurationError, match="model=CombinedNet"):
        LabelSupervisor(nn.Linear(2, 2), labelled())  # type: ignore[arg-type]
    images, labels = labelled()
    with pytest.raises(ConfigurationError, match=r"predictor cannot take.*feature_dim"):
        LabelSupervisor(CombinedNet(SmallResNet(width=4), nn.Linear(31, 2)), (images, labels))
    with pytest.raises(DataError, match=r"label.*2 outputs"):
        LabelSupervisor(net(), (images, labels + 1)).supervise(epochs=1, **QUIET)


def test_save_and_load() -> None:
    first, second = (LabelSupervisor(net(), labelled()) for _ in range(2))
    first.supervise(epochs=1, batch_size=8, name="store/head", **QUIET)
    second.load("store/head")
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_load_does_not_ask_for_the_size_of_the_images() -> None:
    LabelSupervisor(net(), labelled()).supervise(epochs=1, batch_size=8, name="store/head", **QUIET)
    loaded = LabelSupervisor(net()).load("store/head")
    assert loaded.preprocessing.resolution == (32, 32)


def test_test_normalises_like_the_training() -> None:
    images, labels = labelled()
    pretext = RotateNetSupervisor(images, backbone=SmallResNet(width=4), normalize="dataset")
    model = CombinedNet(pretext.get_backbone(), nn.Linear(32, 2))
    seen = []
    model.backbone.register_forward_pre_hook(lambda _module, given: seen.append(given[0].mean().item()))
    measure(model, (images, labels), batch_size=32)
    measure(model, LabelSupervisor(model, (images, labels)).dataset, batch_size=32)
    assert seen == pytest.approx([0] * len(seen), abs=1e-3)


def test_any_measure_will_do() -> None:
    model = CombinedNet(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    model.predictor.bias.data = torch.tensor([20.0, -20.0])
    assert measure(model, labelled(), loss_f=nn.functional.cross_entropy) > 1


def test_the_mean_is_over_samples_not_batches() -> None:
    images, labels = labelled(7)
    model = CombinedNet(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)).train()
    nn.init.zeros_(model.predictor.weight)
    model.predictor.bias.data = torch.tensor([1.0, 0.0])
    score = measure(model, (images, labels), batch_size=3)
    assert score == pytest.approx(4 / 7)
    assert "mean over 7 samples" in str(score)
    assert model.training
    pairs = [
        (torch.from_numpy(image).permute(2, 0, 1) / 255, int(label))
        for image, label in zip(images, labels, strict=True)
    ]
    assert measure(model, pairs, batch_size=4) == pytest.approx(4 / 7)


def trained_on_folders(head: nn.Module) -> LabelSupervisor:
    """A classifier of dark and bright images on a backbone of the library, stored as ``store/head``."""
    images, labels = labelled(24)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = Path("photos", ("dark", "bright")[label])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02}.png")
    pretext = RotateNetSupervisor("photos", backbone="small_resnet", resolution=32, normalize="dataset")
    supervisor = LabelSupervisor(CombinedNet(pretext.get_backbone(output="pooled"), head), "photos")
    return supervisor.supervise(lr=0.05, epochs=3, batch_size=8, name="store/head", **QUIET)


def test_predictions_have_class_names_and_probabilities() -> None:
    supervisor = trained_on_folders(nn.Linear(256, 2))
    images, labels = labelled(9)
    found = supervisor.predict(images, batch_size=4)
    assert found.classes == ("bright", "dark")
    assert found.names == [str(index) for index in range(9)]
    assert found.probabilities.shape == (9, 2)
    assert found.probabilities.sum(1) == pytest.approx(np.ones(9), abs=1e-6)
    assert found.labels == [found.classes[index] for index in found.probabilities.argmax(1)]
    assert found.labels == [("dark", "bright")[label] for label in labels]
    assert supervisor.predict().names == [supervisor.image_dataset.name(index) for index in range(24)]


@pytest.mark.parametrize(
    "head",
    [
        lambda: nn.Linear(256, 2, bias=False),
        lambda: nn.Sequential(
            nn.LayerNorm(256), nn.Linear(256, 8), nn.BatchNorm1d(8, eps=0.1), nn.GELU("tanh"), nn.Linear(8, 2)
        ),
    ],
)
def test_classifiers_are_loaded_by_name(head: Any) -> None:
    supervisor = trained_on_folders(head())
    loaded = super_selfish.load("store/head")
    assert isinstance(loaded, LabelSupervisor)
    assert loaded.preprocessing == loaded.model.backbone.preprocessing == supervisor.preprocessing
    expected, found = (each.predict("photos") for each in (supervisor, loaded))
    assert found.labels == expected.labels
    assert found.classes == ("bright", "dark")
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    loaded.save("store/again")
    again = super_selfish.load("store/again")
    assert isinstance(again, LabelSupervisor)
    assert again.predict("photos").probabilities == pytest.approx(found.probabilities, abs=1e-5)


def test_predict_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    supervisor = trained_on_folders(nn.Linear(256, 2))
    assert main(["predict", "store/head", "photos", "--output", "found.csv", "--device", "cpu"]) == 0
    assert "24 images: bright 12, dark 12" in capsys.readouterr().out
    rows = list(csv.DictReader(Path("found.csv").read_text().splitlines()))
    found = supervisor.predict("photos")
    assert list(rows[0]) == ["path", "predicted", "probability", "p_bright", "p_dark"]
    assert [row["path"] for row in rows] == [f"photos/{name}" for name in found.names]
    assert [row["predicted"] for row in rows] == found.labels
    numbers = [[float(row["p_bright"]), float(row["p_dark"])] for row in rows]
    assert np.array(numbers) == pytest.approx(found.probabilities, abs=1e-6)
    assert [float(row["probability"]) for row in rows] == [max(pair) for pair in numbers]


def test_predictions_are_written_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = trained_on_folders(nn.Linear(256, 2))
    sizes = list[int]()
    monkeypatch.setattr(lists, "as_csv", lambda rows: sizes.append(len(kept := list(rows))) or as_csv(kept))
    assert main(["predict", "store/head", "photos", "--batch-size", "7"]) == 0
    assert sizes == [1, 7, 7, 7, 3]
    written = Path("store/head.predictions.csv").read_bytes()
    first = sorted(Path("photos").rglob("*.*"))[-1]
    first.write_bytes(b"damaged")
    assert main(["predict", "store/head", "photos", "--batch-size", "7"]) == 2
    assert Path("store/head.predictions.csv").read_bytes() == written  # replaced only when complete
    assert main(["predict", "store/head", "photos", "--on-error", "skip"]) == 0
    rows = list(csv.DictReader(Path("store/head.predictions.csv").read_text().splitlines()))
    assert [row["predicted"] for row in rows] == supervisor.predict("photos", on_error="skip").labels
    assert len(rows) == 23
    assert not list(Path("store").glob("*.tmp"))


def test_classifiers_with_a_custom_backbone_are_loaded_with_it() -> None:
    supervisor = LabelSupervisor(CombinedNet(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)), labelled())
    supervisor.supervise(epochs=1, batch_size=8, name="store/own", **QUIET)
    with pytest.raises(CheckpointError, match=r"Pass it: super_selfish\.load\(name, backbone="):
        super_selfish.load("store/own")
    loaded = super_selfish.load("store/own", backbone=nn.Flatten())
    assert isinstance(loaded, LabelSupervisor)
    images = labelled()[0]
    assert loaded.predict(images).probabilities == pytest.approx(supervisor.predict(images).probabilities, abs=1e-6)


def test_what_cannot_be_predicted() -> None:
    with pytest.raises(ConfigurationError, match="no class names"):
        LabelSupervisor(net()).predict(labelled()[0])
    supervisor = LabelSupervisor(net(), labelled())
    assert supervisor.predict().classes == ("0", "1")
    supervisor.model.classes = ("only one",)
    with pytest.raises(ConfigurationError, match="one logit per class"):
        supervisor.predict()
    with pytest.raises(ConfigurationError, match="no images"):
        LabelSupervisor(net()).predict()
    supervisor.supervise(epochs=1, batch_size=8, name="store/own", **QUIET)
    with pytest.raises(CheckpointError, match="cannot be rebuilt automatically"):
        super_selfish.load("store/own")


class Items(Dataset[Any]):
    """A data set of images and whatever belongs to them."""

    def __init__(self, targets: Any, form: type = tuple) -> None:
        self.targets = targets
        self.form = form

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        image = np.full((32, 32, 3), index, np.uint8)
        return (image, self.targets[index]) if self.form is tuple else {"image": image, "mask": self.targets[index]}


def criterion_seeing(seen: list[torch.Tensor]) -> Any:
    def criterion(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(targets.clone())
        return outputs.square().mean()

    return criterion


TARGETS = {
    "several labels": np.eye(8, 5, dtype=np.float32) + np.eye(8, 5, 1, dtype=np.float32),
    "one-hot": torch.eye(8, 5, dtype=torch.int64),
    "numbers": [0.5 * index for index in range(8)],
    "numbers of numpy": np.linspace(-1, 1, 8),
    "vectors": np.linspace(-1, 1, 16).reshape(8, 2),
    "masks of uint8": np.arange(8 * 32 * 32, dtype=np.uint32).reshape(8, 32, 32).astype(np.uint8),
    "masks": torch.arange(8 * 32 * 32).view(8, 32, 32) % 7,
    "class ids": [3, 2, 1, 0, 3, 2, 1, 0],
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("form", [tuple, dict, None])
def test_a_criterion_gets_targets_of_any_kind(kind: str, form: type | None) -> None:
    targets, seen = TARGETS[kind], list[torch.Tensor]()
    images = np.stack([np.full((32, 32, 3), index, np.uint8) for index in range(8)])
    data = (images, targets) if form is None else Items(targets, form)
    network = CombinedNet(nn.Flatten(), nn.Linear(3072, 5))
    LabelSupervisor(network, data, criterion_seeing(seen)).supervise(
        epochs=1, batch_size=4, shuffle=False, watch=0, verbose=False
    )
    wanted = torch.as_tensor(np.asarray(targets))
    found = torch.cat(seen)
    assert found.shape == wanted.shape
    assert torch.equal(found, wanted.float() if wanted.dtype == torch.float64 else wanted)
    assert found.dtype is not torch.float64


def test_masks_as_pil_images_are_class_ids() -> None:
    masks = [Image.fromarray(np.full((32, 32), index, np.uint8)) for index in range(8)]
    seen: list[torch.Tensor] = []
    network = CombinedNet(nn.Flatten(), nn.Linear(3072, 5))
    LabelSupervisor(network, Items(masks), criterion_seeing(seen)).supervise(
        epochs=1, batch_size=8, shuffle=False, watch=0, verbose=False
    )
    assert seen[0].dtype == torch.int64
    assert seen[0][:, 0, 0].tolist() == list(range(8))


def test_masks_of_images_that_are_resized_are_refused() -> None:
    network = CombinedNet(nn.Flatten(), nn.Linear(3 * 48 * 48, 5))
    supervisor = LabelSupervisor(network, Items(TARGETS["masks"]), criterion_seeing([]), resolution=48)
    with pytest.raises(DataError, match="masks"):
        supervisor.supervise(epochs=1, batch_size=4, watch=0, verbose=False)


def test_without_a_criterion_targets_are_class_ids() -> None:
    network = CombinedNet(nn.Flatten(), nn.Linear(3072, 5))
    with pytest.raises(DataError, match="loss="):
        LabelSupervisor(network, Items(TARGETS["several labels"]))


def test_a_measure_of_ones_own_gets_targets_of_any_kind() -> None:
    network = CombinedNet(nn.Flatten(), nn.Linear(3072, 5))
    seen: list[torch.Tensor] = []
    measure(network, Items(TARGETS["several labels"]), criterion_seeing(seen), batch_size=8, verbose=False)
    assert torch.equal(seen[0], torch.as_tensor(TARGETS["several labels"]))
