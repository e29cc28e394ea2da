"""Pretext task of CPC: overlapping, independently augmented patches."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from super_selfish.data import (
    ContrastivePredictiveCodingDataset,
    ContrastivePreditiveCodingDataset,
    CPCTransform,
    MoCoTransform,
    batched_collate,
)
from super_selfish.drawing.patches import assemble_patches, patch_prediction, patch_prediction_images
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.models.predictive import SIDES
from super_selfish.pretext.patches import checked_grid, grid_of, seen_patch
from super_selfish.seeding import KeyedGenerator

PLAIN = CPCTransform(0, elastic=0.0, gamma=0.0, jitter_p=0.0, grey=0.0)


def photos(height: int = 64, width: int = 48, channels: int = 3, dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(0).random((3, height, width, channels))
    return values.astype(np.float32) if dtype == "float32" else np.rint(255 * values).astype(dtype)


@pytest.mark.parametrize(("size", "half"), [((64, 48), (8, 6)), ((97, 130), (12, 16)), ((225, 225), (28, 28))])
def test_patches_overlap_by_half_in_row_major_order(size: tuple[int, int], half: tuple[int, int]) -> None:
    images = photos(*size)
    (patches,) = ContrastivePredictiveCodingDataset(images, None, views=PLAIN, flip=0.0).sample(1, KeyedGenerator(0))
    height, width = half
    assert patches.shape == (49, 2 * height, 2 * width, 3)
    assert patches.dtype == np.uint8
    for number, patch in enumerate(patches):
        top, left = number // 7 * height, number % 7 * width
        assert np.array_equal(patch, images[1, top : top + 2 * height, left : left + 2 * width])


def test_items_are_little_batches() -> None:
    dataset = ContrastivePredictiveCodingDataset(photos(), 8)
    (patches,) = dataset[0]
    assert patches.shape == (7 * 5, 3, 16, 16)
    assert patches.dtype == torch.float32
    assert 0 <= patches.min() < patches.max() <= 1
    assert batched_collate([dataset[0], dataset[1]])[0].shape == (70, 3, 16, 16)
    assert ContrastivePreditiveCodingDataset is ContrastivePredictiveCodingDataset
    assert len(pickle.loads(pickle.dumps(dataset))) == 3


def test_the_default_is_28_px() -> None:
    assert ContrastivePreditiveCodingDataset(photos(112, 168)).sample(0, KeyedGenerator(0))[0].shape == (15, 56, 56, 3)


def test_whole_images_are_mirrored_half_the_time() -> None:
    images = photos()
    dataset = ContrastivePredictiveCodingDataset(images, 8, views=PLAIN)
    plain = ContrastivePredictiveCodingDataset(images, 8, views=PLAIN, flip=0.0).sample(0, KeyedGenerator(0))[0]
    grid = plain.reshape(7, 5, 16, 16, 3)
    mirrored = grid[:, ::-1, :, ::-1].reshape(plain.shape)
    made = [dataset.sample(0, KeyedGenerator(key))[0] for key in range(300)]
    flips = [np.array_equal(patches, mirrored) for patches in made]
    assert all(flip or np.array_equal(patches, plain) for flip, patches in zip(flips, made, strict=True))
    assert np.mean(flips) == pytest.approx(0.5, abs=0.1)


def test_each_patch_is_augmented_by_itself() -> None:
    dataset = ContrastivePredictiveCodingDataset(np.full((2, 64, 64, 3), (90, 120, 60), np.uint8), None)
    (patches,) = dataset.sample(0, KeyedGenerator(1))
    assert len({patch.tobytes() for patch in patches}) > 40
    assert np.array_equal(patches, dataset.sample(0, KeyedGenerator(1))[0])
    assert not np.array_equal(patches, dataset.sample(0, KeyedGenerator(2))[0])


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_any_channels_and_numbers(channels: int, dtype: str) -> None:
    (patches,) = ContrastivePredictiveCodingDataset(photos(32, 40, channels, dtype), None).sample(0, KeyedGenerator(0))
    assert patches.shape == (49, 8, 10, channels)
    assert patches.dtype == dtype


def test_other_views() -> None:
    transform = v2.ColorJitter(0.4)
    dataset = ContrastivePredictiveCodingDataset(photos(), None, views=transform)
    assert dataset.runs_user_code
    assert not ContrastivePredictiveCodingDataset(photos(), None).runs_user_code
    torch.manual_seed(0)
    (patches,) = dataset[0]
    assert patches.shape == (49, 3, 16, 12)
    assert ContrastivePredictiveCodingDataset(photos(), None, views=MoCoTransform())[0][0].shape == (49, 3, 16, 12)
    with pytest.raises(DataError, match="changed the size of patches"):
        ContrastivePredictiveCodingDataset(photos(), None, views=MoCoTransform(9))[0]


@pytest.mark.parametrize(
    "wrong", [{"half_crop_size": 0}, {"half_crop_size": (1, 2, 3)}, {"views": 3}, {"flip": 2}, {"half_crop_size": "8"}]
)
def test_arguments_out_of_range_raise(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(wrong))}`"):
        ContrastivePredictiveCodingDataset(photos(), **wrong)


def test_grids() -> None:
    assert grid_of((225, 225), 28) == grid_of((32, 32), None) == grid_of((97, 130), None) == (7, 7)
    assert grid_of((260, 300), 36) == (6, 7)
    with pytest.raises(ConfigurationError, match="too large for the images"):
        grid_of((32, 64), 17)
    assert checked_grid((64, 64), 8, [7, 7], SIDES, 3) == (7, 7)
    with pytest.raises(ConfigurationError, match="too small to predict 3 steps"):
        checked_grid((64, 64), (8, 16), None, SIDES, 3)
    assert checked_grid((64, 64), (8, 16), None, ("top",), 3) == (7, 3)
    with pytest.raises(ConfigurationError, match="`bottleneck_resolution`"):
        checked_grid((64, 64), 8, (6, 7), SIDES, 3)


def test_sizes_that_the_network_sees() -> None:
    assert seen_patch((225, 225), None, None) == (56, 56)
    assert seen_patch((32, 32), None, None) == (32, 32)
    assert seen_patch((97, 130), None, None) == (32, 43), "enlarged in proportion"
    assert seen_patch((32, 32), None, 8) == (8, 8)
    assert seen_patch((32, 32), None, (8, 12)) == (8, 12)


def test_questions() -> None:
    wanted = {"top": (5, 3), "bottom": (1, 3), "left": (3, 5), "right": (3, 1)}
    for side, (row, column) in wanted.items():
        asked = patch_prediction((7, 7), side, 2)
        assert asked.place == (3, 3)
        assert asked.target == row * 7 + column
        assert asked.context.sum() == 28
        assert asked.context[3, 3] == 1
        assert asked.context[row, column] == 0
    assert patch_prediction((2, 5), "top", 1).context.tolist() == [[1] * 5, [0] * 5]


def test_a_patchwork_is_the_image_in_its_places() -> None:
    (patches,) = ContrastivePredictiveCodingDataset(photos(160, 160), 20, views=PLAIN, flip=0.0)[0]
    picture = assemble_patches(patches, torch.ones(7, 7))
    assert picture.shape == (3, 280, 280)
    rows = torch.arange(280)
    inside = picture[:, (rows % 40) > 2][:, :, (rows % 40) > 2]
    enlarged = patches.new_tensor(photos(160, 160)[0]).movedim(-1, 0)[:, 10:150, 10:150] / 255
    enlarged = enlarged.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, (rows % 40) > 2][:, :, (rows % 40) > 2]
    assert torch.allclose(inside, enlarged, atol=1e-6)
    framed = assemble_patches(patches, torch.ones(7, 7), 8)
    assert torch.nonzero((framed != picture).any(0)).amin(0).tolist() == [40, 40]
    assert assemble_patches(patches, torch.zeros(7, 7))[:, 20, 20].tolist() == [0, 0, 0]


def test_images_have_captions_of_target_and_prediction() -> None:
    images = torch.rand(2, 49, 3, 8, 8)
    asked = patch_prediction((7, 7), "top", 2)
    assert len(patch_prediction_images(images, 1, asked, "top", None)) == 3
    products = torch.zeros(98)
    for best, right, caption in (
        (49 + 38, True, "answer:\nthis image"),
        (49, False, "answer:\nthis image"),
        (3, False, "answer:\nanother image"),
    ):
        products.zero_()[best] = 5.0
        panels = patch_prediction_images(images, 1, asked, "top", products)
        assert len(panels) == 5
        assert (panels[3].right, panels[3].caption) == (right, caption)
        assert torch.equal(panels[3].image, images.flatten(0, 1)[best])
        assert panels[4].caption.endswith("rank 1 of 98" if right else "rank 2 of 98")
