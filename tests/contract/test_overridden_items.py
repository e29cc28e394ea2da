"""What a data set of the library returns when it is indexed is what is trained, whatever a subclass overrides."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from super_selfish.data import AugmentationDataset, ImageDataset, MoCoTransform, RotateDataset
from super_selfish.loading.keyed import ImageRequest, KeyedDataset
from super_selfish.pretext.base import sample_key
from super_selfish.supervisors import RotateNetSupervisor, all_supervisors

QUIET = {"verbose": False, "watch": 0, "name": "store/test"}


def is_image(field: Any) -> bool:
    return isinstance(field, Tensor) and field.ndim >= 3


def grey(fields: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(torch.full_like(part, 0.25) if is_image(part) else part for part in fields)


def with_class(dataset: Any, cls: type) -> Any:
    """The data set as an instance of a subclass."""
    other = copy.copy(dataset)
    other.__class__ = cls
    return other


def test_an_overridden_getitem_is_trained(algorithm: str, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    seen: list[Tensor] = []

    class Spy(all_supervisors()[algorithm]):  # type: ignore[misc]
        def _forward(self, data: Any) -> Any:
            seen.extend(part for part in data if is_image(part))
            return super()._forward(data)

    supervisor = make(images(8), cls=Spy)

    class Flat(type(supervisor.dataset)):  # type: ignore[misc]
        def __getitem__(self, index: int) -> tuple[Any, ...]:
            return grey(super().__getitem__(index))

    class Deeper(Flat):
        pass

    supervisor.dataset = with_class(supervisor.dataset, Deeper)
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    assert seen
    assert all(torch.equal(part, torch.full_like(part, 0.25)) for part in seen)


def test_an_overridden_getitem_that_changes_nothing_trains_the_same_items(
    algorithm: str, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    def batch(overridden: bool) -> list[Any]:
        supervisor = make(images(8))

        class Same(type(supervisor.dataset)):  # type: ignore[misc]
            def __getitem__(self, index: int) -> tuple[Any, ...]:
                return super().__getitem__(index)

        if overridden:
            supervisor.dataset = with_class(supervisor.dataset, Same)
        return list(supervisor.train_loader(4, True, 0).peek())

    for own, library in zip(batch(True), batch(False), strict=True):
        assert torch.allclose(torch.as_tensor(own), torch.as_tensor(library), atol=1e-6)


def test_an_overridden_sample_is_trained(algorithm: str, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(8))

    class Black(type(supervisor.dataset)):  # type: ignore[misc]
        def sample(self, index: int, stream: Any) -> tuple[Any, ...]:
            fields = super().sample(index, stream)
            return tuple(part * 0 if isinstance(part, np.ndarray) or is_image(part) else part for part in fields)

    supervisor.dataset = with_class(supervisor.dataset, Black)
    found = [part for part in supervisor.train_loader(4, True, 0) for part in part if is_image(part)]
    assert found
    assert all(not part.any() for part in found)


def test_an_overridden_getitem_may_draw_from_global_generators(images: Callable[..., Any]) -> None:
    class Noisy(RotateDataset):
        def __getitem__(self, index: int) -> tuple[Any, ...]:
            turned, ids = super().__getitem__(index)
            return turned + float(np.random.rand()) * torch.rand(1), ids

    def sums(workers: int) -> list[float]:
        supervisor = RotateNetSupervisor(images(8), backbone="small_resnet")
        supervisor.dataset = Noisy(supervisor.image_dataset)
        loader = supervisor.train_loader(4, True, workers)
        found = [float(turned.sum()) for turned, _ in loader]
        loader.close()
        return found

    assert sums(0) == sums(0) == sums(2)


def test_several_items_of_one_image_differ(images: Callable[..., Any]) -> None:
    class MultiCrop(AugmentationDataset):
        def __getitem__(self, index: int) -> tuple[Any, ...]:
            return (*super().__getitem__(index), *super().__getitem__(index))

    crops = MultiCrop(images(8), MoCoTransform())
    sample = KeyedDataset(crops, 0, None, "raise")[ImageRequest(0, 3)].sample
    assert len({float(view.sum()) for view in sample}) == 4
    again = KeyedDataset(crops, 0, None, "raise")[ImageRequest(0, 3)].sample
    assert all(torch.equal(first, second) for first, second in zip(sample, again, strict=True))
    with sample_key(0, 0, 3):
        assert torch.equal(AugmentationDataset(images(8), MoCoTransform())[3][0], sample[0])


def test_images_of_an_overridden_image_data_set_are_trained(images: Callable[..., Any]) -> None:
    class Grey(ImageDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            image, label = super().__getitem__(index)
            return torch.full_like(image, 0.5), label

    settled = RotateNetSupervisor(images(8), backbone="small_resnet").preprocessing
    supervisor = RotateNetSupervisor(Grey.from_(images(8), settled), backbone="small_resnet")
    turned, _ = supervisor.dataset[0]
    assert torch.allclose(turned, torch.full_like(turned, 0.5), atol=1e-2)
    turned, _ = supervisor.train_loader(4, True, 0).peek()
    assert torch.allclose(turned, torch.full_like(turned, 0.5), atol=1e-2)


def test_a_data_set_of_ones_own_stays_when_weights_of_another_resolution_are_loaded(images: Callable[..., Any]) -> None:
    RotateNetSupervisor(images(8, 48, 48), backbone="small_resnet").save("store/large")
    supervisor = RotateNetSupervisor(images(8), backbone="small_resnet", resolution=None)

    class Own(RotateDataset):
        pass

    supervisor.dataset = own = Own(supervisor.image_dataset)
    supervisor.load("store/large")
    assert supervisor.dataset is own
    assert own[0][0].shape[-2:] == (48, 48)
