"""Copying of the images of a batch to contiguous memory as soon as each is available."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import numpy as np

from super_selfish.images.buffers import Buffers
from super_selfish.loading.collate import Item, Room

SMALL = 1 << 14
"""Size of an image in bytes below which copying early does not pay."""


class Gatherer:
    """Copies each image to the memory of the batch while it is still in the CPU cache.

    The memory of the image can then be reused for the next one. Otherwise, each image of the batch would need newly
    allocated pages, which takes a considerable part of the total time.

    Examples:
        >>> items = [Item(i, (np.full((99, 99, 3), i, np.uint8), i)) for i in range(3)]
        >>> gathered = Gatherer()(items, 3)
        >>> gathered[1].sample[0].base is gathered[2].sample[0].base, gathered[2].sample[1]
        (True, 2)
    """

    def __init__(self) -> None:
        self.buffers = Buffers()

    def __call__(self, items: Iterable[Any], count: int) -> list[Any]:
        """Return items with their images copied; other fields, and images of a different size, are not copied.

        Args:
            items: Iterable of items.
            count: Number of items.
        """
        rooms: list[Room | None] = []
        gathered: list[Any] = []
        for place, item in enumerate(items):
            if isinstance(item, Item) and type(item.sample) is tuple:
                if not gathered:
                    rooms = [self._room(field, count) for field in item.sample]
                item.sample = tuple(_moved(*pair, place) for pair in zip_longest(item.sample, rooms))
                item.rooms = rooms
            gathered.append(item)
        return gathered

    def _room(self, field: Any, count: int) -> Room | None:
        if not isinstance(field, np.ndarray) or field.nbytes < SMALL:
            return None
        return Room(self.buffers.empty((count, *field.shape), field.dtype))


def _moved(field: Any, room: Room | None, place: int) -> Any:
    if room is None:
        return field
    if not isinstance(field, np.ndarray) or field.dtype != room.array.dtype or field.shape != room.array.shape[1:]:
        room.is_complete = False
        return field
    room.array[place] = field
    return room.array[place]
