"""CPC's recipe: each operation with its probability, for images of any type and number of channels."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.data import ContrastivePredictiveCodingAugmentations, CPCTransform
from super_selfish.errors import ConfigurationError
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms import cpc as module
from super_selfish.transforms import warps
from super_selfish.transforms.colour import CONTRAST, HUE, SATURATION, SHIFT
from super_selfish.transforms.pool import AUTOAUGMENT, POOL

NOTHING = CPCTransform(0, elastic=0.0, gamma=0.0, jitter_p=0.0, grey=0.0)


def noise(channels: int = 3, dtype: str = "uint8", height: int = 24, width: int = 16) -> np.ndarray:
    image = 0.2 + 0.6 * np.random.default_rng(0).random((height, width, channels))
    return image.astype(np.float32) if dtype == "float32" else np.rint(image * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_shape_type_and_range_are_kept(channels: int, dtype: str) -> None:
    image = noise(channels, dtype)
    before, changed = image.copy(), 0
    for key in range(40):
        view = ContrastivePredictiveCodingAugmentations.augment(image, KeyedGenerator(key))
        assert view.shape == image.shape
        assert view.dtype == image.dtype
        assert np.isfinite(view).all()
        assert view.min() >= 0
        assert view.max() <= (1 if dtype == "float32" else np.iinfo(dtype).max)
        assert np.array_equal(view, ContrastivePredictiveCodingAugmentations.augment(image, KeyedGenerator(key)))
        changed += not np.array_equal(view, image)
    assert changed > 35
    assert np.array_equal(image, before)


def test_defaults_are_the_papers() -> None:
    transform = ContrastivePredictiveCodingAugmentations
    assert (transform.n_ops, transform.elastic, transform.gamma, transform.jitter_p, transform.grey) == (
        2,
        0.2,
        0.2,
        0.8,
        0.25,
    )
    assert transform.jitter == (32 / 255, 0.5, 0.5, 0.2)
    assert pickle.loads(pickle.dumps(transform)) == transform == CPCTransform()


def test_every_operation_of_the_pool_is_drawn_as_often_and_never_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    spied = tuple(
        operation._replace(apply=lambda image, name=name, **_: (drawn.append(name), image)[1])
        for name, operation in AUTOAUGMENT.items()
    )
    monkeypatch.setattr(module, "_OPERATIONS", spied)
    transform, image = CPCTransform(elastic=0.0, gamma=0.0, jitter_p=0.0, grey=0.0), noise()
    for key in range(3000):
        transform.augment(image, KeyedGenerator(key))
    pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
    assert len(pairs) == 3000
    assert all(first != second for first, second in pairs)
    assert set(drawn) == set(AUTOAUGMENT)
    for name in AUTOAUGMENT:
        assert drawn.count(name) / 6000 == pytest.approx(1 / 15, rel=0.2)


def test_images_that_are_not_rgb_draw_from_the_operations_that_suit_them() -> None:
    image = noise(13)
    views = [
        CPCTransform(1, elastic=0, gamma=0, jitter_p=0, grey=0).augment(image, KeyedGenerator(key)) for key in range(60)
    ]
    assert sum(np.array_equal(view, image) for view in views) <= 4  # posterize to 8 bits


@pytest.mark.parametrize("name", ["elastic", "gamma", "jitter_p", "grey"])
@pytest.mark.parametrize("default", [True, False])
def test_each_step_has_its_probability(name: str, default: bool) -> None:
    given = {"elastic": 0.0, "gamma": 0.0, "jitter_p": 0.0, "grey": 0.0}
    expected = getattr(CPCTransform(), name) if default else 0.5
    transform, image = CPCTransform(0, **{**given, name: expected}), noise(height=6, width=6)
    changed = [not np.array_equal(transform.augment(image, KeyedGenerator(key)), image) for key in range(1500)]
    assert np.mean(changed) == pytest.approx(expected, abs=0.04)


def test_steps_come_in_the_papers_order(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def told(name: str) -> Any:
        return lambda image, **_: (order.append(name), image)[1]

    spied = {name: operation._replace(apply=told(name)) for name, operation in POOL.items()}
    monkeypatch.setattr(module, "POOL", spied)
    monkeypatch.setattr(module, "_OPERATIONS", tuple(spied[name] for name in AUTOAUGMENT))
    steps: list[Any] = []
    monkeypatch.setattr(module, "adjust", lambda image, given: (order.append("colour"), steps.extend(given), image)[2])
    CPCTransform(elastic=1.0, gamma=1.0, jitter_p=1.0, grey=1.0).augment(noise(), KeyedGenerator(0))
    assert order[2:] == ["elastic", "gamma", "colour"]
    assert {kind for kind, _ in steps[:4]} == {SHIFT, CONTRAST, SATURATION, HUE}
    assert steps[4] == (SATURATION, 0.0)


def test_the_jitter_is_inceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[float]] = {SHIFT: [], CONTRAST: [], SATURATION: [], HUE: []}
    orders = set()

    def look(image: Any, steps: Any) -> Any:
        orders.add(tuple(kind for kind, _ in steps))
        for kind, strength in steps:
            seen[kind].append(strength)
        return image

    monkeypatch.setattr(module, "adjust", look)
    transform = CPCTransform(0, elastic=0.0, gamma=0.0, jitter_p=1.0, grey=0.0)
    for key in range(600):
        transform.augment(noise(height=2, width=2), KeyedGenerator(key))
    assert len(orders) == 24
    limits = {SHIFT: (-32 / 255, 32 / 255), CONTRAST: (0.5, 1.5), SATURATION: (0.5, 1.5), HUE: (-0.2, 0.2)}
    for kind, (low, high) in limits.items():
        assert low <= min(seen[kind]) < low + 0.05 * (high - low)
        assert high >= max(seen[kind]) > high - 0.05 * (high - low)


def test_grey_is_grey_and_nothing_is_the_image_itself() -> None:
    image = noise()
    grey = CPCTransform(grey=1.0).augment(image, KeyedGenerator(1))
    assert np.ptp(grey, axis=2).max() <= 1
    assert NOTHING.augment(image, KeyedGenerator(0)) is image


def test_gammas_differ_between_channels() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    view = CPCTransform(0, elastic=0, gamma=1, jitter_p=0, grey=0).augment(image, KeyedGenerator(0))
    assert len(set(view[0, 0].tolist())) == 3


def test_elastic_deforms_and_shears_with_the_warps_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    elastic = warps.elastic
    monkeypatch.setattr(warps, "elastic", lambda *all: (given.append(all), elastic(*all))[1])
    CPCTransform(0, elastic=1, gamma=0, jitter_p=0, grey=0).augment(noise(), KeyedGenerator(0))
    ((_, displacement, origin),) = given
    assert displacement.std() == pytest.approx(0.045 * 16, rel=0.5)
    assert 0 < max(abs(origin[1]), abs(origin[3])) <= 0.31
    shear_alone = origin
    monkeypatch.setattr(module, "_OPERATIONS", (AUTOAUGMENT["rotate"], AUTOAUGMENT["translate_x"]))
    monkeypatch.setattr(warps, "placed", None)  # is not called
    CPCTransform(2, elastic=1, gamma=0, jitter_p=0, grey=0).augment(noise(), KeyedGenerator(0))
    assert np.abs(np.subtract(given[1][2], shear_alone)).min() > 1e-3


def test_warps_in_a_row_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[Any] = []
    monkeypatch.setattr(warps, "placed", lambda image, origin: (placed.append(origin), image)[1])
    transform = CPCTransform(2, elastic=0, gamma=0, jitter_p=0, grey=0)
    monkeypatch.setattr(module, "_OPERATIONS", (AUTOAUGMENT["rotate"], AUTOAUGMENT["translate_x"]))
    for key in range(8):
        transform.augment(noise(), KeyedGenerator(key))
    assert len(placed) == 8
    monkeypatch.setattr(module, "_OPERATIONS", (AUTOAUGMENT["rotate"], AUTOAUGMENT["invert"]))
    for key in range(8):
        transform.augment(noise(), KeyedGenerator(key))
    assert len(placed) == 16


def test_called_by_hand() -> None:
    assert CPCTransform()(torch.rand(3, 20, 30)).shape == (3, 20, 30)


@pytest.mark.parametrize(
    "wrong", [{"n_ops": -1}, {"n_ops": 15}, {"n_ops": 1.5}, {"elastic": 2}, {"gamma": -1}, {"jitter": 3}, {"grey": "x"}]
)
def test_arguments_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(wrong))}`"):
        CPCTransform(**wrong)
