"""Jigsaw pretext task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from super_selfish.data import JigsawAugmentations, JigsawDataset, JigsawTransform, fit_preprocessing, jigsaw
from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.pretext.tiles import cell_and_crop, normalised, reorder_tiles, shuffled, without_fringe
from super_selfish.seeding import KeyedGenerator

PLAIN: dict[str, Any] = {
    "transformations": JigsawTransform(jitter_p=0, grey=0),
    "chroma_jitter": 0,
    "chroma_project": 0,
    "grey": 0,
}


def noise(height: int = 40, width: int = 40, channels: int = 3, count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), np.uint8)


def smooth(height: int = 64, width: int = 64) -> np.ndarray:
    """A picture whose neighbouring pixels are alike, with a slope and a tint."""
    y, x = np.mgrid[:height, :width]
    waves = [60 * np.sin(x / 9 + y / 7 + phase) + 120 + y / 2 for phase in (0.0, 0.4, 1.0)]
    return np.stack(waves, axis=2).astype(np.uint8)


def tiles(image: np.ndarray, crops: int) -> list[np.ndarray]:
    height, width = image.shape[0] // crops, image.shape[1] // crops
    return [
        image[row * height : (row + 1) * height, column * width : (column + 1) * width]
        for row in range(crops)
        for column in range(crops)
    ]


@pytest.mark.parametrize(("crops", "size"), [(2, (40, 40)), (3, (36, 48)), (2, (33, 41))])
def test_the_identity_changes_nothing(crops: int, size: tuple[int, int]) -> None:
    image = noise(*size)[0]
    cell = (size[0] // crops, size[1] // crops)
    laid = shuffled(image, range(crops * crops), crops, cell, KeyedGenerator(0))
    assert np.array_equal(laid, image[: crops * cell[0], : crops * cell[1]])


def test_tile_n_goes_to_place_perm_n() -> None:
    image = noise(36, 48)[0]
    permutation = [4, 0, 8, 1, 7, 2, 6, 5, 3]
    laid = tiles(shuffled(image, permutation, 3, (12, 16), KeyedGenerator(0)), 3)
    for tile, place in enumerate(permutation):
        assert np.array_equal(laid[place], tiles(image, 3)[tile])


def test_shuffled_image_has_the_same_tiles_and_can_be_restored() -> None:
    image = noise(36, 48)[0]
    permutation = KeyedGenerator(1).permutation(9)
    laid = shuffled(image, permutation, 3, (12, 16), KeyedGenerator(0))
    assert sorted(tile.tobytes() for tile in tiles(laid, 3)) == sorted(tile.tobytes() for tile in tiles(image, 3))
    back = reorder_tiles(torch.from_numpy(laid).permute(2, 0, 1), permutation)
    assert np.array_equal(back.permute(1, 2, 0).numpy(), image)


@pytest.mark.parametrize("crops", [2, 3])
def test_nothing_outside_the_grid_is_seen(crops: int) -> None:
    images = noise(41, 47)
    changed = images.copy()
    height, width = 41 // crops * crops, 47 // crops * crops
    changed[:, height:], changed[:, :, width:] = 0, 0
    total = {"total_perms": 24, "crops": crops}
    for index in range(4):
        (one, row), (other, same) = (
            JigsawDataset(given, **total).sample(index, KeyedGenerator(3, index)) for given in (images, changed)
        )
        assert torch.equal(one, other)
        assert row == same
        assert one.shape == (3, height, width)


def test_no_tile_shows_pixels_of_its_neighbours() -> None:
    for quarter in range(4):
        image = np.zeros((40, 40, 3), np.uint8)
        tiles(image, 2)[quarter][:] = 255
        for draw in range(20):
            laid = shuffled(image, [0, 1, 2, 3], 2, (17, 17), KeyedGenerator(draw), None, 3)
            for place, tile in enumerate(tiles(laid, 2)):
                assert (tile == (255 if place == quarter else 0)).all()


def test_two_draws_crop_differently_and_each_tile_by_itself() -> None:
    dataset = JigsawDataset(noise(), normed=False, total_perms=2, n_perms_per_image=1, **PLAIN)
    draws = [dataset.sample(0, KeyedGenerator(number))[0] for number in range(8)]
    assert all(draw.dtype == np.uint8 for draw in draws)
    assert len({draw.tobytes() for draw in draws}) == 8
    both = np.tile(noise(20, 20)[0], (2, 2, 1))  # four equal tiles
    laid = tiles(shuffled(both, [0, 1, 2, 3], 2, (14, 14), KeyedGenerator(0)), 2)
    assert len({tile.tobytes() for tile in laid}) == 4


def test_crops_reach_every_corner_of_the_cell_and_none_beyond() -> None:
    y, x = np.mgrid[:20, :20]
    image = np.tile(np.stack([y, x, x], axis=2).astype(np.uint8), (2, 2, 1))
    seen = set()
    for draw in range(200):
        tile = tiles(shuffled(image, [0, 1, 2, 3], 2, (18, 17), KeyedGenerator(draw)), 2)[0]
        seen.add((int(tile[0, 0, 0]), int(tile[0, 0, 1])))
        assert tile[-1, -1, 0] - tile[0, 0, 0] == 17
        assert tile[-1, -1, 1] - tile[0, 0, 1] == 16
    assert seen == {(top, left) for top in range(3) for left in range(4)}


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_are_shifted_against_each_other(axis: int) -> None:
    image = np.repeat((np.mgrid[:30, :30][axis] * 8)[:, :, None], 3, axis=2).astype(np.uint8)
    apart = []
    for draw in range(100):
        laid = tiles(shuffled(image, [0, 1, 2, 3], 2, (11, 11), KeyedGenerator(draw), None, 2), 2)
        corners = np.array([tile[0, 0] // 8 - 15 * divmod(place, 2)[axis] for place, tile in enumerate(laid)], np.int64)
        apart.append(np.ptp(corners, axis=1))
        assert corners.min() >= 0
        assert corners.max() <= 4
    assert np.max(apart) == 2
    assert len({tuple(row) for row in apart}) > 10, "each tile has shifts of its own"
    still = shuffled(image, [0, 1, 2, 3], 2, (11, 11), KeyedGenerator(0), None, 0)
    assert np.array_equal(still[:, :, 0], still[:, :, 2])


def test_channels_are_shifted_in_colour_images_only() -> None:
    images = noise(channels=1).repeat(3, axis=3)
    for changed, shifted in (({"chroma_jitter": 2}, True), ({}, False), ({"chroma_jitter": 2, "grey": 1.0}, False)):
        laid, _ = JigsawDataset(images, normed=False, **{**PLAIN, **changed}).sample(0, KeyedGenerator(1))
        assert (np.ptp(laid, axis=2).max() > 20) == shifted


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_each_channel_of_each_tile_is_normalised(dtype: type, channels: int) -> None:
    image = noise(36, 45, channels)[0]
    image = image / np.float32(255) if dtype == np.float32 else image.astype(dtype) * (257 if dtype == np.uint16 else 1)
    made = normalised(image, 3)
    assert made.dtype == np.float32
    for tile, original in zip(tiles(made, 3), tiles(image.astype(np.float64), 3), strict=True):
        expected = (original - original.mean(axis=(0, 1))) / original.std(axis=(0, 1))
        assert np.allclose(tile, expected, atol=1e-4)


def test_blank_tiles_become_zero_and_not_noise() -> None:
    image = np.full((32, 32, 3), 77, np.uint8)
    assert np.abs(normalised(image, 2)).max() < 1e-4
    image[::4, ::4] = 78
    assert np.abs(normalised(image, 2)).max() < 1
    puzzle, _ = JigsawDataset(np.zeros((2, 32, 32, 3), np.uint8))[0]
    assert puzzle.abs().max() == 0


def test_brightness_of_a_tile_is_not_seen() -> None:
    slope = np.repeat(np.repeat(np.linspace(0, 255, 40).astype(np.uint8)[:, None, None], 40, axis=1), 3, axis=2)
    puzzle = JigsawDataset(slope[None].repeat(2, axis=0), **PLAIN)[0][0]
    means = torch.stack([tile.mean() for half in puzzle.chunk(2, 1) for tile in half.chunk(2, 2)])
    assert means.abs().max() < 1e-4
    assert puzzle.min() < -1, "values stay floats below zero"


def test_items_are_shuffled_images_and_rows_of_the_table() -> None:
    dataset = JigsawDataset(noise(), crops=2)
    laid = [dataset.sample(0, KeyedGenerator(draw)) for draw in range(300)]
    assert {row for _, row in laid} == set(range(24))
    puzzle, row = dataset[1]
    assert puzzle.shape == (3, 40, 40)
    assert puzzle.dtype == torch.float32
    assert isinstance(row, int)
    image = JigsawDataset(noise(), normed=False)[1][0]
    assert image.min() >= 0
    assert image.max() <= 1


def test_row_is_the_permutation_of_the_tiles() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    for number, tile in enumerate(tiles(image, 2)):
        tile[:] = 40 * (number + 1)
    dataset = JigsawDataset(image[None].repeat(2, axis=0), normed=False, **PLAIN)
    for draw in range(30):
        laid, row = dataset.sample(0, KeyedGenerator(draw))
        order = dataset.permutations[row]
        assert [int(tiles(laid, 2)[order[number]][5, 5, 0]) for number in range(4)] == [40, 80, 120, 160]


def test_an_image_keeps_its_part_of_the_table() -> None:
    dataset = JigsawDataset(noise(count=40), total_perms=24, n_perms_per_image=5)
    parts = [set(dataset.rows(index).tolist()) for index in range(40)]
    assert all(len(part) == 5 for part in parts)
    assert set.union(*parts) == set(range(24))
    for index in (0, 7):
        assert {dataset.sample(index, KeyedGenerator(draw))[1] for draw in range(100)} == parts[index]


def test_grey_and_projection_have_their_fractions() -> None:
    images = noise(count=2)
    colours = {**PLAIN, "normed": False}
    for grey, expected in ((1.0, 30), (0.0, 0), (0.5, 15)):
        dataset = JigsawDataset(images, **{**colours, "grey": grey, "chroma_jitter": 2})
        found = sum(bool(np.ptp(dataset.sample(0, KeyedGenerator(draw))[0], axis=2).max() == 0) for draw in range(30))
        assert abs(found - expected) <= (0 if grey in (0.0, 1.0) else 8)
    picture = np.stack([smooth(), smooth()])
    for project, expected in ((1.0, 30), (0.0, 0), (0.5, 15)):
        dataset = JigsawDataset(picture, **{**colours, "chroma_project": project})
        draws = [dataset.sample(0, KeyedGenerator(draw))[0].astype(float) @ (-1, 2, -1) for draw in range(30)]
        found = sum(np.abs(draw).max() < 4 for draw in draws)
        assert abs(found - expected) <= (0 if project in (0.0, 1.0) else 8)


def test_the_green_magenta_component_is_taken_away() -> None:
    image = smooth().astype(np.float32) / 255
    axis = np.array((-1, 2, -1)) / np.sqrt(6)
    expected = image - (image @ axis)[:, :, None] * axis
    assert np.allclose(without_fringe(image), expected, atol=1e-6)
    assert np.abs(without_fringe(smooth()).astype(float) - 255 * expected).max() < 1


def test_jitter_is_of_each_tile_and_grey_of_the_whole_image() -> None:
    image = np.tile(noise(20, 20)[0] // 2 + 60, (2, 2, 1))
    dataset = JigsawDataset(image[None].repeat(2, axis=0), normed=False, chroma_jitter=0, chroma_project=0, grey=0)
    means = [tile.mean(axis=(0, 1)) for tile in tiles(dataset.sample(0, KeyedGenerator(1))[0], 2)]
    assert np.ptp(means, axis=0).min() > 5
    for draw in range(20):
        laid = JigsawDataset(image[None].repeat(2, axis=0), normed=False, grey=0.5).sample(0, KeyedGenerator(draw))[0]
        grey = [np.ptp(tile, axis=2).max() <= 3 for tile in tiles(laid, 2)]  # jitter may round channels differently
        assert all(grey) or not any(grey)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_other_channels_do_without_what_needs_rgb(channels: int) -> None:
    puzzle, _ = JigsawDataset(noise(channels=channels), crops=3, grey=1.0, chroma_project=1.0)[0]
    assert puzzle.shape == (channels, 39, 39)
    assert torch.isfinite(puzzle).all()


def test_deep_images_stay_deep() -> None:
    deep = np.random.default_rng(0).random((2, 40, 40, 3), np.float32)
    laid, _ = JigsawDataset(deep, normed=False, **PLAIN).sample(0, KeyedGenerator(0))
    assert laid.dtype == np.float32
    wide = (deep * 65535).astype(np.uint16)
    laid, _ = JigsawDataset(wide, normed=False).sample(0, KeyedGenerator(0))
    assert laid.dtype == np.uint16
    assert laid.max() > 40_000


def test_custom_callable_gets_each_tile() -> None:
    sizes = []

    def darker(tile: Image.Image) -> Image.Image:
        sizes.append(tile.size)
        return tile.point(lambda value: value // 2)

    dataset = JigsawDataset(noise(40, 60), darker, normed=False)
    assert dataset.runs_user_code
    assert dataset.sample(0, KeyedGenerator(0))[0].max() <= 127
    assert sizes == [(26, 17)] * 4
    laid = JigsawDataset(noise(), lambda _tile: torch.full((3, 8, 8), 0.5), normed=False).sample(0, KeyedGenerator(0))[
        0
    ]
    assert laid.dtype == np.uint8
    assert (laid == 128).all(), "floats in [0, 1] are scaled to the image's range"
    with pytest.raises(DataError, match=r"number of channels. Expected: 3. Received: 1"):
        JigsawDataset(noise(), lambda tile: tile.convert("L")).sample(0, KeyedGenerator(0))


def test_same_key_gives_the_same_permutation_and_tiles() -> None:
    dataset = JigsawDataset(noise(), crops=3, total_perms=100)
    (one, row), (other, same) = (dataset.sample(2, KeyedGenerator(5, 6)) for _ in range(2))
    assert torch.equal(one, other)
    assert row == same


def test_crops_are_smaller_than_cells() -> None:
    assert cell_and_crop((225, 225), 2, None) == ((112, 112), (95, 95))
    assert cell_and_crop((255, 255), 3, None)[1] == (72, 72)
    assert cell_and_crop((64, 97), 3, (20, 31)) == ((21, 32), (20, 31))
    for side in range(8, 60):
        cell, crop = cell_and_crop((side, side + 3), 2, None)
        assert all(0 < less < more for less, more in zip(crop, cell, strict=True))
    for given in (112, (112, 90), 300):
        with pytest.raises(ConfigurationError, match=r"112×112.*Set crop_size=\(95, 95\)"):
            cell_and_crop((225, 225), 2, given)
    with pytest.raises(ConfigurationError, match=r"too small for 9×9 tiles.*Set crops=8, or resolution=36"):
        cell_and_crop((32, 32), 9, None)


def test_sizes_are_checked_before_training() -> None:
    images = noise()
    settled = ImageDataset.from_(images, fit_preprocessing(None, resolution=40))
    with pytest.raises(ConfigurationError, match="crop_size=20"):
        JigsawDataset(settled, crop_size=20)
    assert len(JigsawDataset(images, crop_size=20)) == 4
    with pytest.raises(ConfigurationError, match="crop_size=20"):
        JigsawDataset(images, crop_size=20)[0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"crops": 1},
        {"crops": 2.5},
        {"total_perms": 1},
        {"total_perms": 25},
        {"n_perms_per_image": 0},
        {"crop_size": 0},
        {"crop_size": (3, 4, 5)},
        {"crop_size": 0.85},
        {"chroma_jitter": -1},
        {"chroma_project": 2},
        {"grey": "some"},
        {"normed": 1},
        {"jigsaw_path": 3},
        {"jigsaw_path": ""},
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"`{next(iter(arguments))}` is out of range"):
        JigsawDataset(noise(), **arguments)


def test_the_function() -> None:
    image = noise(45, 63)[0]
    torch.manual_seed(0)
    given = jigsaw(Image.fromarray(image), list(range(9)), 12, JigsawAugmentations)
    torch.manual_seed(0)
    assert torch.equal(given, jigsaw(torch.from_numpy(image).permute(2, 0, 1), range(9), 12, JigsawAugmentations))
    assert given.shape == (3, 45, 63)
    assert given.dtype == torch.float32
    assert not torch.equal(given, jigsaw(image, range(9), 12, JigsawAugmentations))
    plain = jigsaw(image, [1, 0, 2, 3], (20, 30), None, normed=False, crops=2)
    assert plain.shape == (3, 44, 62)
    assert plain.min() >= 0
    assert plain.max() <= 1
    for perm, size in (([0, 1, 2], 5), ([0, 1, 1, 3], 5), (range(4), 22), (range(4), None)):
        with pytest.raises(ConfigurationError):
            jigsaw(image, perm, size, None, crops=2)  # type: ignore[arg-type]


def test_jigsaw_transform() -> None:
    image = noise()[0]
    assert np.array_equal(JigsawTransform(jitter_p=0, grey=0)(image), image)
    assert np.ptp(JigsawTransform(jitter_p=0, grey=1)(image), axis=2).max() == 0
    found = sum(
        np.ptp(JigsawAugmentations.augment(image, KeyedGenerator(draw)), axis=2).max() == 0 for draw in range(200)
    )
    assert 40 <= found <= 80
    assert JigsawAugmentations(Image.fromarray(image)).size == (40, 40)
    for arguments in ({"jitter": (1, 1, 1)}, {"jitter": (0, 0, 0, 0.6)}, {"jitter_p": 2}, {"grey": -1}):
        with pytest.raises(ConfigurationError, match="is out of range"):
            JigsawTransform(**arguments)  # type: ignore[arg-type]
