"""CropColourTransform and its subclasses: sampled parameters and their application."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from super_selfish.data import BYOLAugmentations, BYOLTransform, MoCoTransform, MomentumContrastAugmentations
from super_selfish.errors import DataError
from super_selfish.images import functional
from super_selfish.images.rectangles import random_rectangle
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms import base, operations
from super_selfish.transforms.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION, adjust
from super_selfish.transforms.crop_and_colour import CropColourTransform, ViewParameters


def photo(height: int = 48, width: int = 40, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    """A smooth image, on which resampling has little effect."""
    generator = np.random.default_rng(0)
    rough = generator.random((6, 6, channels)).astype(np.float32)
    smooth = np.clip(functional.resize(rough, height, width), 0, 1)
    return smooth if dtype == np.float32 else np.rint(smooth * np.iinfo(dtype).max).astype(dtype)


def sample_parameters(
    transform: CropColourTransform, count: int = 4000, height: int = 100, width: int = 80
) -> list[ViewParameters]:
    return [transform.draw(KeyedGenerator(0, index), height, width) for index in range(count)]


def fraction(events: list[bool]) -> float:
    return sum(events) / len(events)


@pytest.mark.parametrize(
    ("transform", "scale", "jitter", "blur", "solarize"),
    [
        (MoCoTransform(), (0.2, 1.0), (0.4, 0.4, 0.4, 0.1), 0.5, 0.0),
        (BYOLTransform(), (0.08, 1.0), (0.4, 0.4, 0.2, 0.1), 1.0, 0.0),
        (BYOLTransform(view=2), (0.08, 1.0), (0.4, 0.4, 0.2, 0.1), 0.1, 0.2),
    ],
)
def test_parameter_distributions_match_the_papers(
    transform: CropColourTransform, scale: tuple[float, float], jitter: tuple[float, ...], blur: float, solarize: float
) -> None:
    drawn = sample_parameters(transform)
    assert fraction([view.flipped for view in drawn]) == pytest.approx(0.5, abs=0.03)
    assert fraction([view.sigma > 0 for view in drawn]) == pytest.approx(blur, abs=0.03)
    assert fraction([view.solarized for view in drawn]) == pytest.approx(solarize, abs=0.03)
    assert fraction([view.steps[-1:] == ((SATURATION, 0.0),) for view in drawn]) == pytest.approx(0.2, abs=0.03)
    jittered = [view.steps[:4] for view in drawn if len(view.steps) >= 4]
    assert len(jittered) / len(drawn) == pytest.approx(0.8, abs=0.03)
    assert len({tuple(kind for kind, _ in steps) for steps in jittered}) == 24
    for kind, strength in zip((BRIGHTNESS, CONTRAST, SATURATION, HUE), jitter, strict=True):
        values = [value for steps in jittered for found, value in steps if found == kind]
        middle = 0.0 if kind == HUE else 1.0
        assert middle - strength <= min(values) < middle - 0.98 * strength
        assert middle + 0.98 * strength < max(values) <= middle + strength
        assert np.mean(values) == pytest.approx(middle, abs=0.02)
    sigmas = [view.sigma for view in drawn if view.sigma]
    assert 0.1 <= min(sigmas) < 0.15
    assert 1.95 < max(sigmas) <= 2.0
    areas = [view.rectangle[2] * view.rectangle[3] / 8000 for view in drawn]
    shapes = [view.rectangle[3] / view.rectangle[2] for view in drawn]
    assert scale[0] * 0.95 <= min(areas) < scale[0] + 0.05
    assert max(areas) <= 1
    assert 0.72 < min(shapes) < 0.8
    assert 1.25 < max(shapes) < 1.37


def test_crops_cover_the_image_and_stay_inside() -> None:
    found = [random_rectangle(KeyedGenerator(1, index), 30, 50, (0.2, 1.0), (0.75, 4 / 3)) for index in range(3000)]
    for top, left, height, width in found:
        assert 0 <= top <= 30 - height
        assert 0 <= left <= 50 - width
    assert {row[0] for row in found} >= set(range(12))
    assert {row[1] for row in found} >= set(range(30))


def test_narrow_images_fall_back_to_the_nearest_crop() -> None:
    assert random_rectangle(KeyedGenerator(0), 100, 10, (0.9, 1.0), (0.75, 4 / 3)) == (43, 0, 13, 10)
    assert random_rectangle(KeyedGenerator(0), 10, 100, (0.9, 1.0), (0.75, 4 / 3)) == (0, 43, 10, 13)
    assert random_rectangle(KeyedGenerator(0), 1, 1, (0.1, 0.2), (0.75, 4 / 3)) == (0, 0, 1, 1)


def test_apply_uses_the_given_parameters() -> None:
    image = photo()
    transform = MoCoTransform(size=(36, 24))
    steps = ((BRIGHTNESS, 0.8), (HUE, 0.05), (SATURATION, 0.5))
    view = transform.apply(image, ViewParameters((5, 6, 40, 30), steps, True, 1.2, True))
    step = functional.resample(functional.flip(image[5:45, 6:36]), (36, 24))
    step = operations.solarize(functional.blur(adjust(step, steps), 1.2), 0.5)
    assert np.array_equal(view, step)
    identity = ViewParameters((0, 0, 48, 40), (), False, 0.0, False)
    assert np.array_equal(MoCoTransform().apply(image, identity), image)


def test_colour_adjustment_commutes_with_upsampling() -> None:
    image = photo()
    steps = ((CONTRAST, 1.3), (SATURATION, 0.6))
    view = MoCoTransform().apply(image, ViewParameters((4, 4, 20, 20), steps, False, 0.0, False))
    after = adjust(functional.resample(image[4:24, 4:24], (48, 40)), steps)
    difference = np.abs(view.astype(int) - after)
    assert difference.mean() < 1
    assert difference.max() <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_dtypes_and_numbers_of_channels(dtype: Any, channels: int) -> None:
    image = photo(channels=channels, dtype=dtype)
    before = image.copy()
    for transform in (MoCoTransform(), BYOLTransform(size=20, view=2, solarize=1.0), MoCoTransform(size=64)):
        for index in range(10):
            view = transform.augment(image, KeyedGenerator(index))
            assert view.dtype == dtype
            assert view.shape[2] == channels
            assert view.shape[:2] == ((transform.size,) * 2 if transform.size else (48, 40))
            if dtype == np.float32:
                assert view.min() >= 0
                assert view.max() <= 1
    assert np.array_equal(image, before)


def test_skipped_colour_operations_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    base._logged_channels.clear()
    image = photo(channels=5)
    with caplog.at_level(logging.INFO):
        for index in range(5):
            MoCoTransform().augment(image, KeyedGenerator(index))
    assert caplog.text.count("5 channels") == 1
    grey = MoCoTransform(scale=(1, 1), ratio=(5 / 6, 5 / 6), flip=0, jitter_p=0, grey=1.0, blur=0)
    assert np.array_equal(grey.augment(image, KeyedGenerator(0)), image)


def test_view_is_a_function_of_the_key() -> None:
    image, transform = photo(), MoCoTransform()
    first, again, other = (transform.augment(image, KeyedGenerator(0, 1, key)) for key in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("transform", [MomentumContrastAugmentations, BYOLAugmentations])
def test_call_preserves_the_input_type(transform: CropColourTransform) -> None:
    array = photo()
    torch.manual_seed(3)
    pil_image = transform(Pillow.fromarray(array))
    torch.manual_seed(3)
    tensor = transform(torch.from_numpy(array).permute(2, 0, 1))
    torch.manual_seed(3)
    view = transform(array)
    assert isinstance(pil_image, Pillow.Image)
    assert tensor.dtype == torch.uint8
    assert np.array_equal(np.asarray(pil_image), view)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), view)
    floats = transform(torch.rand(3, 20, 30, dtype=torch.float64))
    assert floats.dtype == torch.float64
    assert floats.shape == (3, 20, 30)
    assert transform(Pillow.fromarray(array[:, :, 0])).mode == "L"
    assert not np.array_equal(transform(array), transform(array))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", (0.5, 0.2)),
        ("scale", (0.5, 1.2)),
        ("ratio", (0.0, 1.0)),
        ("sigma", (2.0, 1.0)),
        ("flip", 1.5),
        ("blur", -0.1),
        ("jitter", (0.4, 0.4, 0.4, 0.6)),
        ("jitter", (0.4, 0.4, 0.4)),
        ("size", 0),
        ("size", (10, 10, 3)),
    ],
)
def test_arguments_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{name}`"):
        MoCoTransform(**{name: value})


def test_byol_view_is_validated() -> None:
    with pytest.raises(ValueError, match="`view`"):
        BYOLTransform(view=3)
    assert BYOLTransform(view=2, blur=0.7).blur == 0.7


@pytest.mark.parametrize(
    "image", [255 * np.random.default_rng(0).random((32, 32, 3)), torch.full((3, 32, 32), 200), -np.ones((32, 32, 3))]
)
def test_invalid_value_ranges_are_rejected(image: Any) -> None:
    with pytest.raises(DataError, match="uint8"):
        MoCoTransform()(image)
