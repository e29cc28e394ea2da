"""Conversion of image arrays to float32 tensors in [0, 1], optionally normalised."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from super_selfish.images.buffers import Buffers
from super_selfish.images.functional import Image

_LONG = 1 << 13  # number of values in a sufficiently long row
_BLOCK = 1 << 17  # number of values converted at a time on a CPU, so that they stay in its cache between operations


class Moments(Protocol):
    """Mean and standard deviation per channel, on the scale [0, 1]. None: images are not normalised."""

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Mean per channel."""

    @property
    def std(self) -> tuple[float, ...] | None:
        """Standard deviation per channel, positive."""


def without_uint16(image: Image) -> Image:
    """Convert uint16 images, which torch supports only partly, to float32 in [0, 1]; return others unchanged."""
    return (image / 65535.0).astype(np.float32) if image.dtype == np.uint16 else image


def as_float(image: Image, preprocessing: Moments | None = None) -> Tensor:
    """Convert an image (..., H, W, C) to a float32 tensor (..., C, H, W) in [0, 1], or normalised."""
    return scaled(torch.from_numpy(np.ascontiguousarray(without_uint16(image))), preprocessing)


def scaled(images: Tensor, preprocessing: Moments | None = None, buffers: Buffers | None = None) -> Tensor:
    """Convert channels-last images to network inputs.

    Args:
        images: (..., H, W, C) of uint8, or floats in [0, 1].
        preprocessing: Mean and standard deviation to normalise with, if any.
        buffers: Memory pool for the result, used on a CPU.

    Returns:
        Float32 (..., C, H, W) on the same device, in channels-last memory format.
    """
    width, channels = images.shape[-2:].numel(), images.shape[-1]
    if width * images.shape[-3] <= _LONG:
        width *= images.shape[-3]
    rows = images.reshape(-1, width)  # rows of pixels or small images: long inner loops are faster
    unit = 1 / 255 if images.dtype == torch.uint8 else 1.0
    if buffers is None or images.device.type != "cpu":
        made = torch.empty(rows.shape, dtype=torch.float32, device=images.device)
    else:
        made = torch.from_numpy(buffers.empty(tuple(rows.shape), np.float32))
    count = len(rows) if images.device.type != "cpu" else max(1, _BLOCK // width)
    if preprocessing is None or preprocessing.mean is None or preprocessing.std is None:
        for block, source in zip(torch.split(made, count), torch.split(rows, count), strict=True):
            block.copy_(source)
            if images.dtype == torch.uint8:
                block.div_(255.0)
    else:
        moments = tuple(preprocessing.mean), tuple(preprocessing.std)
        factor, shift = _factor_and_shift(*moments, unit, width // channels, images.device)
        for block, source in zip(torch.split(made, count), torch.split(rows, count), strict=True):
            block.copy_(source)
            torch.addcmul(shift, block, factor, out=block)
    return made.view(images.shape).movedim(-1, -3)


@lru_cache(maxsize=16)
def _factor_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], unit: float, pixels: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the factor and offset that normalise a row of pixels, cached on the device between batches."""
    means, deviations = (torch.tensor(row, dtype=torch.float64) for row in (mean, std))
    factor, shift = (row.float().repeat(pixels).to(device) for row in (unit / deviations, -means / deviations))
    return factor, shift
