"""Labels of two sources that are matched by the names of their classes."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Subset

from super_selfish.datasets.labels import UNKNOWN, RenumberedSource, matched, with_classes
from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing
from super_selfish.datasets.sources import ImageSource, open_source
from super_selfish.engine.callbacks.monitors import Probe
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.evaluation import extract_features
from super_selfish.evaluation import test as measure
from super_selfish.models import CombinedNet
from super_selfish.pretext.base import LabelledDataset
from super_selfish.supervisors import LabelSupervisor, RotateNetSupervisor

FRUIT = {"apple": 40, "banana": 90, "cherry": 140, "date": 190}
PLAIN = {"verbose": False}


def colour(level: int) -> list[int]:
    return [level, 220 - level, 100]


def folder(root: Path, names: Sequence[str], values: Sequence[int] | None = None, count: int = 6) -> Path:
    """A folder of nearly constant images whose colour is that of their class."""
    for place, name in enumerate(names):
        (root / name).mkdir(parents=True)
        level = FRUIT[name] if values is None else values[place]
        for number in range(count):
            noise = np.random.default_rng(number).integers(-6, 7, (32, 32, 3))
            Image.fromarray((colour(level) + noise).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def table(root: Path, source: Path, names: Sequence[str], words: Callable[[str], str] = str) -> Path:
    """A CSV file of some classes of a folder, each called by another word."""
    rows = [f"{path},{words(path.parent.name)}" for name in names for path in sorted((source / name).iterdir())]
    root.write_text("path,label\n" + "\n".join(rows))
    return root


class Named(Dataset[Any]):
    """A data set as torchvision's ImageFolder is: tensors, numbers in the order of its own classes."""

    def __init__(self, root: Path, tensors: bool = True) -> None:
        self.classes = sorted(path.name for path in root.iterdir())
        self.files = sorted(root.glob("*/*.png"))
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = np.asarray(Image.open(self.files[index]))
        label = self.classes.index(self.files[index].parent.name)
        return torch.tensor(image).movedim(2, 0) / 255 if self.tensors else image, label


def names_by_label(source: ImageSource) -> dict[int | None, str]:
    """The folder that images of each label lie in."""
    return {source.label(index): Path(source.name(index)).parent.name for index in range(len(source))}


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return folder(tmp_path / "full", list(FRUIT))


@pytest.fixture
def lacking(tmp_path: Path) -> Path:
    return folder(tmp_path / "lacking", ["apple", "cherry", "date"])


def nearest_colour(colours: Sequence[Sequence[int]]) -> CombinedNet:
    """A network that classifies images by their mean colour."""
    net = CombinedNet(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(3, len(colours)))
    centres = torch.tensor(colours) / 255
    net.predictor.weight.data, net.predictor.bias.data = 2 * centres, -centres.square().sum(1)
    return net


@pytest.fixture
def net(full: Path) -> CombinedNet:
    """A network that knows the four classes."""
    net = nearest_colour([colour(level) for level in FRUIT.values()])
    LabelSupervisor(net, full, resolution=32).save("net")
    assert net.classes == tuple(FRUIT)
    assert measure(net, full, **PLAIN) == 1
    return net


def kinds_of_lacking(lacking: Path, tmp_path: Path) -> dict[str, Any]:
    """The images of three classes, in every form that names classes."""
    return {
        "folder": lacking,
        "table": table(tmp_path / "lacking.csv", lacking, ["date", "apple", "cherry"]),
        "data set": Named(lacking, tensors=False),
        "part of a data set": Subset(Named(lacking, tensors=False), range(18)),
    }


@pytest.mark.parametrize("kind", ["folder", "table", "data set", "part of a data set"])
class TestClassesThatOneSideLacks:
    def test_labels_are_those_of_the_reference(self, kind: str, full: Path, lacking: Path, tmp_path: Path) -> None:
        source = open_source(kinds_of_lacking(lacking, tmp_path)[kind])
        found = matched(source, open_source(full))
        assert {found.label(index) for index in range(len(found))} == {0, 2, 3}
        assert {found.item(index)[1] for index in range(len(found))} == {0, 2, 3}
        assert np.array_equal(found.read(5), source.read(5))

    def test_extract_features(self, kind: str, lacking: Path, tmp_path: Path, caplog: Any) -> None:
        labels = extract_features(nn.Flatten(), kinds_of_lacking(lacking, tmp_path)[kind], classes=list(FRUIT))[1]
        assert labels is not None
        assert set(labels.tolist()) == {0, 2, 3}
        assert "banana" in caplog.text

    def test_accuracy_of_a_network(
        self, kind: str, net: CombinedNet, lacking: Path, tmp_path: Path, caplog: Any
    ) -> None:
        assert measure(net, kinds_of_lacking(lacking, tmp_path)[kind], **PLAIN) > 0.9
        assert "banana" in caplog.text

    def test_probe(self, kind: str, full: Path, lacking: Path, tmp_path: Path, caplog: Any) -> None:
        supervisor = RotateNetSupervisor(full, backbone="small_resnet", resolution=32)
        supervisor.model.backbone = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        scores = Probe(full, kinds_of_lacking(lacking, tmp_path)[kind], linear=False).scores(supervisor)
        assert scores["knn"] > 0.9
        assert "banana" in caplog.text

    def test_training_goes_on_with_the_numbers_of_the_network(
        self, kind: str, net: CombinedNet, lacking: Path, tmp_path: Path
    ) -> None:
        supervisor = LabelSupervisor(net, kinds_of_lacking(lacking, tmp_path)[kind], resolution=32)
        images = supervisor.dataset.images
        assert {images.label(index) for index in range(len(images))} == {0, 2, 3}


def test_tensors_of_a_data_set(net: CombinedNet, full: Path, lacking: Path) -> None:
    for data in (Named(full), Named(lacking), Subset(Named(lacking), [0, 7, 13]), LabelledDataset(lacking)):
        assert measure(net, data, **PLAIN) > 0.9


def test_a_network_without_names_is_given_them(net: CombinedNet, lacking: Path, caplog: Any) -> None:
    names, net.classes = net.classes, None
    measure(net, lacking, **PLAIN)
    assert "classes=" in caplog.text
    assert measure(net, lacking, classes=names, **PLAIN) == 1


def test_held_out_images_of_a_label_supervisor(net: CombinedNet, lacking: Path) -> None:
    images = LabelSupervisor(net, resolution=32).pretext_dataset(lacking).images
    assert {images.label(index) for index in range(len(images))} == {0, 2, 3}


@pytest.mark.parametrize("way", ["supervisor", "network"])
def test_names_are_stored_with_the_weights(way: str, net: CombinedNet, lacking: Path) -> None:
    fresh = CombinedNet(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(3, 4))
    if way == "network":
        net.save("store/net")
        fresh.load("store/net")
    else:
        supervisor = LabelSupervisor(fresh, lacking, resolution=32)
        supervisor.load("net")
        images = supervisor.dataset.images
        assert {images.label(index) for index in range(len(images))} == {0, 2, 3}
    assert measure(fresh, lacking, **PLAIN) > 0.9


def test_a_class_that_only_the_test_has(net: CombinedNet, full: Path, tmp_path: Path, caplog: Any) -> None:
    more = folder(tmp_path / "more", ["aardvark", "apple", "banana"], [10, 40, 90])
    source = matched(open_source(more), open_source(full))
    assert names_by_label(source) == {0: "apple", 1: "banana", 4: "aardvark"}
    with pytest.raises(DataError, match="aardvark"):
        measure(net, more, **PLAIN)
    with pytest.raises(DataError, match="aardvark"):
        LabelSupervisor(net, more, resolution=32)
    labels = extract_features(nn.Flatten(), more, classes=list(FRUIT))[1]
    assert labels is not None
    assert set(labels.tolist()) == {0, 1, 4}
    assert "aardvark" in caplog.text


def test_a_refused_load_changes_nothing(net: CombinedNet, tmp_path: Path) -> None:
    fresh = CombinedNet(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(3, 4))
    more = folder(tmp_path / "more", ["aardvark", "apple"], [10, 40])
    supervisor = LabelSupervisor(fresh, more, resolution=32)
    before = {key: value.clone() for key, value in supervisor.state_dict().items()}
    with pytest.raises(DataError, match="aardvark"):
        supervisor.load("net")
    assert fresh.classes == ("aardvark", "apple")
    assert all(torch.equal(value, supervisor.state_dict()[key]) for key, value in before.items())
    assert supervisor.dataset.images.label(0) == 0


def test_no_class_in_common(full: Path, tmp_path: Path, net: CombinedNet) -> None:
    other = table(tmp_path / "other.csv", full, list(FRUIT), words=lambda name: name[::-1])
    with pytest.raises(DataError, match="ananab"):
        matched(open_source(other), open_source(full))
    with pytest.raises(DataError, match="ananab"):
        measure(net, other, **PLAIN)


def test_names_of_macos(full: Path, tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    first = open_source(folder(tmp_path / "a", [composed, "apple"], [9, 99]))
    second = open_source(folder(tmp_path / "b", [apart, "apple", "banana"], [9, 99, 199]))
    assert names_by_label(matched(second, first)) == {0: "apple", 1: apart, 2: "banana"}


class TestNumbers:
    """Labels without names, beside folders whose names are numbers."""

    @pytest.fixture
    def digits(self, tmp_path: Path) -> Path:
        return folder(tmp_path / "digits", ["0", "1", "2", "10"], [20, 80, 140, 200])

    def test_a_table_of_numbers_and_folders_of_numbers(self, digits: Path, tmp_path: Path) -> None:
        numbers = open_source(table(tmp_path / "numbers.csv", digits, ["10", "2"]))
        assert names_by_label(matched(numbers, open_source(digits))) == {2: "10", 3: "2"}
        assert names_by_label(matched(open_source(digits), numbers)) == {0: "0", 1: "1", 2: "2", 10: "10"}

    @pytest.mark.parametrize("as_data_set", [False, True])
    def test_an_unknown_number_is_no_known_class(self, digits: Path, as_data_set: bool) -> None:
        images, labels = np.zeros((3, 32, 32), np.uint8), [0, 10, 3]
        data: Any = list(zip(images, labels, strict=True)) if as_data_set else (images, labels)
        found = matched(open_source(data), open_source(digits))
        assert [found.label(index) for index in range(2)] == [0, 2]
        assert found.label(2) not in range(4)

    def test_a_network_of_numbers(self, digits: Path) -> None:
        levels = {0: 20, 1: 80, 2: 140, 10: 200}
        net = nearest_colour([colour(levels.get(number, 900)) for number in range(11)])
        images = np.array([np.full((32, 32, 3), colour(level), np.uint8) for level in levels.values()])
        labels = list(levels)
        LabelSupervisor(net, (images, labels))
        assert measure(net, (images, labels), **PLAIN) > 0.9
        assert measure(net, digits, **PLAIN) > 0.9

    def test_numbers_beside_words_are_positions_and_reported(self, full: Path, caplog: Any) -> None:
        data = (np.zeros((4, 32, 32), np.uint8), [0, 1, 2, 3])
        numbers = open_source(data)
        for source, reference in ((numbers, open_source(full)), (open_source(full), numbers)):
            caplog.clear()
            found = matched(source, reference)
            assert [found.label(index) for index in range(len(found))] == [
                source.label(index) for index in range(len(source))
            ]
            assert "apple" in caplog.text


def test_sources_with_the_same_classes_are_as_they_are(full: Path, caplog: Any) -> None:
    with caplog.at_level(logging.INFO):
        source = open_source(full)
        assert matched(source, open_source(full)) is source
        arrays = open_source((np.zeros((2, 32, 32), np.uint8), [0, 1]))
        assert matched(arrays, arrays) is arrays
    assert not caplog.records


def test_preprocessed_images_stay_so(full: Path, lacking: Path) -> None:
    images = ImageDataset(open_source(lacking), Preprocessing((40, 40), 1, None, None, None))
    found = with_classes(images, list(FRUIT))
    assert isinstance(found, ImageDataset)
    assert found.read(0).shape == (40, 40, 1)
    assert found.label(17) == 3
    assert found.fingerprint() == images.fingerprint()
    assert (images.label(17), images.class_names) == (2, ("apple", "cherry", "date"))


def test_a_loaded_preprocessing_is_that_of_renumbered_images(net: CombinedNet, lacking: Path) -> None:
    LabelSupervisor(net, lacking, resolution=48).save("large")
    fresh = CombinedNet(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(3, 4))
    supervisor = LabelSupervisor(fresh, lacking).load("large")
    assert supervisor.dataset.images is supervisor.image_dataset
    assert supervisor.dataset[0][0].shape == (3, 48, 48)


def test_renumbered_images_are_cached(net: CombinedNet, lacking: Path, tmp_path: Path) -> None:
    images = LabelSupervisor(net, lacking, resolution=40, cache=tmp_path / "cache").dataset.images
    assert images.cached
    assert np.array_equal(images.read(17), images.read(17))
    assert images.item(17)[1] == 3


@pytest.mark.parametrize("classes", ["apple", [], ["a", "a"], [1, 2]])
def test_class_lists_that_are_none(classes: Any, lacking: Path) -> None:
    with pytest.raises(ConfigurationError):
        extract_features(nn.Flatten(), lacking, classes=classes)


def test_targets_follow_renumbered_labels_and_others_stay() -> None:
    images = [np.full((40, 40, 3), number, np.uint8) for number in range(3)]
    numbered = RenumberedSource(open_source(list(zip(images, (5, 7, 9), strict=True))), {5: 0, 7: 1}, None)
    assert [numbered.with_target(index)[1] for index in range(3)] == [0, 1, UNKNOWN]
    assert [numbered.with_target(index)[0].label for index in range(3)] == [0, 1, UNKNOWN]
    masks = [np.full((40, 40), number) for number in range(3)]
    kept = RenumberedSource(open_source(list(zip(images, masks, strict=True)), image_key=0), {}, None)
    assert np.array_equal(kept.with_target(2)[1], masks[2])


@pytest.mark.parametrize(
    ("words", "labels", "names"),
    [
        (["1.0", "", "2.0"], [1, None, 2], None),
        (["1", "nan", "2"], [1, None, 2], None),
        (["0.5", "NaN", "1.5"], [0, None, 1], ("0.5", "1.5")),
        (["Jan", "Nan", "Jan"], [0, 1, 0], ("Jan", "Nan")),
    ],
)
def test_numbers_of_a_table_with_gaps(words: list[str], labels: list[int | None], names: Any, tmp_path: Path) -> None:
    rows = [f"{place}.png,{word}\n" for place, word in enumerate(words)]
    for place in range(len(words)):
        Image.new("RGB", (40, 40), (place, 0, 0)).save(tmp_path / f"{place}.png")
    (tmp_path / "table.csv").write_text("path,label\n" + "".join(rows))
    source = open_source(tmp_path / "table.csv")
    assert [source.label(place) for place in range(len(words))] == labels
    assert source.class_names == names
