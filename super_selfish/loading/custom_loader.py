"""Support for custom training loaders."""

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
    """Wrapper of a custom loader from an overridden ``_init_data_optimizer``, with the interface of ``TrainLoader``.

    The loader determines the order and randomness of its batches. The global random generators, which it may use, are
    seeded with (seed, epoch, batch), so that training can be resumed: earlier batches of the epoch are then read again
    and discarded. Batches are moved to the device and not changed otherwise.

    Args:
        loader: Sized iterable of batches, such as a ``DataLoader``.
        train_state: Training progress.
        prepare: Function from a CPU batch to the argument of ``_forward``.
        seed: Random seed.
    """

    def __init__(self, loader: Any, train_state: TrainState, prepare: Callable[[Batch], Any], seed: int = 0) -> None:
        try:
            self.batches = len(loader)
        except TypeError as error:
            raise ConfigurationError(
                "The training loader has no length.",
                expected="an iterable of batches with __len__, such as a DataLoader over a map-style data set",
                received=type(loader).__name__,
                fix="Define `__len__`; for a DataLoader over an IterableDataset, define it on the data set.",
            ) from error
        if self.batches == 0:
            raise DataError(
                "The training loader has no batches.", fix="Reduce its batch size, or pass drop_last=False."
            )
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
            seed_everything(make_key(self.seed, epoch, "pass"))  # for shuffling, now or at the first batch
            batches = iter(self.loader)
            for number in itertools.count():
                if number:
                    seed_everything(make_key(self.seed, epoch, number, "read"))
                data = next(batches, _END)
                if data is _END:
                    break
                if number < done:  # a resumed training skips the batches that it has already used
                    continue
                self._count_read(own)
                self._seed_step()
                yield self.prepare(Batch(data, (), [], []))
            self._close_pass(own)

    def close(self) -> None:
        """Do nothing: the custom loader belongs to the user."""

    def peek(self) -> Any:
        """Return the first batch."""
        return self.prepare(Batch(next(iter(self.loader)), (), [], []))
