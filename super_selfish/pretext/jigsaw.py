"""The jigsaw's exercise: in which order were the tiles of the image laid?"""

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

_TILE_COLOURS = JigsawTransform(grey=0.0)  # grey is for whole images

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
    """Images cut into tiles that are laid in another order: item (puzzle C×H'×W', row of the order in the table).

    Tile n, counted row by row, goes to place ``permutations[row, n]``. A tile is a cell of ⌊H / crops⌋ × ⌊W / crops⌋
    px; what does not fill a cell is left out, so the puzzle is as large as all cells together. Nothing but what is in
    the tiles may tell their order:

    - of each cell a smaller crop, at random, is enlarged to the cell, so that edges do not continue;
    - each channel of each tile is normalised to mean 0 and standard deviation 1, so that brightness does not;
    - lenses shift the colours of a picture against each other, the more the farther from its middle. So some images
      are turned grey, of some the green-magenta component is removed, in the others the channels of each tile are
      shifted against each other;
    - colours are jittered, each tile by itself.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        transformations: Called on each tile: a recipe, or a callable as described at
            :class:`~super_selfish.pretext.views.CustomTransform`. None: the jitter of :class:`JigsawTransform`.
        jigsaw_path: A ``.npy`` file of permutations, one a row; None: those of
            :func:`~super_selfish.pretext.permutations.permutation_table`.
        n_perms_per_image: Rows of the table that each image is laid by, always the same ones; all if there are no
            more.
        total_perms: Rows of the table that are used: the number of classes.
        crops: Tiles along a side.
        crop_size: Side of the crops in px, or (height, width), less than that of a cell; None: 0.85 of it.
        chroma_jitter: Largest shift between the channels of a tile in px; at most half of what a crop can move is used.
        chroma_project: Share of the images in colour whose green-magenta component is removed.
        grey: Share of images that are turned grey.
        normed: Normalise each tile: puzzles are then float32 tensors. If not, they are images like any other.

    Where there are not three channels, what needs RGB is left out.

    Raises:
        ConfigurationError: If an argument is out of range, or tiles leave no room for it.
        DataError: If the table cannot be used.

    Examples:
        >>> puzzle, row = JigsawDataset(np.zeros((2, 65, 100, 3), np.uint8))[0]
        >>> puzzle.shape, 0 <= row < 24
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
        """Whether reading an image runs a user's code, which may draw from global generators."""
        return self.transform.runs_user_code or super().runs_user_code

    def rows(self, index: int) -> npt.NDArray[np.int64]:
        """The rows of the table that image ``index`` is laid by."""
        total = len(self.permutations)
        if self.n_perms_per_image >= total:
            return np.arange(total)
        keys = splitmix64(make_key("permutations", index), total)
        return np.sort(keys.argsort()[: self.n_perms_per_image])

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The puzzle, a tensor if its tiles are normalised, and the row of its order in the table."""
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
        laid = shuffled(image, self.permutations[row].tolist(), self.crops, crop, generator, self.transform, shift)
        return (_tensor(normalised(laid, self.crops)) if self.normed else laid), row


@validate_keywords()
def jigsaw(
    img: Any, perm: Sequence[int], s: int | tuple[int, int], trans: Views | None, normed: bool = True, crops: int = 3
) -> Tensor:
    """A puzzle of one image.

    Args:
        img: A PIL image, a tensor C×H×W or an array H×W×C: uint8, uint16, or floats in [0, 1].
        perm: Tile n, counted row by row, goes to place ``perm[n]``.
        s: Side in px, or (height, width), of the random crop that is taken of each cell and enlarged to it.
        trans: Called on each crop: a recipe or another callable; None: nothing is.
        normed: Normalise each channel of each tile to mean 0 and standard deviation 1; else values are in [0, 1].
        crops: Tiles along a side.

    Returns:
        Float32 (C, crops · ⌊H / crops⌋, crops · ⌊W / crops⌋). What is random is drawn from torch's global generator.

    Raises:
        ConfigurationError: If the tiles leave no room for the crop, or ``perm`` is no order of them.
        DataError: If it is no image.

    Examples:
        >>> jigsaw(torch.rand(3, 40, 40), [3, 2, 1, 0], 16, None, crops=2).shape
        torch.Size([3, 40, 40])
    """
    check_argument(JIGSAW_RULES["crops"].is_valid(crops), "crops", crops, JIGSAW_RULES["crops"].expected)
    check_argument(s is not None and is_size(s), "s", s, "a side in px, or (height, width)")
    order = [int(place) for place in perm]
    expected = f"the numbers 0 to {crops * crops - 1} in some order"
    check_argument(sorted(order) == list(range(crops * crops)), "perm", order, expected)
    image = to_image(img)
    _, crop = cell_and_crop(image.shape[:2], crops, s)
    laid = shuffled(image, order, crops, crop, current_generator(), None if trans is None else as_transform(trans))
    return _tensor(normalised(laid, crops)) if normed else as_float(laid)


def load_permutations(jigsaw_path: str | os.PathLike[str] | None, crops: int, total_perms: int) -> Table:
    """The permutations of a puzzle: a user's, or ours.

    Raises:
        ConfigurationError: If there are not as many.
        DataError: If the user's table cannot be used.
    """
    if jigsaw_path is not None:
        return read_table(jigsaw_path, crops, total_perms)
    most = math.factorial(crops * crops)
    expected = f"at most {most}, the orders of {crops * crops} tiles"
    check_argument(total_perms <= most, "total_perms", total_perms, expected, "Or cut more tiles: raise `crops`.")
    return permutation_table(crops, total_perms)


def jigsaw_preview(puzzle: Tensor, order: Table, answer: Table | None, normed: bool) -> list[CaptionedImage]:
    """A puzzle to be looked at: as it is, laid right, and as the answer lays it.

    Args:
        puzzle: (C, H, W).
        order: Tile n lies at place ``order[n]``.
        answer: What a network takes the order to be; None: it was not asked.
        normed: Whether tiles are normalised, so that they have to be brought back to what a screen shows.
    """
    if normed:
        reach = max(2.0, float(torch.quantile(puzzle.abs().flatten(), 0.98)))
        puzzle = (0.5 + puzzle / (2 * reach)).clamp(0, 1)
    crops = math.isqrt(len(order))
    places = np.argsort(order) + 1
    gap = " " if crops == 2 else ""
    told = " / ".join(gap.join(map(str, row)) for row in places.reshape(crops, crops))
    caption = f"puzzle: tiles\n{told}" if crops <= 3 else "puzzle"
    panels = [CaptionedImage(puzzle, caption), CaptionedImage(reorder_tiles(puzzle, order.tolist()), "laid right")]
    if answer is not None:
        right = int((answer == order).sum())
        words = "right" if right == len(order) else f"{right} of {len(order)} tiles\nin place"
        panels.append(CaptionedImage(reorder_tiles(puzzle, answer.tolist()), f"answer: {words}", right == len(order)))
    return panels


def _tensor(values: npt.NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(values).permute(2, 0, 1)
