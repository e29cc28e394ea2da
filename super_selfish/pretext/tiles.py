"""Shuffled tiles of an image, without shortcuts that reveal the permutation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from super_selfish.errors import ConfigurationError, DataError
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms.base import Transform

SHARE = 0.85
"""Default side of a crop relative to the side of its cell."""
SMALLEST_CELL = 4
"""Smallest side of a cell in px."""

_FRINGE = np.array((-1.0, 2.0, -1.0))  # green-magenta axis, along which chromatic aberration leaves fringes
_WITHOUT_FRINGE = np.hstack([np.eye(3) - np.outer(_FRINGE, _FRINGE) / (_FRINGE @ _FRINGE), np.zeros((3, 1))])


def jigsaw_size(size: tuple[int, int], crops: int) -> tuple[int, int]:
    """Height and width of a shuffled image in px."""
    return size[0] // crops * crops, size[1] // crops * crops


def cell_and_crop(
    size: tuple[int, ...], crops: int, crop_size: int | Sequence[int] | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the cells of an image, and height and width of their crops, in px.

    Raises:
        ConfigurationError: If cells are too small, or crops are not smaller than cells.
    """
    height, width = size[0] // crops, size[1] // crops
    if min(height, width) < SMALLEST_CELL:
        raise ConfigurationError(
            f"Images of {size[0]}×{size[1]} px are too small for {crops}×{crops} tiles.",
            expected=f"tiles of at least {SMALLEST_CELL} px",
            received=f"crops={crops}: tiles of {height}×{width} px",
            fix=f"Set crops={max(2, min(size) // SMALLEST_CELL)}, or resolution={crops * SMALLEST_CELL} or more.",
        )
    if crop_size is None:
        return (height, width), (_crop_side(height), _crop_side(width))
    rows, columns = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    if rows >= height or columns >= width:
        raise ConfigurationError(
            "The crops are as large as the tiles, so edges that continue from tile to tile reveal the permutation.",
            expected=f"crop_size below {height}×{width} px, the tile size of images of {size[0]}×{size[1]} px",
            received=f"crop_size={crop_size!r}",
            fix=f"Set crop_size=({_crop_side(height)}, {_crop_side(width)}), or None for {SHARE} of the tile size.",
        )
    return (height, width), (rows, columns)


def _crop_side(side: int) -> int:
    return min(side - 1, round(SHARE * side))


def without_fringe(image: Image) -> Image:
    """Remove the green-magenta component of an RGB image, the projection of colours onto (-1, 2, -1)."""
    return functional.mix_channels(image, _WITHOUT_FRINGE.astype(np.float32))


def shuffled(
    image: Image,
    permutation: Sequence[int],
    crops: int,
    crop: tuple[int, int],
    generator: KeyedGenerator,
    transform: Transform | None = None,
    shift: int = 0,
) -> Image:
    """Shuffle the tiles of an image.

    Args:
        image: Image H×W×C.
        permutation: Tile n, in row-major order, moves to position ``permutation[n]``.
        crops: Number of tiles per side.
        crop: Height and width in px of the random crop of each cell, at most the cell. It is resized to the cell.
        generator: Random generator; the only source of randomness.
        transform: Transform that is applied to each crop. None: no transform.
        shift: Maximum shift between channels in px, limited to half the margin of the crop.

    Raises:
        DataError: If the transform changes the number of channels.
    """
    height, width = image.shape[0] // crops, image.shape[1] // crops
    output = np.empty((crops * height, crops * width, image.shape[2]), image.dtype)
    for tile, position in enumerate(permutation):
        row, column = divmod(tile, crops)
        cell = image[row * height : (row + 1) * height, column * width : (column + 1) * width]
        part = _cropped(cell, crop, shift, generator)
        if transform is not None:
            part = alike(transform.augment(part, generator), image)
        row, column = divmod(position, crops)
        target = output[row * height : (row + 1) * height, column * width : (column + 1) * width]
        target[:] = functional.resize(part, height, width)
    return output


def _cropped(cell: Image, crop: tuple[int, int], shift: int, generator: KeyedGenerator) -> Image:
    """A random crop of a cell with shifted channels; it contains only pixels of the cell."""
    rows, columns = crop
    down, across = cell.shape[0] - rows, cell.shape[1] - columns  # margin of the crop
    shift_down, shift_across = min(shift, down // 2), min(shift, across // 2)
    top, left, *shifts = generator.sixteen()[:8]
    y, x = int(top * (down - shift_down + 1)), int(left * (across - shift_across + 1))
    if not shift_down and not shift_across:
        return cell[y : y + rows, x : x + columns]
    part = np.empty((rows, columns, 3), cell.dtype)
    for channel in range(3):
        first = y + int(shifts[2 * channel] * (shift_down + 1))
        begin = x + int(shifts[2 * channel + 1] * (shift_across + 1))
        part[:, :, channel] = cell[first : first + rows, begin : begin + columns, channel]
    return part


def alike(part: Image, image: Image) -> Image:
    """Convert the output of a transform to the dtype of the image.

    Raises:
        DataError: If the numbers of channels differ.
    """
    if part.shape[2] != image.shape[2]:
        raise DataError(
            "The transform of tiles changed the number of channels.",
            expected=str(image.shape[2]),
            received=str(part.shape[2]),
        )
    if part.dtype == image.dtype:
        return part
    values = part.astype(np.float32) * np.float32(functional.peak(image) / functional.peak(part))
    return (
        values if image.dtype == np.float32 else np.clip(np.rint(values), 0, functional.peak(image)).astype(image.dtype)
    )


def normalised(laid: Image, crops: int) -> npt.NDArray[np.float32]:
    """Normalise each channel of each tile of an image H×W×C to mean 0 and standard deviation 1, as float32.

    The standard deviation is clamped to at least 1/255 of white, so that a constant tile becomes 0 instead of noise.
    """
    height, width, channels = laid.shape[0] // crops, laid.shape[1] // crops, laid.shape[2]
    corners = [(row * height, column * width) for row in range(crops) for column in range(crops)]
    tiles = [laid[top : top + height, left : left + width] for top, left in corners]
    mean, deviation = np.array([functional.channel_moments(tile) for tile in tiles]).transpose(1, 0, 2)
    gain = 1.0 / np.maximum(deviation, functional.peak(laid) / 255.0)
    factor, offset = (
        np.repeat(values.astype(np.float32).reshape(crops, 1, crops, channels), width, axis=2).reshape(crops, 1, -1)
        for values in (gain, mean * gain)
    )
    bands = laid.reshape(crops, height, -1)  # one long row per line of pixels
    scaled: npt.NDArray[np.float32] = bands * factor
    scaled -= offset
    return scaled.reshape(laid.shape)


def reorder_tiles(image: Tensor, permutation: Sequence[int]) -> Tensor:
    """Move the tiles of a shuffled image (C, H, W) from position ``permutation[n]`` back to position n.

    Examples:
        >>> import torch
        >>> reorder_tiles(torch.tensor([[[3, 2], [1, 0]]]), (3, 2, 1, 0)).tolist()
        [[[0, 1], [2, 3]]]
    """
    crops = math.isqrt(len(permutation))
    channels, height, width = image.shape
    cells = image.reshape(channels, crops, height // crops, crops, width // crops).transpose(2, 3).flatten(1, 2)
    ordered = cells[:, list(permutation)].reshape(channels, crops, crops, height // crops, width // crops)
    return ordered.transpose(2, 3).reshape(image.shape)
