"""Views of images by built-in and custom transforms."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torchvision import transforms
from torchvision.transforms import v2

from super_selfish.data import AugmentationDataset, BYOLTransform, MoCoTransform
from super_selfish.errors import DataError
from super_selfish.pretext.base import sample_key
from super_selfish.pretext.views import CustomTransform
from super_selfish.seeding import KeyedGenerator


def images(count: int = 4, side: int = 32, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)
    return made if dtype == np.uint8 else (made / 255).astype(dtype)


def test_the_two_views_differ_and_follow_from_the_key() -> None:
    dataset = AugmentationDataset(images(), MoCoTransform())
    with sample_key(0, 1, 2):
        first, second = dataset[2]
    with sample_key(0, 1, 2):
        again = dataset[2]
    assert first.shape == second.shape == (3, 32, 32)
    assert first.dtype == torch.float32
    assert 0 <= first.min() <= first.max() <= 1
    assert not torch.equal(first, second)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    with sample_key(0, 2, 2):
        assert not torch.equal(first, dataset[2][0])


def test_one_view_can_stay_clean() -> None:
    clean = torch.from_numpy(images()[1]).permute(2, 0, 1) / 255
    first, second = AugmentationDataset(images(), MoCoTransform(), clean1=True)[1]
    assert torch.equal(first, clean)
    assert not torch.equal(second, clean)
    first, second = AugmentationDataset(images(), MoCoTransform(), BYOLTransform(view=2), clean2=True)[1]
    assert not torch.equal(first, clean)
    assert torch.equal(second, clean)


class Noise:
    """A user's own, with every generator there is."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, image: Any) -> Any:
        self.seen.append(image)
        return np.full((8, 8, 3), [random.random(), np.random.rand(), float(torch.rand(()))], np.float32)


def test_a_callable_is_seeded_by_the_key_and_leaves_no_trace() -> None:
    noise = Noise()
    transform = CustomTransform(noise)
    state = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first, again, other = (transform.augment(images()[0], KeyedGenerator(key)) for key in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not (first == other).any()
    assert random.getstate() == state[0]
    assert np.array_equal(np.random.get_state()[1], state[1])
    assert torch.equal(torch.get_rng_state(), state[2])
    assert all(isinstance(seen, Pillow.Image) for seen in noise.seen)


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomHorizontalFlip(1.0),
        v2.Compose([v2.RandomHorizontalFlip(1.0), v2.ToDtype(torch.float32, scale=True)]),
        transforms.Compose([transforms.RandomHorizontalFlip(1.0), transforms.ToTensor()]),
        lambda picture: picture.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT),
        lambda picture: np.asarray(picture)[:, ::-1],
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_whatever_a_callable_returns(transform: Any, channels: int) -> None:
    array = images(channels=channels)
    first = AugmentationDataset(array, transform)[0][0]
    assert torch.allclose(first, torch.from_numpy(array[0, :, ::-1].copy()).permute(2, 0, 1) / 255, atol=1e-6)


def test_deep_images_reach_a_callable_as_tensors() -> None:
    seen: list[Any] = []
    AugmentationDataset(images(channels=5), lambda tensor: seen.append(tensor) or tensor)[0]
    AugmentationDataset(images(dtype=np.float32), lambda tensor: seen.append(tensor) or tensor)[0]
    assert [(tensor.shape[0], tensor.dtype) for tensor in seen] == [(5, torch.uint8)] * 2 + [(3, torch.float32)] * 2


def test_transforms_with_generators_of_their_own_are_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Compose:  # as albumentations has it
        __module__ = "albumentations.core.composition"

        def __init__(self) -> None:
            self.generator = np.random.default_rng()

        def set_random_seed(self, seed: int) -> None:
            self.generator = np.random.default_rng(seed)

        def __call__(self, *, image: np.ndarray) -> dict[str, np.ndarray]:
            assert image.dtype == np.uint8
            return {"image": np.roll(image, self.generator.integers(1, 30), axis=1)}

    transform = CustomTransform(Compose())
    views = [transform.augment(images()[0], KeyedGenerator(key)) for key in (1, 1, 2)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_a_callable_is_not_called_by_threads() -> None:
    assert AugmentationDataset(images(), MoCoTransform(), lambda picture: picture).runs_user_code
    assert not AugmentationDataset(images(), MoCoTransform()).runs_user_code


def test_non_callable_views_raise() -> None:
    with pytest.raises(ValueError, match="`views`"):
        AugmentationDataset(images(), 3)


def test_views_that_return_no_image_raise_with_the_cause() -> None:
    with pytest.raises(DataError, match=r"`views`.*NoneType"):
        AugmentationDataset(np.zeros((2, 32, 32, 3), np.uint8), lambda _image: None)[0]
