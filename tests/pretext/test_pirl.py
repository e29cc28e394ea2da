"""The views of PIRL: an image, and its shuffled patches."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torchvision.transforms import v2

from super_selfish.data import PIRLAugmentations, PIRLColours, PIRLImageTransform, PIRLTransform
from super_selfish.images import functional
from super_selfish.pretext.pirl import image_and_jigsaw
from super_selfish.seeding import KeyedGenerator

PLAIN = PIRLColours(jitter=(0.0, 0.0, 0.0, 0.0), photometric=0.0, grey=0.0)
WHOLE: dict[str, Any] = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "colours": PLAIN}


def picture(height: int = 33, width: int = 33, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def cells(image: np.ndarray, crops: int = 3) -> list[np.ndarray]:
    return [cell for band in np.array_split(image, crops) for cell in np.array_split(band, crops, axis=1)]


@pytest.mark.parametrize("crops", [2, 3])
def test_transformed_view_is_the_shuffled_cells_of_the_image(crops: int) -> None:
    image = picture(6 * crops, 6 * crops)
    puzzle = PIRLTransform(crops=crops, share=1.0, **WHOLE).augment(image, KeyedGenerator(1))
    assert not np.array_equal(puzzle, image)
    assert sorted(cell.tobytes() for cell in cells(puzzle, crops)) == sorted(c.tobytes() for c in cells(image, crops))


def test_each_place_shows_a_part_of_a_cell_enlarged() -> None:
    image = picture()
    puzzle = PIRLTransform(**WHOLE).augment(image, KeyedGenerator(2))
    found = []
    for shown in cells(puzzle):
        parts = [
            (number, functional.resample(cell[top : top + 9, left : left + 9], (11, 11)))
            for number, cell in enumerate(cells(image))
            for top in range(3)
            for left in range(3)
        ]
        found += [number for number, part in parts if np.array_equal(part, shown)]
    assert sorted(found) == list(range(9))


def test_all_orders_are_about_equally_likely() -> None:
    image = np.repeat(np.repeat(np.arange(9, dtype=np.uint8).reshape(3, 3), 4, 0), 4, 1)[:, :, None]
    transform = PIRLTransform(**WHOLE)
    counts = np.zeros((9, 9))
    orders = set()
    for key in range(1000):
        order = transform.augment(image, KeyedGenerator(key))[2::4, 2::4, 0].ravel()
        counts[np.arange(9), order] += 1
        orders.add(tuple(order))
    assert len(orders) > 990  # of 362,880
    assert np.abs(counts - 1000 / 9).max() < 5 * np.sqrt(1000 / 9)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (97, 130), (130, 97), (64, 200), (225, 225), (12, 12)])
@pytest.mark.parametrize("transform", [PIRLTransform(), PIRLImageTransform()])
def test_a_view_is_as_large_as_its_image(height: int, width: int, transform: Any) -> None:
    for key in range(5):
        assert transform.augment(picture(height, width), KeyedGenerator(key)).shape == (height, width, 3)


@pytest.mark.parametrize("size", [33, (34, 50), (100, 91)])
def test_a_view_of_any_size_has_nothing_unpainted(size: Any) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    white = np.full((40, 64, 3), 255, np.uint8)
    for transform in (PIRLTransform(size, colours=PLAIN), PIRLImageTransform(size, colours=PLAIN)):
        view = transform.augment(white, KeyedGenerator(0))
        assert view.shape == (height, width, 3)
        assert (view == 255).all()


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_kind_of_image(channels: int, dtype: Any) -> None:
    image = picture(40, 36, channels)
    image = (image / 255).astype(np.float32) if dtype == np.float32 else image.astype(dtype)
    for transform in (PIRLTransform(), PIRLImageTransform()):
        for key in range(10):
            view = transform.augment(image, KeyedGenerator(key))
            assert view.shape == image.shape
            assert view.dtype == dtype
            if dtype == np.float32:
                assert 0 <= view.min() <= view.max() <= 1


def test_patches_have_colours_of_their_own() -> None:
    image = np.full((33, 33, 3), (200, 60, 30), np.uint8)
    shown = {tuple(cell[5, 5]) for cell in cells(PIRLTransform().augment(image, KeyedGenerator(0)))}
    assert len(shown) > 4
    assert len({tuple(cell[5, 5]) for cell in cells(PIRLImageTransform().augment(image, KeyedGenerator(0)))}) == 1


def test_patches_are_mirrored_one_by_one() -> None:
    ramp = np.broadcast_to(np.arange(60, dtype=np.uint8)[None, :, None] * 4, (60, 60, 1))
    puzzle = PIRLTransform(colours=PLAIN).augment(ramp, KeyedGenerator(0)).astype(int)
    rising = [bool(cell[10, 15] > cell[10, 4]) for cell in cells(puzzle)]
    assert 0 < sum(rising) < 9


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        (PIRLColours(jitter=(0, 0, 0, 0), photometric=0.0, grey=1.0), (150, 150, 150)),
        (PLAIN, (200, 130, 120)),
    ],
)
def test_colours(colours: PIRLColours, expected: tuple[int, ...]) -> None:
    image = np.full((4, 4, 3), (200, 130, 120), np.uint8)
    assert tuple(colours.augment(image, KeyedGenerator(0))[0, 0]) == expected


def test_photometric_changes_are_drawn_within_their_ranges() -> None:
    image = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (4, 1, 1))
    colours = PIRLColours(jitter=(0, 0, 0, 0), photometric=1.0, grey=0.0)
    levels, inverted = [], 0
    for key in range(200):
        made = colours.augment(image, KeyedGenerator(key))
        assert made.min() == 0
        assert made.max() == 255, "the widest contrast"
        inverted += bool(made[1, 250, 0] < made[1, 5, 0])
        levels.append(len(np.unique(made)))
    assert min(levels) >= 8  # 4 bits, of which an inversion in the middle leaves half
    assert max(levels) > 100
    assert 0 < inverted < 200


def test_called_on_any_image_it_returns_the_same_kind() -> None:
    image = picture(40, 36)
    torch.manual_seed(0)
    puzzle = PIRLAugmentations(Pillow.fromarray(image))
    assert isinstance(puzzle, Pillow.Image)
    assert puzzle.size == (36, 40)
    tensor = PIRLAugmentations(torch.from_numpy(image).movedim(-1, 0) / 255)
    assert tensor.shape == (3, 40, 36)
    assert tensor.dtype == torch.float32
    assert PIRLAugmentations(image).shape == image.shape
    assert repr(pickle.loads(pickle.dumps(PIRLAugmentations))) == repr(PIRLTransform())


def test_view_is_deterministic_and_does_not_change_the_image() -> None:
    image = picture()
    for transform in (PIRLTransform(), PIRLImageTransform()):
        before = image.copy()
        first, again, other = (transform.augment(image, KeyedGenerator(key)) for key in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
        assert np.array_equal(image, before)


@pytest.mark.parametrize(
    "colours",
    [
        lambda patch: patch.transpose(Pillow.Transpose.ROTATE_90),
        v2.RandomInvert(1.0),
        v2.Compose([v2.Resize(20), v2.ToDtype(torch.float32, scale=True)]),
    ],
)
def test_custom_callable_is_applied_to_patches(colours: Any) -> None:
    transform = PIRLTransform(colours=colours)
    assert transform.runs_user_code
    assert not PIRLTransform().runs_user_code
    assert transform.augment(picture(), KeyedGenerator(0)).shape == (33, 33, 3)
    with pytest.raises(ValueError, match="changed the number of channels"):
        PIRLTransform(colours=lambda patch: patch.convert("L")).augment(picture(), KeyedGenerator(0))


@pytest.mark.parametrize(
    ("kind", "argument", "value"),
    [
        (PIRLTransform, "crops", 1),
        (PIRLTransform, "share", 0.0),
        (PIRLTransform, "scale", (0.5, 1.5)),
        (PIRLTransform, "size", 0),
        (PIRLImageTransform, "ratio", (2, 1)),
        (PIRLImageTransform, "flip", 1.1),
        (PIRLColours, "jitter", (1, 1, 1)),
        (PIRLColours, "photometric", -1),
        (PIRLColours, "grey", None),
    ],
)
def test_arguments_out_of_range_raise(kind: Any, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        kind(**{argument: value})


def test_images_too_small_for_their_patches() -> None:
    with pytest.raises(ValueError, match="too small for 3×3 tiles"):
        PIRLTransform().augment(picture(11, 40), KeyedGenerator(0))


def test_items_end_in_the_index_of_the_wrapped_data_set() -> None:
    images = np.stack([picture(32, 32, seed=seed) for seed in range(4)])
    dataset = image_and_jigsaw(None, None, 3, None)(images)
    image, puzzle, index = dataset[2]
    assert image.shape == puzzle.shape == (3, 32, 32)
    assert int(index) == 2
    changed = image_and_jigsaw(PIRLImageTransform(colours=PLAIN), v2.RandomInvert(1.0), 2, None)(
        255 * np.ones_like(images)
    )
    image, puzzle, _ = changed[0]
    assert (image == 1).all()
    assert (puzzle == 0).all()
    image, turned, _ = image_and_jigsaw((PLAIN, torch.nn.Identity()))(images)[1]
    assert torch.equal(image, turned)
    for views, patches in ((PLAIN,), None), ((PLAIN, PLAIN), PLAIN):
        with pytest.raises(ValueError, match="`views`"):
            image_and_jigsaw(views, patches)
