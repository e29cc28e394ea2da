"""Collation of samples into batches, and transfer of batches to the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.datasets.scaling import scaled, without_uint16
from super_selfish.errors import DataError, validate_keywords
from super_selfish.images.buffers import Buffers
from super_selfish.pretext.base import PretextDataset, Sample, current_generator, custom_sample

Collate = Callable[[list[Any]], Any]


@dataclass
class Room:
    """Contiguous memory for the images of a batch.

    Attributes:
        array: Array with one entry per item along the first axis.
        is_complete: Whether the images of all items are stored in the array.
    """

    array: np.ndarray[Any, Any]
    is_complete: bool = True


@dataclass
class Item:
    """One item of a batch: a sample, or the errors that prevented it.

    Attributes:
        index: Index of the image.
        sample: Sample of the pretext task, or None.
        failures: Indices and error messages of images that could not be read.
        rooms: For each field of the sample, the memory of the batch that it is stored in, or None.
    """

    index: int
    sample: Any = None
    failures: list[tuple[int, str]] = field(default_factory=list)
    rooms: list[Room | None] = field(default_factory=list)


@dataclass
class Batch:
    """A collated batch before its transfer to the device.

    Attributes:
        data: Argument of ``_forward``, on the CPU.
        images: For each field, whether it holds channels-last images that are not scaled yet; nested like ``data``.
        indices: Indices of the images in the batch.
        failures: Indices and error messages of images that could not be read.
    """

    data: Any
    images: Any
    indices: list[int]
    failures: list[tuple[int, str]]

    def pin_memory(self) -> Batch:
        """Copy the batch to pinned memory; called by the data loader."""
        self.data = tree_map(lambda tensor: tensor.pin_memory(), self.data)
        return self


@validate_keywords()
def batched_collate(items: Sequence[Sample | Mapping[str, Any]]) -> Any:
    """Concatenate samples, which are small batches themselves, along their first axis.

    Samples are tuples or dictionaries of tensors. Numbers and strings, which belong to a whole sample, are collated as
    by ``torch.utils.data.default_collate``.

    Examples:
        >>> x, y = batched_collate([(torch.zeros(4, 3, 8, 8), torch.arange(4))] * 2)
        >>> x.shape, y
        (torch.Size([8, 3, 8, 8]), tensor([0, 1, 2, 3, 0, 1, 2, 3]))
    """
    samples: list[Any] = list(items)
    if isinstance(samples[0], Mapping):
        return {key: _joined([sample[key] for sample in samples]) for key in samples[0]}
    return tuple(_joined(list(parts)) for parts in zip(*items, strict=True))


def _joined(parts: list[Any]) -> Any:
    """Concatenate fields of samples that are small batches."""
    if isinstance(parts[0], str | bytes):
        return parts
    tensors = [torch.as_tensor(part) for part in parts]
    return torch.cat(tensors) if tensors[0].ndim else torch.stack(tensors)


class Collator:
    """Collate items into a :class:`Batch`; picklable for spawned workers.

    Args:
        batched: Concatenate samples along their first axis instead of stacking them.
        collate_fn: Custom collate function that replaces the default one.
        pin: Collate images into pinned memory, which torch reuses after the transfer to the device.
    """

    def __init__(self, batched: bool = False, collate_fn: Collate | None = None, pin: bool = False) -> None:
        self.batched = batched
        self.collate_fn = collate_fn
        self.pin = pin
        self.buffers = Buffers()

    def __call__(self, items: list[Item]) -> Batch:
        """Collate items; if an item has no sample, the batch contains only the failures."""
        indices = [item.index for item in items]
        failures = [failure for item in items for failure in item.failures]
        if any(item.sample is None for item in items):
            return Batch(None, (), indices, failures)
        samples = [item.sample for item in items]
        if self.collate_fn is not None:
            return Batch(self.collate_fn(samples), (), indices, failures)
        if isinstance(samples[0], np.ndarray):
            return Batch(self._join(samples), True, indices, failures)
        if not isinstance(samples[0], tuple):
            return Batch(self._join(samples), image_fields(samples[0]), indices, failures)
        rooms = items[0].rooms if all(item.rooms is items[0].rooms for item in items) else []
        fields = [self._join(list(parts), room) for parts, room in zip_longest(zip(*samples, strict=True), rooms)]
        return Batch(tuple(fields), image_fields(samples[0]), indices, failures)

    def _join(self, parts: list[Any], room: Room | None = None) -> Any:
        is_complete = (
            room is not None and room.is_complete and len(room.array) == len(parts) and room.array.dtype == np.uint8
        )
        if room is not None and is_complete and not self.pin:
            return torch.from_numpy(room.array.reshape(-1, *room.array.shape[2:]) if self.batched else room.array)
        if isinstance(parts[0], np.ndarray):
            return _join_images(parts, self.batched, None if self.pin else self.buffers)
        if isinstance(parts[0], Mapping):
            return {key: self._join([part[key] for part in parts]) for key in parts[0]}
        if isinstance(parts[0], tuple):
            return tuple(self._join(list(each)) for each in zip(*parts, strict=True))
        return _joined(parts) if self.batched else default_collate(parts)


def image_fields(sample: Any) -> Any:
    """Return for each field of a sample whether it is an image; nested like the sample.

    Examples:
        >>> image_fields({"view": np.zeros((8, 8, 3), np.uint8), "label": 1})
        {'view': True, 'label': False}
    """
    if isinstance(sample, Mapping):
        return {key: image_fields(part) for key, part in sample.items()}
    if isinstance(sample, tuple):
        return tuple(map(image_fields, sample))
    return isinstance(sample, np.ndarray)


def holds_images(fields: Any) -> bool:
    """Whether any field in the result of :func:`image_fields` is an image."""
    if isinstance(fields, Mapping):
        return any(map(holds_images, fields.values()))
    return any(map(holds_images, fields)) if isinstance(fields, tuple) else bool(fields)


def _join_images(parts: list[Any], batched: bool, buffers: Buffers | None) -> Tensor:
    """Join all images in one tensor, in memory from ``buffers``, or in pinned memory if ``buffers`` is None."""
    shapes = {part.shape[-3:] for part in parts}
    if len(shapes) > 1:
        sizes = ", ".join("×".join(map(str, shape)) for shape in sorted(shapes))
        raise DataError(
            "The images of a batch differ in size.",
            expected="the same height, width and number of channels (H×W×C)",
            received=sizes,
            fix="Pass `resolution=` and `channels=` to the supervisor; images are then resized and cropped.",
        )
    parts = [without_uint16(part) for part in parts]
    if len({part.dtype for part in parts}) > 1:  # 8-bit files among deeper ones
        parts = [np.float32(part / 255.0) if part.dtype == np.uint8 else np.float32(part) for part in parts]
    shape = parts[0].shape
    size = (sum(map(len, parts)), *shape[1:]) if batched else (len(parts), *shape)
    if buffers is None:
        tensor = torch.empty(size, dtype=torch.from_numpy(parts[0]).dtype, pin_memory=True)
    else:
        tensor = torch.from_numpy(buffers.empty(size, parts[0].dtype))
    joined = tensor.numpy()
    np.concatenate(parts, out=joined if batched else joined.reshape(-1, *shape[1:]))
    return tensor


def sample_of(dataset: Any, index: int, collate_fn: Collate | None) -> Any:
    """Return the sample for one index: raw arrays for the default collation, public items for a custom one."""
    if collate_fn is None and isinstance(dataset, PretextDataset) and not dataset.overrides_indexing:
        return dataset.sample(index, current_generator())
    item = dataset[index]
    if collate_fn is not None:
        return item
    return custom_sample(item)


def to_device(
    batch: Batch,
    device: torch.device,
    preprocessing: Preprocessing | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
    buffers: Buffers | None = None,
) -> Any:
    """Transfer a batch to the device, as the argument of ``_forward``; images become float32 N×C×H×W.

    Images are in [0, 1], or normalised.

    Args:
        batch: Collated batch.
        device: Target device.
        preprocessing: Mean and standard deviation to normalise images with, if any.
        finish: Function that is applied to images last.
        buffers: Memory pool for images on a CPU.
    """

    def move(tensor: Tensor) -> Tensor:
        moved = tensor.to(device, non_blocking=True)
        return moved.to(torch.float32).div_(255.0) if moved.dtype == torch.uint8 and moved.ndim > 2 else moved

    def scale(images: Tensor) -> Tensor:
        floats = scaled(images.to(device, non_blocking=True), preprocessing, buffers)
        return floats if finish is None else finish(floats)

    known = holds_images(batch.images)  # then other fields are not images, but for example segmentation masks

    def place(value: Any, images: Any) -> Any:
        if images is True:
            return scale(value)
        if isinstance(images, Mapping):
            return {key: place(value[key], part) for key, part in images.items()}
        if isinstance(images, tuple) and images:
            return tuple(place(*pair) for pair in zip(value, images, strict=True))
        return tree_map(partial(Tensor.to, device=device, non_blocking=True) if known else move, value)

    return place(batch.data, batch.images)


def tree_map(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply a function to all tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(tree_map(function, part) for part in value))
    if isinstance(value, tuple | list):
        return type(value)(tree_map(function, part) for part in value)
    if isinstance(value, dict):
        return {key: tree_map(function, part) for key, part in value.items()}
    return value
