"""``visualize`` and ``elastic_transform``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from super_selfish.data import RotateDataset, elastic_transform, visualize


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_files_contain_the_pixels(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (3, 5, 7)).float() / 255
    grey, two, many = torch.rand(1, 4, 4), torch.rand(2, 4, 4), torch.rand(13, 4, 4)
    paths = visualize([None, (image, grey, 3, two, many)], 1, tmp_path / "new")
    assert [path.name for path in paths] == ["1_0.png", "1_1.png", "1_3.png", "1_4.png"]
    assert np.array_equal(pixels_of(paths[0]), (image * 255).round().byte().permute(1, 2, 0).numpy())
    assert [pixels_of(path).shape[2:] for path in paths] == [(3,), (), (3,), (3,)]


def test_values_outside_the_unit_interval_are_scaled(tmp_path: Path) -> None:
    image = torch.tensor([[[-3.0, 1.0]]]).expand(3, 2, 2)
    (path,) = visualize([image], folder_path=tmp_path)
    assert pixels_of(path)[0].tolist() == [[0] * 3, [255] * 3]


def test_batched_item(tmp_path: Path) -> None:
    rotations = RotateDataset(np.zeros((2, 32, 32, 3), np.uint8))
    assert len(visualize(rotations, 1, tmp_path, batched=True)) == 4


def test_invalid_index_or_item_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="idx"):
        visualize([torch.rand(3, 4, 4)], 1, tmp_path)
    with pytest.raises(ValueError, match="images"):
        visualize([(torch.rand(3, 4, 4), 1)], 0, tmp_path, batched=True)


@pytest.mark.parametrize("kind", ["pil", "tensor", "array"])
def test_elastic_transform_keeps_type_and_size(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    given = {"pil": Image.fromarray(pixels), "tensor": torch.from_numpy(pixels).permute(2, 0, 1), "array": pixels}[kind]
    torch.manual_seed(0)
    deformed = elastic_transform(given, 3.0)
    assert type(deformed) is type(given)
    values = np.asarray(deformed)
    assert values.shape == np.asarray(given).shape
    assert not np.array_equal(values, np.asarray(given))
    assert np.array_equal(np.asarray(elastic_transform(given, 0.0)), np.asarray(given))


def test_elastic_displacements_have_the_standard_deviation_in_px() -> None:
    ramp = torch.arange(400.0)[None, None].expand(1, 60, 400) / 400
    torch.manual_seed(0)
    displacements = [(elastic_transform(ramp, 5.0)[0, 30, 200] - ramp[0, 30, 200]).item() * 400 for _ in range(300)]
    assert np.std(displacements) == pytest.approx(5.0, rel=0.15)
    with pytest.raises(ValueError, match="sigma"):
        elastic_transform(ramp, -1.0)


def test_uint8_images_are_written_unchanged(tmp_path: Path) -> None:
    image = torch.tensor([[[100, 120]]], dtype=torch.uint8).expand(3, 2, 2)
    (path,) = visualize([image], folder_path=tmp_path)
    assert pixels_of(path)[0].tolist() == [[100] * 3, [120] * 3]
