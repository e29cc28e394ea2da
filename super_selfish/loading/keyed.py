"""Data set with keyed random generators: the randomness of an item depends only on (seed, epoch, index)."""

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
"""Maximum number of attempts to read an image, including replacements for unreadable ones."""


class ImageRequest(NamedTuple):
    """Epoch and index of an image to be read."""

    epoch: int
    image: int


class KeyedDataset:
    """Data set of samples whose randomness depends only on (seed, epoch, index), not on workers or order.

    Args:
        dataset: A pretext data set, or a custom one.
        seed: Random seed.
        collate_fn: Custom collate function, if any; its inputs are the public items of the data set.
        on_error: ``"raise"``, or ``"skip"`` to replace unreadable images by others.
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
        """Return the items of a batch; data loaders prefer this method to ``__getitem__``."""
        return self.gatherer(self.items(requests), len(requests))

    def items(self, requests: Iterable[ImageRequest]) -> Iterator[Item]:
        """Iterate over the items, several of which are processed together if the data set requests it."""
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
        except DataError:  # processed one at a time, to record the error and replace the image
            return [self[request] for request in requests]
        return [Item(request.image, sample) for request, sample in zip(requests, samples, strict=True)]

    def _sample(self, epoch: int, index: int) -> Any:
        key = (self.seed, epoch, index)
        with sample_key(*key):
            if not self.runs_user_code:
                return sample_of(self.dataset, index, self.collate_fn)
            with global_seed(make_key(*key)):
                return sample_of(self.dataset, index, self.collate_fn)
