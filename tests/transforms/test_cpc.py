"""CPCTransform: operations, probabilities and order, for images of any dtype and number of channels."""

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

IDENTITY = CPCTransform(0, elastic=0.0, gamma=0.0, jitter_p=0.0, grey=0.0)


def noise(channels: int = 3, dtype: str = "uint8", height: int = 24, width: int = 16) -> np.ndarray:
    image = 0.2 + 0.6 * np.random.default_rng(0).random((height, width, channels))
    return image.astype(np.float32) if dtype == "float32" else np.rint(image * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_shape_dtype_and_range_are_preserved(channels: int, dtype: str) -> None:
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


def test_defaults_match_the_paper() -> None:
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


def test_operations_are_sampled_uniformly_without_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_operations_for_rgb_are_not_sampled_for_other_images() -> None:
    image = noise(13)
    views = [
        CPCTransform(1, elastic=0, gamma=0, jitter_p=0, grey=0).augment(image, KeyedGenerator(key)) for key in range(60)
    ]
    assert sum(np.array_equal(view, image) for view in views) <= 4  # posterize to 8 bits


@pytest.mark.parametrize("name", ["elastic", "gamma", "jitter_p", "grey"])
@pytest.mark.parametrize("default", [True, False])
def test_step_probabilities(name: str, default: bool) -> None:
    given = {"elastic": 0.0, "gamma": 0.0, "jitter_p": 0.0, "grey": 0.0}
    expected = getattr(CPCTransform(), name) if default else 0.5
    transform, image = CPCTransform(0, **{**given, name: expected}), noise(height=6, width=6)
    changed = [not np.array_equal(transform.augment(image, KeyedGenerator(key)), image) for key in range(1500)]
    assert np.mean(changed) == pytest.approx(expected, abs=0.04)


def test_steps_follow_the_order_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def recorded(name: str) -> Any:
        return lambda image, **_: (order.append(name), image)[1]

    spied = {name: operation._replace(apply=recorded(name)) for name, operation in POOL.items()}
    monkeypatch.setattr(module, "POOL", spied)
    monkeypatch.setattr(module, "_OPERATIONS", tuple(spied[name] for name in AUTOAUGMENT))
    steps: list[Any] = []
    monkeypatch.setattr(module, "adjust", lambda image, given: (order.append("colour"), steps.extend(given), image)[2])
    CPCTransform(elastic=1.0, gamma=1.0, jitter_p=1.0, grey=1.0).augment(noise(), KeyedGenerator(0))
    assert order[2:] == ["elastic", "gamma", "colour"]
    assert {kind for kind, _ in steps[:4]} == {SHIFT, CONTRAST, SATURATION, HUE}
    assert steps[4] == (SATURATION, 0.0)


def test_jitter_matches_inception(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[float]] = {SHIFT: [], CONTRAST: [], SATURATION: [], HUE: []}
    orders = set()

    def record(image: Any, steps: Any) -> Any:
        orders.add(tuple(kind for kind, _ in steps))
        for kind, strength in steps:
            seen[kind].append(strength)
        return image

    monkeypatch.setattr(module, "adjust", record)
    transform = CPCTransform(0, elastic=0.0, gamma=0.0, jitter_p=1.0, grey=0.0)
    for key in range(600):
        transform.augment(noise(height=2, width=2), KeyedGenerator(key))
    assert len(orders) == 24
    limits = {SHIFT: (-32 / 255, 32 / 255), CONTRAST: (0.5, 1.5), SATURATION: (0.5, 1.5), HUE: (-0.2, 0.2)}
    for kind, (low, high) in limits.items():
        assert low <= min(seen[kind]) < low + 0.05 * (high - low)
        assert high >= max(seen[kind]) > high - 0.05 * (high - low)


def test_greyscale_and_identity() -> None:
    image = noise()
    grey = CPCTransform(grey=1.0).augment(image, KeyedGenerator(1))
    assert np.ptp(grey, axis=2).max() <= 1
    assert IDENTITY.augment(image, KeyedGenerator(0)) is image


def test_gamma_differs_between_channels() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    view = CPCTransform(0, elastic=0, gamma=1, jitter_p=0, grey=0).augment(image, KeyedGenerator(0))
    assert len(set(view[0, 0].tolist())) == 3


def test_elastic_includes_shear_and_preceding_warps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    elastic = warps.elastic
    monkeypatch.setattr(warps, "elastic", lambda *args: (calls.append(args), elastic(*args))[1])
    CPCTransform(0, elastic=1, gamma=0, jitter_p=0, grey=0).augment(noise(), KeyedGenerator(0))
    ((_, displacement, matrix),) = calls
    assert displacement.std() == pytest.approx(0.045 * 16, rel=0.5)
    assert 0 < max(abs(matrix[1]), abs(matrix[3])) <= 0.31
    shear_only = matrix
    monkeypatch.setattr(module, "_OPERATIONS", (AUTOAUGMENT["rotate"], AUTOAUGMENT["translate_x"]))
    monkeypatch.setattr(warps, "placed", None)  # must not be called
    CPCTransform(2, elastic=1, gamma=0, jitter_p=0, grey=0).augment(noise(), KeyedGenerator(0))
    assert np.abs(np.subtract(calls[1][2], shear_only)).min() > 1e-3


def test_consecutive_warps_are_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices: list[Any] = []
    monkeypatch.setattr(warps, "placed", lambda image, matrix: (matrices.append(matrix), image)[1])
    transform = CPCTransform(2, elastic=0, gamma=0, jitter_p=0, grey=0)
    monkeypatch.setattr(module, "_OPERATIONS", (AUTOAUGMENT["rotate"], AUTOAUGMENT["translate_x"]))
    for key in range(8):
        transform.augment(noise(), KeyedGenerator(key))
    assert len(matrices) == 8
    monkeypatch.setattr(module, "_OPERATIONS", (AUTOAUGMENT["rotate"], AUTOAUGMENT["invert"]))
    for key in range(8):
        transform.augment(noise(), KeyedGenerator(key))
    assert len(matrices) == 16


def test_call_with_a_tensor() -> None:
    assert CPCTransform()(torch.rand(3, 20, 30)).shape == (3, 20, 30)


@pytest.mark.parametrize(
    "wrong", [{"n_ops": -1}, {"n_ops": 15}, {"n_ops": 1.5}, {"elastic": 2}, {"gamma": -1}, {"jitter": 3}, {"grey": "x"}]
)
def test_arguments_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(wrong))}`"):
        CPCTransform(**wrong)
