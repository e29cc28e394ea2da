"""Colour operations, alone and in sequences, compared with torchvision."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image as PilImage
from torchvision.transforms import functional as pil_reference
from torchvision.transforms.v2 import functional as reference

from super_selfish.images import functional
from super_selfish.transforms import colour
from super_selfish.transforms.colour import BRIGHTNESS, CONTRAST, HUE, LUMA, SATURATION, SHIFT, adjust

Image = npt.NDArray[Any]
DTYPES = ("uint8", "uint16", "float32")


def make_image(dtype: str, channels: int, low: float = 0.0, high: float = 1.0) -> Image:
    image = low + (high - low) * np.random.default_rng(channels).random((40, 50, channels))
    return image.astype(np.float32) if dtype == "float32" else np.rint(image * np.iinfo(dtype).max).astype(dtype)


def tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def array(image: torch.Tensor) -> Image:
    return image.numpy().transpose(1, 2, 0)


def difference(one: Image, other: Image) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())


def step(image: Image, kind: int, strength: float) -> Image:
    """Apply one step in float64 by torchvision's definition, without clipping."""
    luma = image @ np.array(LUMA)[:, None]
    if kind == BRIGHTNESS:
        return strength * image
    if kind == CONTRAST:
        return strength * image + (1 - strength) * luma.mean()
    if kind == SATURATION:
        return strength * image + (1 - strength) * luma
    if kind == SHIFT:
        return image + strength
    return array(reference.adjust_hue(tensor(image), strength))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.6])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (BRIGHTNESS, reference.adjust_brightness),
        (CONTRAST, reference.adjust_contrast),
        (SATURATION, reference.adjust_saturation),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_step_equals_torchvision(kind: int, expected: Any, factor: float, dtype: str) -> None:
    """uint8: within 1 level of torchvision's float result, and within 2 of its uint8 result, which is truncated twice.

    float32 and uint16: within 2e-5 for brightness, and within 2e-4 otherwise, because torchvision's luma weight of red
    is 0.2989.
    """
    image = make_image(dtype, 3)
    result = adjust(image, [(kind, factor)])
    white = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    limit = 2e-4 if kind != BRIGHTNESS else 2e-5
    if dtype == "uint8":
        assert difference(result, array(expected(tensor(image), factor))) <= (1 if kind != SATURATION else 2)
        limit = 1 / 255
    assert difference(result / white, array(expected(tensor((image / white).astype(np.float32)), factor))) <= limit


def test_greyscale_is_rec_601_luma() -> None:
    """Within 1e-6 for float32, 0.51 for uint16, and 0.75 for uint8, for which OpenCV uses 10-bit weights."""
    for dtype, tolerance in (("uint8", 0.75), ("uint16", 0.51), ("float32", 1e-6)):
        image = make_image(dtype, 3)
        grey = colour.to_grey(image)
        assert np.array_equal(grey[:, :, 0], grey[:, :, 1])
        assert np.array_equal(grey[:, :, 0], grey[:, :, 2])
        assert difference(grey[:, :, 0], image @ np.array(LUMA)) <= tolerance
        assert colour.mean_grey(image) == pytest.approx((image @ np.array(LUMA)).mean(), rel=1e-6)
    white = np.full((2, 2, 3), 255, np.uint8)
    assert np.array_equal(colour.to_grey(white), white)


@pytest.mark.parametrize("order", list(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION, HUE))))
def test_sequence_equals_consecutive_steps(order: tuple[int, ...]) -> None:
    """Within 1e-5 of white in float32 without clipping, for every position of the hue step.

    Integer images are rounded before the hue step, which amplifies the error: 4 of 65535 levels, and 5 of 255.
    """
    strengths = {BRIGHTNESS: 1.1, CONTRAST: 0.8, SATURATION: 1.2, HUE: 0.15}
    image = make_image("float32", 3, 0.4, 0.6)
    steps = [(kind, strengths[kind]) for kind in order]
    expected = image.astype(np.float64)
    for kind, strength in steps:
        expected = step(expected, kind, strength)
    assert expected.min() > 0.0
    assert expected.max() < 1.0
    assert difference(adjust(image, steps), expected) < 1e-5
    deep = np.rint(image * 65535).astype(np.uint16)
    assert difference(adjust(deep, steps), expected * 65535) <= 4
    assert difference(adjust(np.rint(image * 255).astype(np.uint8), steps), expected * 255) <= 5


def test_brightness_and_contrast_are_fused_across_hue_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[float] = []
    linear = colour._linear
    monkeypatch.setattr(colour, "_linear", lambda image, *form: (passes.append(form[0]), linear(image, *form))[1])
    image = make_image("uint8", 3)
    adjust(image, [(BRIGHTNESS, 1.1), (CONTRAST, 0.8), (HUE, 0.1), (SATURATION, 0.5)])
    assert len(passes) == 1
    adjust(image, [(SATURATION, 0.5), (HUE, 0.1), (BRIGHTNESS, 1.1)])
    assert len(passes) == 3


@pytest.mark.parametrize("seed", range(10))
def test_sequence_without_hue_is_exact(seed: int) -> None:
    """With repeated step types: 1e-5 of white in float32, 0.6 levels in uint16, 0.75 in uint8 (10-bit weights)."""
    generator = np.random.default_rng(seed)
    image = make_image("float32", 3, 0.4, 0.6)
    steps = [(int(generator.integers(3)), float(generator.uniform(0.8, 1.2))) for _ in range(6)]
    for dtype, white, tolerance in (("float32", 1.0, 1e-5), ("uint16", 65535.0, 0.6), ("uint8", 255.0, 0.75)):
        given = image if dtype == "float32" else np.rint(image * white).astype(dtype)
        expected = given / white
        for kind, strength in steps:
            expected = step(expected, kind, strength)
        assert 0.0 < expected.min() < expected.max() < 1.0
        assert difference(adjust(given, steps), expected * white) <= tolerance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", list(itertools.permutations((SHIFT, CONTRAST, SATURATION))))
def test_shift_adds_a_fraction_of_white(order: tuple[int, ...], dtype: str) -> None:
    strengths = {SHIFT: 0.1, CONTRAST: 0.7, SATURATION: 1.2}
    image = make_image(dtype, 3, 0.4, 0.6)
    white = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    expected = image / white
    for kind in order:
        expected = step(expected, kind, strengths[kind])
    result = adjust(image, [(kind, strengths[kind]) for kind in order])
    assert difference(result, expected * white) <= (1e-5 if dtype == "float32" else 0.75)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 13])
@pytest.mark.parametrize("dtype", DTYPES)
def test_saturation_and_hue_are_skipped_unless_rgb(dtype: str, channels: int) -> None:
    image = make_image(dtype, channels, 0.3, 0.7)
    steps = [(BRIGHTNESS, 1.2), (SATURATION, 0.1), (CONTRAST, 0.7), (HUE, 0.3)]
    result = adjust(image, steps)
    assert np.array_equal(result, adjust(image, [steps[0], steps[2]]))
    bright = 1.2 * image.astype(np.float64)
    expected = 0.7 * bright + 0.3 * bright.mean()
    assert difference(result, expected) <= (1e-5 if dtype == "float32" else 0.51)
    assert result.dtype == image.dtype
    assert colour.to_grey(image) is image


@pytest.mark.parametrize("channels", [1, 3, 5, 13])
@pytest.mark.parametrize("dtype", DTYPES)
def test_adjust_is_pure_for_any_memory_layout(dtype: str, channels: int) -> None:
    image = make_image(dtype, channels)
    steps = [(CONTRAST, 1.9), (HUE, -0.1), (BRIGHTNESS, 1.5), (SATURATION, 1.8)]
    for view in (image[:, ::-1], image[::2], image.transpose(1, 0, 2)):
        before = view.copy()
        result = adjust(view, steps)
        assert np.array_equal(view, before), "the input was changed"
        assert result.shape == view.shape
        assert result.dtype == view.dtype
        assert np.array_equal(result, adjust(before, steps))
        assert result.min() >= 0
        assert result.max() <= (1 if dtype == "float32" else np.iinfo(dtype).max)


def test_identity_returns_the_input() -> None:
    image = make_image("uint8", 3)
    assert adjust(image, []) is image
    assert adjust(image, [(BRIGHTNESS, 1.0), (CONTRAST, 1.0), (SATURATION, 1.0), (HUE, 0.0)]) is image


@pytest.mark.parametrize("turns", [-0.5, -0.2, -0.03, 0.1, 0.3, 0.5])
def test_turn_hue_equals_torchvision(turns: float) -> None:
    """float32: within 1e-4. uint16: within 1 level of the float result."""
    image = make_image("float32", 3)
    result = functional.turn_hue(image, turns)
    assert difference(result, array(reference.adjust_hue(tensor(image), turns))) < 1e-4
    deep = np.rint(image * 65535).astype(np.uint16)
    exact = functional.turn_hue((deep / 65535).astype(np.float32), turns)
    assert difference(functional.turn_hue(deep, turns), exact * 65535.0) <= 1


@pytest.mark.parametrize("turns", [-0.5, -0.2, -0.03, 0.1, 0.3, 0.5])
def test_turn_hue_uint8_is_as_accurate_as_pil(turns: float) -> None:
    """Both quantise hue in 256 steps. A step is 6 levels for saturated colours, and 1.5 at a quarter of the saturation.

    Noise, mostly saturated: a mean error of 1 and a maximum of 12 levels (PIL: 1.6 and 14). Muted colours: 0.25 and 3
    levels, and a mean of 1 and a maximum of 6 levels from PIL, which truncates the shift.
    """
    noise = make_image("uint8", 3)
    muted = 96 + noise // 4
    for image, mean, most in ((noise, 1.0, 12.0), (muted, 0.25, 3.1)):
        result = functional.turn_hue(image, turns).astype(np.float64)
        exact = array(reference.adjust_hue(tensor((image / 255).astype(np.float32)), turns)) * 255.0
        assert np.abs(result - exact).mean() <= mean
        assert np.abs(result - exact).max() <= most
    pil = np.asarray(pil_reference.adjust_hue(PilImage.fromarray(muted), turns))
    assert np.abs(result - pil).mean() <= 1.0
    assert np.abs(result - pil).max() <= 6


@pytest.mark.parametrize(
    "turns", [-0.5, -0.3, -0.2, -1 / 6, -0.1, -1 / 12, -0.03, 0.003, 0.07, 0.1, 0.25, 1 / 3, 0.45, 0.5]
)
def test_turn_hue_of_large_uint8_images_is_exact(turns: float) -> None:
    """Within half a level of the formula, on noise, on greys, and where two or three channels are equal."""
    image = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    image[:10] = image[:10, :, :1]
    image[10:20, :, 1:] = image[10:20, :, :1]
    image[20:30, :, 0] = image[20:30, :, 2]
    image[30:50] = image[30:50] // 128 * 255
    exact = reference.adjust_hue(tensor((image / 255).astype(np.float32)), turns)
    result = functional.turn_hue(image, turns)
    assert difference(result, array(exact) * 255.0) <= 0.51
    assert np.array_equal(
        result, functional.turn_hue(np.ascontiguousarray(image.transpose(1, 0, 2)), turns).transpose(1, 0, 2)
    )
    assert np.array_equal(result, functional.turn_hue(image[::-1, ::-1], turns)[::-1, ::-1])


def test_turn_hue_preserves_greys_and_the_input() -> None:
    for dtype in DTYPES:
        grey = np.repeat(make_image(dtype, 1), 3, axis=2)
        before = grey.copy()
        assert difference(functional.turn_hue(grey, 0.3), before) <= (1e-6 if dtype == "float32" else 0)
        assert np.array_equal(grey, before)
        image = make_image(dtype, 3)
        before = image.copy()
        result = functional.turn_hue(image[::-1, ::2], 0.2)
        assert np.array_equal(image, before)
        assert np.array_equal(result, functional.turn_hue(image[::-1, ::2].copy(), 0.2))
