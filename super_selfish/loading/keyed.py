"""Items whose randomness is a function of a key, whoever asks for them and when."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from super_selfish.errors import DataError
from super_selfish.loading.collate import Collate, Item, sample_of
from super_selfish.loading.gather import Gatherer
from super_selfish.pretext.base import PretextDataset, sample_key
from super_selfish.seeding import Stream, global_seed, make_key

REPLACEMENT_TRIES = 16
"""How many other images are tried in place of an unreadable one."""


class Ticket(NamedTuple):
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
        self.foreign = dataset.foreign if isinstance(dataset, PretextDataset) else True

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, ticket: Ticket) -> Item:
        item = Item(ticket.image)
        replacements = Stream(self.seed, ticket.epoch, ticket.image, "replacement")
        for _ in range(REPLACEMENT_TRIES):
            try:
                item.sample = self._sample(ticket.epoch, item.index)
            except DataError as error:
                item.failures.append((item.index, str(error)))
                if self.on_error == "raise":
                    break
                item.index = replacements.integer(len(self))
            else:
                break
        return item

    def __getitems__(self, tickets: Sequence[Ticket]) -> list[Item]:
        """The items of a batch; data loaders prefer it to single ones."""
        return self.gatherer(self.items(tickets), len(tickets))

    def items(self, tickets: Iterable[Ticket]) -> Iterator[Item]:
        """The items, some begun before they are finished where the data set says that it pays."""
        together = 1 if self.foreign or self.collate_fn is not None else self.dataset.together
        waiting = iter(tickets)
        while some := list(itertools.islice(waiting, together)):
            yield from [self[some[0]]] if len(some) == 1 else self._several(some)

    def _several(self, tickets: Sequence[Ticket]) -> list[Item]:
        try:
            begun = [
                self.dataset.begin(ticket.image, Stream(self.seed, ticket.epoch, ticket.image)) for ticket in tickets
            ]
            samples = self.dataset.finish(begun)
        except DataError:  # told, and the image replaced, when each is made alone
            return [self[ticket] for ticket in tickets]
        return [Item(ticket.image, sample) for ticket, sample in zip(tickets, samples, strict=True)]

    def _sample(self, epoch: int, index: int) -> Any:
        key = (self.seed, epoch, index)
        with sample_key(*key):
            if not self.foreign:
                return sample_of(self.dataset, index, self.collate_fn)
            with global_seed(make_key(*key)):
                return sample_of(self.dataset, index, self.collate_fn)
