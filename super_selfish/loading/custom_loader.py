"""A user's own training loader, driven like ours."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from super_selfish.errors import ConfigurationError, DataError
from super_selfish.loading.collate import Batch
from super_selfish.loading.loader import TrainLoader, TrainState
from super_selfish.loading.passes import Pass
from super_selfish.seeding import make_key, seed_everything

_END = object()


class CustomLoader(TrainLoader):
    """A loader of the user's own, from an overridden ``_init_data_optimizer``, with the heart-beat of ours.

    Order and randomness are the loader's own; the global generators, which it may draw from, are seeded by (seed,
    epoch, batch), so that a training can be continued: the batches before are read once more. Its batches are moved to
    the device; nothing else is done to them.

    Args:
        loader: Any sized iterable of batches, such as a ``DataLoader``.
        train_state: Where training stands.
        prepare: From a CPU batch to what ``_forward`` gets.
        seed: Of what the networks draw.
    """

    def __init__(self, loader: Any, train_state: TrainState, prepare: Callable[[Batch], Any], seed: int = 0) -> None:
        try:
            self.batches = len(loader)
        except TypeError as error:
            raise ConfigurationError(
                "The training loader has no length.",
                expected="an iterable of batches with __len__, such as a DataLoader over a map-style data set",
                received=type(loader).__name__,
                fix="Give it a `__len__`; a DataLoader over an IterableDataset takes that of the data set.",
            ) from error
        if self.batches == 0:
            raise DataError("The training loader has no batches.", fix="Lower its batch size or unset drop_last.")
        self.loader = loader
        self.dataset = getattr(loader, "dataset", None)
        self.batch_size = getattr(loader, "batch_size", None) or 0
        self.train_state = train_state
        self.prepare = prepare
        self.seed = seed
        self.micro_batches = 1
        self.skipped = {}
        self.last_indices = []
        self.pass_ended = False
        self._pass = Pass(open=False)

    def __iter__(self) -> Iterator[Any]:
        with self._new_pass() as own:
            epoch, done = self.train_state.epoch, self.train_state.batch
            seed_everything(
                make_key(self.seed, epoch, "pass")
            )  # what the loader shuffles by, now or at its first batch
            batches = iter(self.loader)
            for number in itertools.count():
                if number:
                    seed_everything(make_key(self.seed, epoch, number, "read"))
                data = next(batches, _END)
                if data is _END:
                    break
                if number < done:  # a training that was killed goes on behind the batches that it has seen
                    continue
                self._count_read(own)
                self._seed_step()
                yield self.prepare(Batch(data, (), [], []))
            self._close_pass(own)

    def close(self) -> None:
        """Leave the user's own loader alone."""

    def peek(self) -> Any:
        """The first batch."""
        return self.prepare(Batch(next(iter(self.loader)), (), [], []))
