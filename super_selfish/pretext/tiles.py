"""Tiles of an image: cut out, laid in another order, and stripped of what would give the order away."""

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
"""Of a cell's sides: what is cropped unless told otherwise."""
SMALLEST_CELL = 4
"""Side in px."""

_FRINGE = np.array((-1.0, 2.0, -1.0))  # green against magenta, where lenses leave coloured fringes
_WITHOUT_FRINGE = np.hstack([np.eye(3) - np.outer(_FRINGE, _FRINGE) / (_FRINGE @ _FRINGE), np.zeros((3, 1))])


def jigsaw_size(size: tuple[int, int], crops: int) -> tuple[int, int]:
    """Height and width of the puzzle of an image."""
    return size[0] // crops * crops, size[1] // crops * crops


def cell_and_crop(
    size: tuple[int, ...], crops: int, crop_size: int | Sequence[int] | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the cells of an image, and of the crops that are taken of them.

    Raises:
        ConfigurationError: If cells are too small, or crops not smaller than they are.
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
        return (height, width), (_share(height), _share(width))
    rows, columns = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    if rows >= height or columns >= width:
        raise ConfigurationError(
            "The crops are as large as their tiles, so edges would continue from tile to tile and give the order away.",
            expected=f"crop_size below {height}×{width} px, which tiles of images of {size[0]}×{size[1]} px have",
            received=f"crop_size={crop_size!r}",
            fix=f"Set crop_size=({_share(height)}, {_share(width)}), or None, which stands for {SHARE} of the tiles.",
        )
    return (height, width), (rows, columns)


def _share(side: int) -> int:
    return min(side - 1, round(SHARE * side))


def without_fringe(image: Image) -> Image:
    """An RGB image without its green-magenta component: a colour's part along (-1, 2, -1) is taken away."""
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
    """The tiles of an image in another order.

    Args:
        image: H×W×C.
        permutation: Tile n goes to place ``permutation[n]``; both are counted row by row.
        crops: Tiles along a side.
        crop: Height and width of what is taken of each cell, at random, and enlarged to it; at most the cell.
        generator: The only source of randomness.
        transform: Made of each crop; None: nothing.
        shift: Largest shift of a channel against the others in px; at most half of what the crop can move.

    Raises:
        DataError: If the recipe changes the number of channels.
    """
    height, width = image.shape[0] // crops, image.shape[1] // crops
    laid = np.empty((crops * height, crops * width, image.shape[2]), image.dtype)
    for tile, place in enumerate(permutation):
        row, column = divmod(tile, crops)
        cell = image[row * height : (row + 1) * height, column * width : (column + 1) * width]
        part = _cropped(cell, crop, shift, generator)
        if transform is not None:
            part = alike(transform.augment(part, generator), image)
        row, column = divmod(place, crops)
        there = laid[row * height : (row + 1) * height, column * width : (column + 1) * width]
        there[:] = functional.resize(part, height, width)
    return laid


def _cropped(cell: Image, crop: tuple[int, int], shift: int, generator: KeyedGenerator) -> Image:
    """A crop at random whose channels are shifted against each other, all of it from within the cell."""
    rows, columns = crop
    down, across = cell.shape[0] - rows, cell.shape[1] - columns  # how far the crop can move
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
    """What a recipe made, with numbers like the image's."""
    if part.shape[2] != image.shape[2]:
        raise DataError(
            "What is made of a tile changed the number of channels.",
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
    """A puzzle, H×W×C, with each channel of each tile at mean 0 and standard deviation 1, as float32.

    A standard deviation below one 255th of white is taken to be that: a blank tile becomes 0, not noise.
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
    bands = laid.reshape(crops, height, -1)  # long rows
    made: npt.NDArray[np.float32] = bands * factor
    made -= offset
    return made.reshape(laid.shape)


def reorder_tiles(puzzle: Tensor, permutation: Sequence[int]) -> Tensor:
    """A puzzle (C, H, W) with each tile brought back from place ``permutation[n]`` to place n.

    Examples:
        >>> import torch
        >>> reorder_tiles(torch.tensor([[[3, 2], [1, 0]]]), (3, 2, 1, 0)).tolist()
        [[[0, 1], [2, 3]]]
    """
    crops = math.isqrt(len(permutation))
    channels, height, width = puzzle.shape
    cells = puzzle.reshape(channels, crops, height // crops, crops, width // crops).transpose(2, 3).flatten(1, 2)
    laid = cells[:, list(permutation)].reshape(channels, crops, crops, height // crops, width // crops)
    return laid.transpose(2, 3).reshape(puzzle.shape)
