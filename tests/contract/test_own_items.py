"""An own `_forward` takes whatever items the data set or loader of the user's makes; nothing refuses them before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from super_selfish.errors import ConfigurationError

QUIET = {"verbose": False, "watch": 0, "name": "store/test", "batch_size": 4, "epochs": 2}


class Dicts(Dataset[Any]):
    """Items of other fields and sizes than those of any algorithm."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"view": torch.rand(3, 40, 24), "name": f"image {index}"}


class KeyedGenerator(IterableDataset[Any]):
    """A stream of images that says how many there are."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.rand(8, 3, 32, 32))

    def __len__(self) -> int:
        return 8


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.rand(8, 3, 32, 32))


def with_loader(base: type, make_loader: Callable[[], Any]) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        def _init_data_optimizer(self, *arguments: Any) -> Any:
            optimizer = torch.optim.SGD(self.trainable_parameters(), lr=0.1)
            return make_loader(), optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)

    return Own


def loss_of(supervisor: Any, images: Tensor) -> Tensor:
    """A loss that every network can be trained by, whatever it takes."""
    return sum(weight.square().mean() for weight in supervisor.trainable_parameters()) * images.mean()


def test_a_data_set_of_other_items(base: type, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    class Own(base):  # type: ignore[misc, valid-type]
        def _forward(self, data: Any) -> Tensor:
            assert len(data["name"]) == 4
            return loss_of(self, data["view"])

    supervisor = make(images(8), cls=Own)
    supervisor.dataset, supervisor.collate_fn = Dicts(), None
    assert supervisor.supervise(**QUIET).train_state.epoch == 2


def test_a_loader_over_a_stream(base: type, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    class Own(with_loader(base, lambda: DataLoader(KeyedGenerator(), 4))):  # type: ignore[misc]
        def _forward(self, data: Any) -> Tensor:
            return loss_of(self, data)

    for dataset in (images(8), None):
        supervisor = make(dataset, cls=Own).supervise(**QUIET)
        assert (supervisor.train_state.epoch, supervisor.train_state.step) == (2, 4)


def test_a_stream_without_a_length_is_refused_in_one_sentence(
    base: type, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigurationError, match="__len__"):
        make(images(8), cls=with_loader(base, lambda: DataLoader(Endless(), 4))).supervise(**QUIET)


def test_the_librarys_loader_refuses_a_stream(base: type, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(8))
    supervisor.dataset = KeyedGenerator()
    with pytest.raises(ConfigurationError, match="by index"):
        supervisor.supervise(**QUIET)
