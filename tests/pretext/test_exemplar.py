"""Pretext task of ExemplarNet: the images of the classes, and their random versions."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.data import ExemplarDataset, ExemplarTransform
from super_selfish.errors import ConfigurationError
from super_selfish.pretext.exemplar import draw_transform
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms import operations, warps
from super_selfish.transforms.exemplar import OPERATIONS
from super_selfish.transforms.pool import POOL


def numbered(count: int, side: int = 8) -> np.ndarray:
    """Images that say by their values which one they are."""
    values = np.arange(count, dtype=np.uint16)[:, None, None, None]
    return np.broadcast_to(values, (count, side, side, 1)).copy()


def test_each_class_is_another_image() -> None:
    dataset = ExemplarDataset(numbered(1000), n_classes=600, max_elms=0)
    assert len(dataset) == len(dataset.chosen) == 600
    items = [dataset.sample(label, KeyedGenerator(label)) for label in range(600)]
    assert [label for _, label in items] == list(range(600))
    sources = [int(image[0, 0, 0]) for image, _ in items]
    assert sources == dataset.chosen.tolist() == sorted(set(sources))
    assert 0.5 < np.mean(np.array(sources) < 500) / 0.5 < 1.5
    assert [int(dataset.original(label)[0, 0, 0]) for label in (0, 599)] == [sources[0], sources[-1]]


def test_fewer_images_than_classes() -> None:
    dataset = ExemplarDataset(numbered(7))
    assert len(dataset) == 7
    assert dataset.chosen.tolist() == list(range(7))


def test_the_classes_depend_on_the_seed_alone(run_python: Callable[..., Any]) -> None:
    def choice(seed: int) -> ExemplarDataset:
        return ExemplarDataset(numbered(500), n_classes=20, seed=seed)

    first = choice(0)
    torch.rand(3)
    assert np.array_equal(first.chosen, choice(0).chosen)
    assert first.transforms == choice(0).transforms
    assert not np.array_equal(first.chosen, choice(1).chosen)
    assert first.transforms != choice(1).transforms
    done = run_python(
        "-c",
        "import numpy; from super_selfish.data import ExemplarDataset;"
        "d = ExemplarDataset(numpy.zeros((500, 8, 8, 1), numpy.uint8), n_classes=20);"
        "print(*d.chosen, *d.transforms[3].names)",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*map(str, first.chosen), *first.transforms[3].names]


def test_a_million_images_are_chosen_from_at_once() -> None:
    class Many(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 1_000_000

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            assert type(index) is int
            return torch.full((1, 8, 8), index / 1e6), 0

    dataset = ExemplarDataset(Many(), max_elms=0)
    assert len(set(dataset.chosen.tolist())) == 8000
    assert dataset[5][0].max() == pytest.approx(dataset.chosen[5] / 1e6)


def test_two_draws_of_one_image_differ() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    dataset = ExemplarDataset(images)
    torch.manual_seed(0)
    draws = [dataset[2] for _ in range(20)]
    assert {label for _, label in draws} == {2}
    assert len({image.numpy().tobytes() for image, _ in draws}) > 17
    one, other = (dataset.sample(2, KeyedGenerator(5))[0] for _ in range(2))
    assert np.array_equal(one, other)


def test_versions_use_all_compositions() -> None:
    dataset = ExemplarDataset(numbered(4, 2).astype(np.uint8))
    assert len(dataset.transforms) == 100
    assert len(set(dataset.transforms)) > 90
    dataset.transforms = (ExemplarTransform(("invert",)), ExemplarTransform(), ExemplarTransform())
    inverted = [dataset.sample(1, KeyedGenerator(key))[0].max() > 100 for key in range(600)]
    assert np.mean(inverted) == pytest.approx(1 / 3, abs=0.06)


def test_no_operations_no_change() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    image = images[0]
    assert ExemplarTransform().augment(image, KeyedGenerator(0)) is image
    for arguments in ({"max_elms": 0}, {"p": 0.0}):
        dataset = ExemplarDataset(images, **arguments)
        assert all(transform == ExemplarTransform() for transform in dataset.transforms)
        assert np.array_equal(dataset.sample(1, KeyedGenerator(0))[0], images[1])


def test_indices_are_those_of_a_sequence() -> None:
    dataset = ExemplarDataset(numbered(6), max_elms=0)
    assert dataset[-1][1] == 5
    assert [label for _, label in dataset] == list(range(6))
    with pytest.raises(IndexError):
        dataset[6]


def test_compositions_have_at_most_one_operation_per_kind() -> None:
    transforms = [draw_transform(KeyedGenerator(number), 10, 0.5) for number in range(3000)]
    counts = np.array([len(transform.names) for transform in transforms])
    assert counts.mean() == pytest.approx(5, abs=0.1)
    assert counts.var() == pytest.approx(2.5, abs=0.3)
    assert counts.max() <= 10
    for transform in transforms:
        kinds = [OPERATIONS[name].kind for name in transform.names]
        assert len(kinds) == len(set(kinds))
    share = {name: np.mean([name in transform.names for transform in transforms]) for name in OPERATIONS}
    assert all(share[name] > 0.03 for name in OPERATIONS)
    assert share["translate"] > 0.35
    assert share["scale"] > 0.35
    assert share["invert"] + share["solarize"] < 0.2
    assert share["posterize"] < 0.2
    everything = draw_transform(KeyedGenerator(0), 100, 1.0)
    assert len(everything.names) == len({operation.kind for operation in OPERATIONS.values()})


def test_ranges_are_those_of_the_paper() -> None:
    for name, (low, high) in {"rotate": (-20, 20), "contrast": (0.5, 2), "brightness": (0.7, 1.4)}.items():
        drawn = [next(iter(OPERATIONS[name].draw(KeyedGenerator(key), (64, 64, 3)).values())) for key in range(300)]
        assert low <= min(drawn) < low + 0.1 * (high - low)
        assert high >= max(drawn) > high - 0.1 * (high - low)
    for name in ("scale", "translate", "hue", "principal_contrast", "saturation_value"):
        assert OPERATIONS[name] is POOL[name]  # which test_pool.py looks at


def test_geometry_of_a_composition_is_one_warp(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    transform = ExemplarTransform(("invert", "rotate", "shear_y", "scale", "translate"))
    calls: list[dict[str, Any]] = []
    for seed in range(5):
        generator = KeyedGenerator(seed)
        placed: dict[str, Any] = {}
        for name in transform.names[1:]:
            placed |= OPERATIONS[name].draw(generator, image.shape)
        assert set(placed) == {"angle", "shear", "scale", "translate"}
        expected = operations.invert(warps.affine(image, **placed))
        assert np.array_equal(transform.augment(image, KeyedGenerator(seed)), expected)
        calls.append(placed)
    assert len({str(call) for call in calls}) == 5
    monkeypatch.setattr(warps, "placed", None)  # is not called
    deformed = ExemplarTransform(("scale", "elastic")).augment(image, KeyedGenerator(0))
    assert not np.array_equal(deformed, image)


def test_custom_transformations() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    dataset = ExemplarDataset(images, ExemplarTransform(("invert",)), n_trans=3)
    assert dataset.transforms == (ExemplarTransform(("invert",)),)
    assert not dataset.runs_user_code
    assert np.array_equal(dataset.sample(2, KeyedGenerator(0))[0], 255 - images[2])
    dataset = ExemplarDataset(images, lambda image: image.rotate(90))
    assert dataset.runs_user_code
    assert np.array_equal(dataset.sample(2, KeyedGenerator(0))[0], np.rot90(images[2]))


@pytest.mark.parametrize("channels", [1, 3, 13])
def test_any_number_of_channels(channels: int) -> None:
    images = np.random.default_rng(0).random((4, 32, 40, channels), np.float32)
    dataset = ExemplarDataset(images, p=1.0)
    for key in range(20):
        version, _ = dataset.sample(1, KeyedGenerator(key))
        assert version.shape == images[1].shape
        assert version.dtype == np.float32
        assert 0 <= version.min() <= version.max() <= 1


def test_can_be_pickled() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    dataset = ExemplarDataset(images)
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again.sample(3, KeyedGenerator(1))[0], dataset.sample(3, KeyedGenerator(1))[0])


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_classes": 1},
        {"n_classes": True},
        {"n_trans": 0},
        {"max_elms": -1},
        {"p": 1.5},
        {"seed": 0.5},
        {"transformations": "flip"},
    ],
)
def test_arguments_out_of_range_raise(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"`{next(iter(arguments))}` is out of range.*Expected"):
        ExemplarDataset(numbered(4), **arguments)


@pytest.mark.parametrize("names", [("flip",), ("invert", "solarize"), ("rotate", "rotate")])
def test_invalid_compositions_raise(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="at most one of a kind"):
        ExemplarTransform(names)
