"""A supervisor's exercise on a few images, to be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.engine.loading import own_collate, preparer
from super_selfish.engine.trainer import own_randomness
from super_selfish.errors import ConfigurationError, check_argument, is_count
from super_selfish.loading.collate import Collator
from super_selfish.loading.keyed import KeyedDataset, Ticket
from super_selfish.models.combined import in_eval_mode
from super_selfish.pretext.base import PretextDataset
from super_selfish.pretext.preview import Exhibit, Panel

if TYPE_CHECKING:
    from super_selfish.engine.supervisor import Supervisor


def exercise(supervisor: Supervisor, images: object) -> Any:
    """The supervisor's own data set, or the same exercise made of other images.

    Raises:
        ConfigurationError: If there are none, or the exercise is a data set of the user's own.
    """
    if images is None and supervisor.dataset is not None:
        return supervisor.dataset
    make = supervisor._setup.make
    if images is None or make is None:
        raise ConfigurationError(
            "There are no images to show.",
            expected="a supervisor with a data set, or images",
            received=f"images={images!r}",
            fix=f'For instance {type(supervisor).__name__}("photos/").preview().',
        )
    return make(ImageDataset.from_(images, supervisor.preprocessing))


def few(supervisor: Supervisor, images: object, count: int, seed: int = 0) -> Any:
    """A batch of exercises as ``_forward`` gets it: the same for the same images, whoever asks.

    Args:
        supervisor: Whose exercise it is.
        images: Other images than its own, or None.
        count: Of images; evenly spaced over the data set.
        seed: Of what is random.
    """
    check_argument(is_count(count, 1), "count", count, "an integer of at least 1")
    dataset = supervisor._setup.shown = exercise(supervisor, images)
    own = own_collate(dataset, supervisor.collate_fn)
    keyed = KeyedDataset(dataset, seed, own, "raise")
    tried = [keyed[Ticket(0, index)] for index in evenly_spaced(len(dataset), min(count, len(dataset)))]
    items = [item for item in tried if item.sample is not None]
    lost = [item.failures[-1][1] for item in tried if item.sample is None]
    if lost and (not items or not supervisor.skipped):
        raise ConfigurationError(f"An image cannot be read: {lost[0]}")
    batched = isinstance(dataset, PretextDataset) and dataset.batched
    return preparer(supervisor)(Collator(batched, own)(items))


def exhibit(supervisor: Supervisor, images: object, count: int) -> Exhibit:
    """The exercise on a few images, with the network's answers once it was trained."""
    with own_randomness(0, supervisor.device), in_eval_mode(supervisor), torch.no_grad():
        try:
            return supervisor._exhibit(few(supervisor, images, count))
        finally:
            supervisor._setup.shown = None


def inputs_only(supervisor: Supervisor, data: Any) -> Exhibit:
    """What an algorithm that says nothing of its own shows: the images of a batch."""
    fields = data if isinstance(data, tuple | list) else (data,)
    shown = [field for field in fields if isinstance(field, Tensor) and field.ndim == 4 and field.shape[1] <= 64]
    rows = [[Panel(field[index]) for field in shown] for index in range(len(shown[0]) if shown else 0)]
    return Exhibit(f"{type(supervisor).__name__}: what the network sees", "", rows)
