"""Items whose randomness is a function of a key, whoever asks for them and when."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from super_selfish.errors import DataError
from super_selfish.loading.collate import Collate, Item, sample_of
from super_selfish.loading.gather import Gatherer
from super_selfish.pretext.base import PretextDataset, sample_key
from super_selfish.seeding import KeyedGenerator, global_seed, make_key

REPLACEMENT_TRIES = 16
"""How many other images are tried in place of an unreadable one."""


class ImageRequest(NamedTuple):
    """An image to be fetched: in which epoch, and which one."""

    epoch: int
    image: int


class KeyedDataset:
    """Hands out samples whose randomness is a function of (seed, epoch, index), whoever asks and when.

    Args:
        dataset: A pretext data set, or a user's own.
        seed: Of the run.
        collate_fn: The user's collation, if any; it then gets the data set's public items.
        on_error: ``"raise"`` or ``"skip"``: replace an unreadable image by another.
    """

    def __init__(self, dataset: Any, seed: int, collate_fn: Collate | None, on_error: str) -> None:
        self.dataset = dataset
        self.seed = seed
        self.collate_fn = collate_fn
        self.on_error = on_error
        self.gatherer = Gatherer()
        self.runs_user_code = (
            not isinstance(dataset, PretextDataset) or dataset.overrides_indexing or dataset.runs_user_code
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, request: ImageRequest) -> Item:
        item = Item(request.image)
        replacements = KeyedGenerator(self.seed, request.epoch, request.image, "replacement")
        for _ in range(REPLACEMENT_TRIES):
            try:
                item.sample = self._sample(request.epoch, item.index)
            except DataError as error:
                item.failures.append((item.index, str(error)))
                if self.on_error == "raise":
                    break
                item.index = replacements.integer(len(self))
            else:
                break
        return item

    def __getitems__(self, requests: Sequence[ImageRequest]) -> list[Item]:
        """The items of a batch; data loaders prefer it to single ones."""
        return self.gatherer(self.items(requests), len(requests))

    def items(self, requests: Iterable[ImageRequest]) -> Iterator[Item]:
        """The items, some begun before they are finished where the data set says that it pays."""
        alone = self.runs_user_code or self.collate_fn is not None or self.dataset.overrides_halves
        together = 1 if alone else self.dataset.together
        waiting = iter(requests)
        while some := list(itertools.islice(waiting, together)):
            yield from [self[some[0]]] if len(some) == 1 else self._several(some)

    def _several(self, requests: Sequence[ImageRequest]) -> list[Item]:
        try:
            begun = [
                self.dataset.begin(request.image, KeyedGenerator(self.seed, request.epoch, request.image))
                for request in requests
            ]
            samples = self.dataset.finish(begun)
        except DataError:  # told, and the image replaced, when each is made alone
            return [self[request] for request in requests]
        return [Item(request.image, sample) for request, sample in zip(requests, samples, strict=True)]

    def _sample(self, epoch: int, index: int) -> Any:
        key = (self.seed, epoch, index)
        with sample_key(*key):
            if not self.runs_user_code:
                return sample_of(self.dataset, index, self.collate_fn)
            with global_seed(make_key(*key)):
                return sample_of(self.dataset, index, self.collate_fn)
