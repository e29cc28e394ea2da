"""Items that are dictionaries have the layout of items that are tuples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from super_selfish.data import RotateDataset
from super_selfish.models import CombinedNet
from super_selfish.supervisors import RotateNetSupervisor, Supervisor

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)


def net() -> CombinedNet:
    return CombinedNet(nn.Flatten(), nn.Linear(16 * 16 * 3, 1))


def seen(form: Any) -> Any:
    """The first batch of a training whose items are made by a function."""
    batches: list[Any] = []

    class Own(Supervisor):
        def _forward(self, data: Any) -> Tensor:
            batches.append(data)
            return self.model(torch.zeros(1, 3, 16, 16)).mean()

    dataset = [form(index) for index in range(8)]
    Own(net(), dataset).supervise(epochs=1, batch_size=4, shuffle=False, verbose=False, name="store/test")
    return batches[0]


@pytest.mark.parametrize("image", [lambda index: PIXELS[index], lambda index: Image.fromarray(PIXELS[index])])
@pytest.mark.parametrize("nested", [False, True])
def test_images_in_dictionaries_are_float_and_channels_first(image: Any, nested: bool) -> None:
    def item(index: int) -> Any:
        views = {"left": image(index), "right": image(index)}
        return {"views": views, "label": index} if nested else views | {"label": index}

    batch = seen(item)
    right = torch.from_numpy(PIXELS[:4]).permute(0, 3, 1, 2) / 255
    images = batch["views"] if nested else batch
    assert torch.allclose(images["left"], right)
    assert torch.allclose(images["right"], right)
    assert batch["label"].tolist() == [0, 1, 2, 3]


def test_tuples_in_tuples_too() -> None:
    batch = seen(lambda index: ((PIXELS[index], index), {"name": str(index)}))
    assert batch[0][0].shape == (4, 3, 16, 16)
    assert batch[1]["name"] == ["0", "1", "2", "3"]


def seen_by_rotate_net(dataset: Any) -> Any:
    """The first batch of RotateNet, with its default collation, on another data set."""
    batches: list[Any] = []

    class Own(RotateNetSupervisor):
        def _forward(self, data: Any) -> Tensor:
            batches.append(data)
            return sum(weight.square().sum() for weight in self.parameters())

    supervisor = Own(PIXELS, backbone=nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()))
    supervisor.dataset = dataset
    supervisor.supervise(epochs=1, batch_size=4, shuffle=False, verbose=False, watch=0, name="store/test")
    return batches[0]


class Named(RotateDataset):
    form: Any = dict

    def __getitem__(self, index: Any) -> Any:
        images, ids = super().__getitem__(index)
        return {"images": images, "ids": ids, "name": str(index)} if self.form is dict else (images, ids, str(index))


class NamedTuples(Named):
    form = tuple


@pytest.mark.parametrize(("all_rotations", "images"), [(True, 16), (False, 4)])
def test_overridden_items_of_a_small_batch(all_rotations: bool, images: int) -> None:
    batch = seen_by_rotate_net(Named(PIXELS, r_all=all_rotations))
    fields = seen_by_rotate_net(NamedTuples(PIXELS, r_all=all_rotations))
    assert batch["images"].shape == (images, 3, 16, 16)
    assert batch["ids"].shape == (images,)
    assert batch["name"] == ["0", "1", "2", "3"]
    assert all(torch.equal(batch[key], field) for key, field in zip(("images", "ids"), fields, strict=False))
    assert list(fields[2]) == batch["name"]


@pytest.mark.parametrize("form", [dict, lambda fields: tuple(fields.values())])
def test_items_of_a_custom_data_set_with_the_collation_of_rotate_net(form: Any) -> None:
    def batches(make: Any) -> list[Any]:
        batch = seen_by_rotate_net([form(make(index)) for index in range(8)])
        return list(batch.values() if isinstance(batch, dict) else batch)

    images, numbers = batches(lambda index: {"view": PIXELS[index], "number": index})
    assert torch.allclose(images, torch.from_numpy(PIXELS[:4]).permute(0, 3, 1, 2) / 255)
    assert numbers.tolist() == [0, 1, 2, 3]
    images, ids = batches(lambda index: {"view": torch.rand(2, 3, 8, 8), "ids": torch.arange(2)})
    assert images.shape == (8, 3, 8, 8)
    assert ids.tolist() == [0, 1] * 4
