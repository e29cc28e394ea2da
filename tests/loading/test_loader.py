"""The training loader: order, cursor, micro-batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.data import RotateDataset
from super_selfish.errors import ConfigurationError, DataError, TooManyBadImages
from super_selfish.loading.collate import Collator, Item, to_device
from super_selfish.loading.gather import Gatherer
from super_selfish.loading.loader import TrainLoader, TrainState
from super_selfish.pretext.base import PretextDataset, Sample
from super_selfish.seeding import KeyedGenerator


class Noise(PretextDataset):
    """The index of the image and a random number."""

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        return torch.tensor(index), torch.tensor(generator.uniform())


def loader(size: int = 10, batch: int = 3, train_state: TrainState | None = None, **settings: Any) -> TrainLoader:
    dataset = Noise(np.zeros((size, 32, 32, 3), np.uint8))
    return TrainLoader(dataset, batch, train_state or TrainState(), lambda given: given.data, **settings)


def rows(batches: list[Any]) -> list[tuple[int, float]]:
    return [
        (index, number) for batch in batches for index, number in zip(*(part.tolist() for part in batch), strict=True)
    ]


def train(source: TrainLoader, epochs: int) -> list[tuple[int, float]]:
    seen = []
    for _ in range(epochs):
        for batch in source:
            seen.append(batch)
            source.commit()
    return rows(seen)


def test_order_and_randomness_are_functions_of_seed_and_epoch() -> None:
    first = train(loader(), 3)
    assert first == train(loader(), 3)
    assert first != train(loader(seed=1), 3)
    assert len(first) == 27
    assert len({number for _, number in first}) == 27, "an image must look different in every epoch"
    assert train(loader(train_state=TrainState(epoch=1)), 1) == first[9:18]


def test_a_cursor_instead_of_a_replay() -> None:
    whole = train(loader(), 2)
    for batch in range(3):
        assert train(loader(train_state=TrainState(epoch=0, batch=batch)), 1) == whole[3 * batch : 9]


def test_looking_does_not_move_the_cursor() -> None:
    source = loader()
    looked = rows([source.peek()])
    assert rows([next(iter(source))]) == looked
    assert source.train_state == TrainState()
    assert train(source, 1)[:3] == looked
    assert source.train_state == TrainState(epoch=1, batch=0, step=3, samples=9)


def test_without_shuffling_the_order_is_that_of_the_data() -> None:
    assert [index for index, _ in train(loader(shuffle=False), 2)] == [*range(9), *range(9)]


def test_pieces_make_up_the_batch() -> None:
    source = loader(12, 6, micro_batches=4)
    assert len(source) == 8
    assert source.batches == 2
    sizes, shares, last = [], [], []
    for batch in source:
        sizes.append(len(batch[0]))
        shares.append(source.share)
        last.append(source.in_last_micro_batch)
        if source.in_last_micro_batch:
            source.commit()
    assert sizes == [2, 2, 1, 1] * 2
    assert last == [False, False, False, True] * 2
    assert sum(shares[:4]) == pytest.approx(1)
    assert source.train_state == TrainState(epoch=1, batch=0, step=2, samples=12)
    plain, parted = loader(12, 6), loader(12, 6, micro_batches=4)
    whole = train(plain, 1)
    assert rows(list(parted)) == whole


def test_a_loop_that_updates_less_often_than_it_reads() -> None:
    source = loader(12, 3)
    for position, _ in enumerate(source):
        if position % 2:
            source.commit()
    assert source.train_state == TrainState(epoch=1, batch=0, step=2, samples=12)


def test_the_users_generator_is_left_alone_by_the_data_loader() -> None:
    source = loader()
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    source.peek()
    assert torch.equal(torch.rand(()), expected)


def test_images_arrive_scaled_and_channels_last() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    cpu = torch.device("cpu")
    source = TrainLoader(RotateDataset(images), 2, TrainState(), lambda batch: to_device(batch, cpu), shuffle=False)
    turned, ids = next(iter(source))
    assert turned.shape == (8, 3, 32, 32)
    assert turned.dtype == torch.float32
    assert turned.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(turned[4], torch.from_numpy(images[1]).permute(2, 0, 1) / 255)
    assert ids.tolist() == [0, 1, 2, 3] * 2


def test_mixed_depths_and_sizes() -> None:
    shallow, deep = np.full((32, 32, 1), 51, np.uint8), np.full((32, 32, 1), 0.4, np.float32)
    batch = Collator()([Item(0, (shallow,)), Item(1, (deep,))])
    values = to_device(batch, torch.device("cpu"))[0]
    assert torch.allclose(values[:, 0, 0, 0], torch.tensor([0.2, 0.4]))
    with pytest.raises(DataError, match=r"differ in size.*32×32×1, 40×32×1.*`resolution="):
        Collator()([Item(0, (shallow,)), Item(1, (np.zeros((40, 32, 1), np.uint8),))])


def test_too_many_unreadable_images_end_it() -> None:
    class Broken(Noise):
        def sample(self, index: int, generator: KeyedGenerator) -> Sample:
            if index >= 20:
                raise DataError(f"number {index} is broken")
            return super().sample(index, generator)

    dataset = Broken(np.zeros((40, 32, 32, 3), np.uint8))
    source = TrainLoader(dataset, 4, TrainState(), lambda batch: batch.data, on_error="skip")
    with pytest.raises(TooManyBadImages, match=r"1\d of 40 images cannot be read.*at most 10.*is broken"):
        train(source, 1)
    source = TrainLoader(dataset, 4, TrainState(), lambda batch: batch.data)
    with pytest.raises(DataError, match="is broken"):
        train(source, 1)


@pytest.mark.parametrize("settings", [{"batch": 0}, {"batch": True}, {"num_workers": -1}, {"on_error": "hide"}])
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Received"):
        loader(**settings)


@pytest.mark.parametrize("kind", ["two views", "indexed", "batched"])
def test_images_are_copied_once_on_their_way_into_a_batch(kind: str) -> None:
    """The tensor is where the images were put one by one: also with an index behind them, and for little batches."""
    image = np.arange(96 * 96 * 3).reshape(96, 96, 3).astype(np.uint8)
    little = np.stack([image, image[::-1]])
    samples = [
        {"two views": (image, image), "indexed": (image, image, 3), "batched": (little, torch.tensor([3, 4]))}[kind]
    ] * 4
    gathered = Gatherer()([Item(index, sample) for index, sample in enumerate(samples)], 4)
    room = gathered[0].rooms[0]
    batch = Collator(kind == "batched")(gathered)
    assert room is not None
    assert batch.data[0].data_ptr() == room.array.ctypes.data
    assert torch.equal(batch.data[0], Collator(kind == "batched")([Item(0, one) for one in samples]).data[0])
