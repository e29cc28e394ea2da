"""The training loader. The order of images is a function of (seed, epoch); training progress is kept in `TrainState`.

Reading a batch does not change the training progress. The optimizer step does, by calling :meth:`TrainLoader.commit`. A
batch that was read but not trained on is read again.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from super_selfish.datasets.image_source import most_skipped
from super_selfish.distributed import current, own_part, world
from super_selfish.errors import ConfigurationError, DataError, TooManyBadImages, check_choice, unreadable
from super_selfish.loading.collate import Batch, Collate, Collator
from super_selfish.loading.keyed import ImageRequest, KeyedDataset
from super_selfish.loading.passes import Pass
from super_selfish.loading.prefetch import open_loader, reading_threads
from super_selfish.loading.workers import WorkerLoader
from super_selfish.pretext.base import PretextDataset, is_indexable
from super_selfish.renamed import old_names
from super_selfish.seeding import make_key, seed_everything

logger = logging.getLogger("super_selfish")


@dataclass
class TrainState:
    """Training progress of a supervisor.

    Attributes:
        epoch: Number of completed epochs.
        batch: Number of global batches trained in the current epoch.
        step: Number of optimizer steps.
        samples: Number of images used; views and rotations of an image are not counted separately.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0


class _Requests:
    """The remaining micro-batches of an epoch; the data loader iterates over them again in every pass."""

    def __init__(self, loader: TrainLoader) -> None:
        self.loader: TrainLoader = weakref.proxy(loader)  # in a reference cycle, workers would take 10 s to exit

    def __iter__(self) -> Iterator[list[ImageRequest]]:
        loader = self.loader
        epoch, first = loader.train_state.epoch, loader.train_state.batch
        order = loader.order(epoch)
        for batch in range(first, loader.batches):
            members = order[batch * loader.batch_size : (batch + 1) * loader.batch_size]
            for part in torch.tensor_split(members, loader.micro_batches):
                yield [ImageRequest(epoch, index) for index in own_part(part).tolist()]

    def __len__(self) -> int:
        return self.loader.batches * self.loader.micro_batches


class TrainLoader:
    """Training batches on the device, starting at the current training progress.

    One pass yields the remaining batches of the current epoch, as arguments of ``_forward``. The last incomplete global
    batch of an epoch is dropped.

    Args:
        dataset: A pretext data set, or any map-style data set.
        batch_size: Number of images per optimizer step; reduced, with a warning, to the size of the data set.
        train_state: Training progress, which :meth:`commit` updates.
        prepare: Function from a CPU batch to the argument of ``_forward``.
        shuffle: Shuffle the images in every epoch.
        num_workers: Number of data-loading workers; does not change the batches.
        collate_fn: Custom collate function.
        seed: Random seed for shuffling and augmentation.
        on_error: ``"raise"``, or ``"skip"`` to skip unreadable images.
        micro_batches: Number of micro-batches per global batch.
        ahead: Number of batches that threads prefetch, if threads are used; does not change the batches.
        pin: Collate into pinned memory, which makes transfers to a GPU asynchronous.
        timeout: Maximum time in seconds to wait for a worker. None: no limit.

    Raises:
        ConfigurationError: If an argument is out of range.
        DataError: If the data set has fewer than two images.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        train_state: TrainState,
        prepare: Callable[[Batch], Any],
        *,
        shuffle: bool = True,
        num_workers: int = 0,
        collate_fn: Collate | None = None,
        seed: int = 0,
        on_error: str = "raise",
        micro_batches: int = 1,
        ahead: int = 2,
        pin: bool = False,
        timeout: float | None = None,
    ) -> None:
        check_loading(batch_size, num_workers, on_error)
        if not hasattr(dataset, "__len__") or not is_indexable(dataset):
            raise ConfigurationError(
                "The data set must be readable by index.",
                expected="`__len__` and `__getitem__`",
                received=type(dataset).__name__,
                fix="Convert a stream to a list, or return a custom loader from `_init_data_optimizer`.",
            )
        size = len(dataset)
        if size < 2:
            raise DataError("There are too few images for training.", expected="at least 2", received=f"{size}")
        if batch_size > size:
            logger.warning("The data set has %d images: batch_size=%d is reduced to %d.", size, batch_size, size)
        self.dataset = dataset
        self.batch_size = min(batch_size, size)
        self.train_state = train_state
        self.prepare = prepare
        self.shuffle = shuffle
        self.seed = seed
        self.micro_batches = micro_batches
        self.batches = size // self.batch_size
        self.skipped: dict[int, str] = {}
        self.last_indices: list[int] = []
        self.pass_ended = False
        self._pass = Pass(open=False)
        batched = isinstance(dataset, PretextDataset) and dataset.batched
        keyed = KeyedDataset(dataset, seed, collate_fn, on_error)
        threads = 1 if keyed.runs_user_code or collate_fn is not None else reading_threads(dataset.images)
        collator = Collator(batched, collate_fn, pin=pin and num_workers == 0)  # workers do not use the GPU
        reading: dict[str, Any] = {"num_workers": num_workers, "threads": threads, "ahead": ahead, "pin": pin}
        self._loader = open_loader(keyed, _Requests(self), collator, timeout=timeout, **reading)

    def __len__(self) -> int:
        """The number of micro-batches per epoch."""
        return self.batches * self.micro_batches

    def order(self, epoch: int) -> torch.Tensor:
        """Return the order of images in an epoch, which depends only on (seed, epoch)."""
        if not self.shuffle:
            return torch.arange(len(self.dataset))
        generator = torch.Generator().manual_seed(make_key(self.seed, epoch, "order") >> 1)
        return torch.randperm(len(self.dataset), generator=generator)

    def __iter__(self) -> Iterator[Any]:
        with self._new_pass() as own:
            for batch in self._loader:
                self._count_read(own)
                self._account(batch)
                self._seed_step()
                yield self.prepare(batch)
            self._close_pass(own)

    @contextlib.contextmanager
    def _new_pass(self) -> Iterator[Pass]:
        """Start a pass; a pass that it interrupts (in a nested loop) continues afterwards."""
        interrupted, own = self._pass, Pass()
        self._pass = own
        try:
            yield own
        finally:
            own.open = False
            if interrupted.open:
                self._pass = interrupted

    def _count_read(self, own: Pass) -> None:
        """Set the current pass, and count the batch that was read."""
        self._pass = own
        own.read += 1

    def close(self) -> None:
        """Stop worker processes, if there are any; the next pass starts new ones."""
        if isinstance(self._loader, WorkerLoader):
            self._loader.close()

    def _close_pass(self, own: Pass) -> None:
        """Advance to the next epoch at the end of a pass, even if its last batches were not trained on."""
        if own.read and own.committed:
            self.train_state.epoch += 1
            self.train_state.batch = 0
            self.pass_ended = True

    def _seed_step(self) -> None:
        """Seed the random generators for dropout, stochastic depth etc. with (seed, step, micro-batch, rank)."""
        own = (current().rank,) if current().rank else ()  # other ranks have other images, and draw other masks
        seed_everything(make_key(self.seed, self.train_state.step, self._pass.read, "step", *own))

    def peek(self) -> Any:
        """Return the next batch without changing the training progress."""
        position = next(iter(_Requests(self)))
        keyed = self._loader.dataset
        batch = self._loader.collate_fn([keyed[request] for request in position])
        before = self.last_indices
        self._account(batch)
        self.last_indices = before
        return self.prepare(batch)

    def forget(self) -> None:
        """Discard a batch that was read but not yielded."""
        self._pass.read = 0

    @property
    def in_batch(self) -> bool:
        """Whether a pass is in progress whose last batch has not been trained on."""
        return self._pass.open and self._pass.read > 0

    @property
    def between_steps(self) -> bool:
        """Whether no batch was read since the last optimizer step."""
        return self._pass.read == 0

    @property
    def micro_batch(self) -> int:
        """Number of the last micro-batch read within its global batch; the last one of a batch is 0."""
        return self._pass.read % self.micro_batches

    @property
    def in_last_micro_batch(self) -> bool:
        """Whether the last micro-batch read completes a global batch."""
        return self.micro_batch == 0

    @property
    def share(self) -> float:
        """Size of the last micro-batch read, as a fraction of its global batch."""
        return 1.0 if self.micro_batches == 1 else world() * len(self.last_indices) / self.batch_size

    @property
    def reaches_end(self) -> bool:
        """Whether the last batch read is the last one of the epoch."""
        read = self._pass.read
        return read > 0 and self.train_state.batch + read // self.micro_batches >= self.batches

    @property
    def ends_untrained(self) -> bool:
        """Whether the epoch has ended without an optimizer step on the last batch read."""
        return self._pass.committed and self.reaches_end

    def commit(self) -> bool:
        """Count the batches read since the last optimizer step as trained; return whether this ended the epoch."""
        read = self._pass.read
        batches = max(1, read // self.micro_batches) if read else 0  # custom loops may step less often, or twice
        self._pass.read, self._pass.committed = 0, True
        self.train_state.step += 1
        self.train_state.batch += batches
        self.train_state.samples += batches * self.batch_size
        if self.train_state.batch < self.batches:
            return False
        self.train_state.epoch += 1
        self.train_state.batch = 0
        return True

    def _account(self, batch: Batch) -> None:
        self.last_indices = batch.indices
        for index, reason in batch.failures:
            if index not in self.skipped:
                self.skipped[index] = reason
                if batch.data is not None:
                    logger.warning("Image %d is skipped, another takes its place: %s", index, reason)
        if batch.data is None:
            raise unreadable(batch.failures[-1][1])
        limit = most_skipped(len(self.dataset))
        if len(self.skipped) > limit:
            raise TooManyBadImages(
                f"{len(self.skipped)} of {len(self.dataset)} images cannot be read.",
                expected=f"at most {limit}",
                received="first errors: " + "; ".join(list(self.skipped.values())[:3]),
                fix="Remove or repair these images.",
            )


def check_loading(batch_size: int, num_workers: int, on_error: str) -> None:
    """Validate the settings of a loader.

    Raises:
        ConfigurationError: If an argument is out of range.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(
            "`batch_size` is out of range.", expected="an integer of at least 1", received=f"batch_size={batch_size!r}"
        )
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise ConfigurationError(
            "`num_workers` is out of range.",
            expected="an integer of at least 0",
            received=f"num_workers={num_workers!r}",
        )
    check_choice("on_error", on_error, ("raise", "skip"))


__getattr__ = old_names(__name__)
