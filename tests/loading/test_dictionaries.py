"""Items that are dictionaries have the layout of items that are tuples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from super_selfish.models import CombinedNet
from super_selfish.supervisors import Supervisor

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
