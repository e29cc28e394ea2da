"""From the numbers of images to those of networks: float32 in [0, 1], or normalised."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from super_selfish.images.buffers import Buffers
from super_selfish.images.functional import Image

_LONG = 1 << 13  # numbers that make a long enough row
_BLOCK = 1 << 17  # numbers that are converted at a time on a CPU: they stay in its cache between the passes


class Moments(Protocol):
    """Mean and standard deviation per channel, on the scale [0, 1]; None: images are not normalised."""

    @property
    def mean(self) -> tuple[float, ...] | None:
        """One number per channel."""

    @property
    def std(self) -> tuple[float, ...] | None:
        """One number per channel, positive."""


def without_uint16(image: Image) -> Image:
    """16-bit images, which torch hardly computes with, as float32 in [0, 1]; others as they are."""
    return (image / 65535.0).astype(np.float32) if image.dtype == np.uint16 else image


def as_float(image: Image, preprocessing: Moments | None = None) -> Tensor:
    """An image (..., H, W, C) as a float32 tensor (..., C, H, W): in [0, 1], or normalised."""
    return scaled(torch.from_numpy(np.ascontiguousarray(without_uint16(image))), preprocessing)


def scaled(images: Tensor, preprocessing: Moments | None = None, buffers: Buffers | None = None) -> Tensor:
    """Channels-last images as a network takes them.

    Args:
        images: (..., H, W, C) of uint8, or floats in [0, 1].
        preprocessing: Its mean and standard deviation are applied, if it has them.
        buffers: Where the memory of the result comes from, on a CPU.

    Returns:
        Float32 (..., C, H, W) on the same device; the memory stays channels-last.
    """
    width, channels = images.shape[-2:].numel(), images.shape[-1]
    if width * images.shape[-3] <= _LONG:
        width *= images.shape[-3]
    rows = images.reshape(
        -1, width
    )  # rows of pixels, or small images: long inner loops, where a pixel has three numbers
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
    """What a row of pixels is multiplied by, and what is added then; on a GPU they stay there from batch to batch."""
    means, deviations = (torch.tensor(row, dtype=torch.float64) for row in (mean, std))
    factor, shift = (row.float().repeat(pixels).to(device) for row in (unit / deviations, -means / deviations))
    return factor, shift
