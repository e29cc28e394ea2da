"""Jigsaw pretext task: predict the permutation of the tiles of an image."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.datasets.scaling import as_float
from super_selfish.errors import (
    COUNT,
    PROBABILITY,
    SWITCH,
    Rule,
    check_argument,
    is_count,
    validate_arguments,
    validate_keywords,
)
from super_selfish.images.arrays import to_image
from super_selfish.pretext.base import PretextDataset, Sample, current_generator
from super_selfish.pretext.permutations import Table, permutation_table, read_table
from super_selfish.pretext.preview import CaptionedImage
from super_selfish.pretext.tiles import cell_and_crop, normalised, reorder_tiles, shuffled, without_fringe
from super_selfish.pretext.views import Views, as_transform
from super_selfish.seeding import KeyedGenerator, make_key, splitmix64
from super_selfish.transforms.base import Transform, is_size
from super_selfish.transforms.colour import to_grey
from super_selfish.transforms.jigsaw import JigsawTransform

_TILE_COLOURS = JigsawTransform(grey=0.0)  # whole images, not tiles, are converted to greyscale

JIGSAW_RULES = {
    "jigsaw_path": Rule(
        lambda path: path is None or (isinstance(path, str | os.PathLike) and str(path) != ""),
        "None, or the path of a .npy file",
    ),
    "n_perms_per_image": COUNT,
    "total_perms": Rule(lambda total: is_count(total, 2), "an integer of at least 2"),
    "crops": Rule(lambda crops: is_count(crops, 2), "an integer of at least 2", "2 makes 2 × 2 tiles, 3 makes 3 × 3."),
    "crop_size": Rule(is_size, "None, a side in px, or (height, width)", "None: 0.85 of a tile's sides."),
    "chroma_jitter": Rule(lambda jitter: is_count(jitter, 0), "px, an integer of at least 0"),
    "chroma_project": PROBABILITY,
    "grey": PROBABILITY,
    "normed": SWITCH,
}


class JigsawDataset(PretextDataset):
    """Images with shuffled tiles: item (shuffled image C×H'×W', row of its permutation in the table).

    Tile n, in row-major order, moves to position ``permutations[row, n]``. A tile is a cell of
    ⌊H / crops⌋ × ⌊W / crops⌋ px; pixels outside the cells are cropped. Shortcuts are removed:

    - Continuing edges: each cell is replaced by a smaller random crop of it, resized to the cell.
    - Brightness and contrast: each channel of each tile is normalised to mean 0 and standard deviation 1.
    - Chromatic aberration, which grows towards the border of photographs: some images are converted to greyscale, some
      lose their green-magenta component, and in the others the channels of each tile are shifted.
    - Colours: each tile is colour-jittered independently.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        transformations: Transform that is applied to each tile, or a callable as described at
            :class:`~super_selfish.pretext.views.CustomTransform`. None: the jitter of :class:`JigsawTransform`.
        jigsaw_path: A ``.npy`` file with one permutation per row. None: the built-in table, see
            :func:`~super_selfish.pretext.permutations.permutation_table`.
        n_perms_per_image: Number of permutations of each image, a fixed subset of the table; at most ``total_perms``.
        total_perms: Number of permutations of the table that are used, which is the number of classes.
        crops: Number of tiles per side.
        crop_size: Size of the crops in px, smaller than a cell: side of a square, or (height, width). None: 0.85 of the
            cell's sides.
        chroma_jitter: Maximum shift between the channels of a tile in px, limited to half the margin of the crop.
        chroma_project: Fraction of the colour images whose green-magenta component is removed, in [0, 1].
        grey: Fraction of the images that are converted to greyscale, in [0, 1].
        normed: Normalise each tile; shuffled images are then float32 tensors. False: images of the input's dtype.

    Operations that need RGB are skipped for images without three channels.

    Raises:
        ConfigurationError: If an argument is out of range, or tiles are not larger than the crop.
        DataError: If the table cannot be read.

    Examples:
        >>> shuffled, row = JigsawDataset(np.zeros((2, 65, 100, 3), np.uint8))[0]
        >>> shuffled.shape, 0 <= row < 24
        (torch.Size([3, 64, 100]), True)

    References:
        Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", 2016.
    """

    @validate_arguments(JIGSAW_RULES)
    def __init__(
        self,
        dataset: object,
        transformations: Views | None = None,
        jigsaw_path: str | os.PathLike[str] | None = None,
        n_perms_per_image: int = 24,
        total_perms: int = 24,
        crops: int = 2,
        crop_size: int | tuple[int, int] | None = None,
        *,
        chroma_jitter: int = 2,
        chroma_project: float = 0.5,
        grey: float = 0.3,
        normed: bool = True,
    ) -> None:
        super().__init__(dataset)
        self.permutations = load_permutations(jigsaw_path, crops, total_perms)
        self.transform: Transform = _TILE_COLOURS if transformations is None else as_transform(transformations)
        self.n_perms_per_image = n_perms_per_image
        self.crops = crops
        self.crop_size = crop_size
        self.chroma_jitter = chroma_jitter
        self.chroma_project = chroma_project
        self.grey = grey
        self.normed = normed
        if isinstance(self.images, ImageDataset):
            cell_and_crop(self.images.preprocessing.resolution, crops, crop_size)

    @property
    def runs_user_code(self) -> bool:
        """Whether reading an image runs user code, which may use global random generators."""
        return self.transform.runs_user_code or super().runs_user_code

    def rows(self, index: int) -> npt.NDArray[np.int64]:
        """Rows of the permutations of image ``index`` in the table."""
        total = len(self.permutations)
        if self.n_perms_per_image >= total:
            return np.arange(total)
        keys = splitmix64(make_key("permutations", index), total)
        return np.sort(keys.argsort()[: self.n_perms_per_image])

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The shuffled image, a tensor if tiles are normalised, and the row of its permutation in the table."""
        image = self.images.read(index)
        chosen, grey, project = generator.sixteen()[:3]
        count = min(self.n_perms_per_image, len(self.permutations))
        row = int(chosen * count)
        if count < len(self.permutations):
            row = int(self.rows(index)[row])
        shift = 0
        if image.shape[2] == 3 and grey < self.grey:
            image = to_grey(image)
        elif image.shape[2] == 3:
            image = without_fringe(image) if project < self.chroma_project else image
            shift = self.chroma_jitter
        _, crop = cell_and_crop(image.shape[:2], self.crops, self.crop_size)
        tiles = shuffled(image, self.permutations[row].tolist(), self.crops, crop, generator, self.transform, shift)
        return (_tensor(normalised(tiles, self.crops)) if self.normed else tiles), row


@validate_keywords()
def jigsaw(
    img: Any, perm: Sequence[int], s: int | tuple[int, int], trans: Views | None, normed: bool = True, crops: int = 3
) -> Tensor:
    """Shuffle the tiles of an image. Random numbers are drawn from torch's global generator.

    Args:
        img: A PIL image, a tensor C×H×W or an array H×W×C: uint8, uint16, or floats in [0, 1].
        perm: Permutation: tile n, in row-major order, moves to position ``perm[n]``.
        s: Size in px of the random crop of each cell, which is resized to the cell: side of a square, or (height,
            width).
        trans: Transform or callable that is applied to each crop. None: no transform.
        normed: Normalise each channel of each tile to mean 0 and standard deviation 1. False: values in [0, 1].
        crops: Number of tiles per side.

    Returns:
        Shuffled image, float32 (C, crops · ⌊H / crops⌋, crops · ⌊W / crops⌋).

    Raises:
        ConfigurationError: If the tiles are not larger than the crop, or ``perm`` is not a permutation of the tiles.
        DataError: If ``img`` is not an image.

    Examples:
        >>> jigsaw(torch.rand(3, 40, 40), [3, 2, 1, 0], 16, None, crops=2).shape
        torch.Size([3, 40, 40])
    """
    check_argument(JIGSAW_RULES["crops"].is_valid(crops), "crops", crops, JIGSAW_RULES["crops"].expected)
    check_argument(s is not None and is_size(s), "s", s, "a side in px, or (height, width)")
    order = [int(place) for place in perm]
    expected = f"a permutation of the numbers 0 to {crops * crops - 1}"
    check_argument(sorted(order) == list(range(crops * crops)), "perm", order, expected)
    image = to_image(img)
    _, crop = cell_and_crop(image.shape[:2], crops, s)
    tiles = shuffled(image, order, crops, crop, current_generator(), None if trans is None else as_transform(trans))
    return _tensor(normalised(tiles, crops)) if normed else as_float(tiles)


def load_permutations(jigsaw_path: str | os.PathLike[str] | None, crops: int, total_perms: int) -> Table:
    """The table of permutations: from the user's file, or built in.

    Raises:
        ConfigurationError: If there are fewer than ``total_perms`` permutations.
        DataError: If the user's file cannot be read.
    """
    if jigsaw_path is not None:
        return read_table(jigsaw_path, crops, total_perms)
    most = math.factorial(crops * crops)
    expected = f"at most {most}, the number of permutations of {crops * crops} tiles"
    check_argument(total_perms <= most, "total_perms", total_perms, expected, "Or raise `crops` for more tiles.")
    return permutation_table(crops, total_perms)


def jigsaw_preview(image: Tensor, order: Table, predicted: Table | None, normed: bool) -> list[CaptionedImage]:
    """Preview of a shuffled image: shuffled, in the original order, and in the order by the prediction.

    Args:
        image: Shuffled image (C, H, W).
        order: Permutation: tile n is at position ``order[n]``.
        predicted: Permutation that a network predicts. None: no prediction.
        normed: Whether tiles are normalised; they are then mapped to [0, 1] for display.
    """
    if normed:
        reach = max(2.0, float(torch.quantile(image.abs().flatten(), 0.98)))
        image = (0.5 + image / (2 * reach)).clamp(0, 1)
    crops = math.isqrt(len(order))
    places = np.argsort(order) + 1
    gap = " " if crops == 2 else ""
    numbers = " / ".join(gap.join(map(str, row)) for row in places.reshape(crops, crops))
    caption = f"shuffled: tiles\n{numbers}" if crops <= 3 else "shuffled"
    panels = [CaptionedImage(image, caption), CaptionedImage(reorder_tiles(image, order.tolist()), "original order")]
    if predicted is not None:
        correct = int((predicted == order).sum())
        is_correct = correct == len(order)
        result = "correct" if is_correct else f"{correct} of {len(order)} tiles\nin place"
        panels.append(CaptionedImage(reorder_tiles(image, predicted.tolist()), f"predicted: {result}", is_correct))
    return panels


def _tensor(values: npt.NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(values).permute(2, 0, 1)
