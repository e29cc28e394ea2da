"""Images of a batch side by side, as they come."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import numpy as np

from super_selfish.images.buffers import Buffers
from super_selfish.loading.collate import Item, Room

SMALL = 1 << 14
"""Bytes of an image below which memory is no matter."""


class Gatherer:
    """Copies each image to its place in the batch while it is still in the cache.

    The memory of the image is then free for the next one. If all were kept until the batch is complete, each would need
    fresh pages, which cost as much time as much of what is computed.

    Examples:
        >>> items = [Item(i, (np.full((99, 99, 3), i, np.uint8), i)) for i in range(3)]
        >>> gathered = Gatherer()(items, 3)
        >>> gathered[1].sample[0].base is gathered[2].sample[0].base, gathered[2].sample[1]
        (True, 2)
    """

    def __init__(self) -> None:
        self.buffers = Buffers()

    def __call__(self, items: Iterable[Any], count: int) -> list[Any]:
        """Items with their images moved; what is no image, or differs from the first in size, stays where it is.

        Args:
            items: Made one after the other.
            count: How many there are going to be.
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
