"""The two views of PIRL: an image, and a puzzle of nine patches pasted back into one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from super_selfish.errors import PROBABILITY, Rule, check_argument, check_arguments, is_count, is_number
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.rectangles import random_rectangle
from super_selfish.pretext.tiles import SHARE, alike, cell_and_crop
from super_selfish.pretext.views import AugmentationIndexedDataset, Views, as_transform
from super_selfish.renamed import old_names
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms.base import Transform, is_range, is_size, log_skipped_colour_operations
from super_selfish.transforms.colour import SATURATION, adjust, is_jitter, jitter
from super_selfish.transforms.operations import autocontrast, posterize, sharpness, solarize

CROPS = Rule(lambda crops: is_count(crops, 2), "an integer of at least 2", "3 makes 3 × 3 patches, as the paper has.")

_JITTER = Rule(is_jitter, "four strengths of at least 0, that of the hue at most 0.5")
_COLOUR_RULES = {"jitter": _JITTER, "photometric": PROBABILITY, "grey": PROBABILITY}
_IMAGE_RULES = {
    "size": Rule(is_size, "None, a side in px, or (height, width)"),
    "scale": Rule(lambda scale: is_range(scale, 1.0), "0 < smallest <= largest <= 1"),
    "ratio": Rule(is_range, "0 < smallest <= largest"),
    "flip": PROBABILITY,
}
_PUZZLE_RULES = {
    "crops": CROPS,
    "share": Rule(lambda share: is_number(share, 0.01, 1.0), "a number in [0.01, 1]", f"None other than {SHARE}?"),
}


@dataclass(frozen=True)
class PIRLColours(Transform):
    """The colours of an image or of a patch; every pixel stays in its place.

    Brightness, contrast, saturation and hue in random order; then posterization to 4 to 8 bits, sharpness by a factor
    from 0.1 to 1.9, inversion of what is brighter than a threshold anywhere from black to white, and the widest
    contrast, all four or none; then grey or not.

    Args:
        jitter: Strength of brightness, contrast, saturation and hue, as in :class:`CropColourTransform`.
        photometric: Probability of the four in the middle.
        grey: Probability of greyscale.

    Raises:
        ConfigurationError: If a probability or a strength makes no sense.
    """

    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.2)
    _: KW_ONLY
    photometric: float = 0.66
    grey: float = 0.2

    def __post_init__(self) -> None:
        check_arguments(_COLOUR_RULES, vars(self))

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """The image in other colours."""
        if image.shape[2] != 3:
            log_skipped_colour_operations(image.shape[2])
        photometric, grey, bits, factor, threshold, *draws = generator.sixteen()[:10]
        steps = jitter(self.jitter, draws)
        to_grey = ((SATURATION, 0.0),) if grey < self.grey else ()
        if photometric >= self.photometric:
            return adjust(image, (*steps, *to_grey))
        made = posterize(adjust(image, steps), 4 + int(bits * 5))
        made = autocontrast(solarize(sharpness(made, 0.1 + 1.8 * factor), threshold * 256 / 255))
        return adjust(made, to_grey)


@dataclass(frozen=True)
class PIRLImageTransform(Transform):
    """The image view of PIRL: a crop of 8 to 100 % of the image, mirrored or not, in other colours.

    Args:
        size: Side of the view in px, or (height, width); None: as large as the image.
        scale: Smallest and largest area of the crop, relative to the image.
        ratio: Smallest and largest width/height of the crop.
        flip: Probability of mirroring.
        colours: A recipe or another callable that changes the crop.

    Raises:
        ConfigurationError: If an argument makes no sense.

    References:
        Misra and van der Maaten, "Self-Supervised Learning of Pretext-Invariant Representations", 2020.
    """

    rules: ClassVar[dict[str, Rule]] = _IMAGE_RULES
    size: int | tuple[int, int] | None = None
    _: KW_ONLY
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    colours: Views = PIRLColours()

    def __post_init__(self) -> None:
        check_arguments(self.rules, vars(self))
        object.__setattr__(self, "colours", as_transform(self.colours))
        object.__setattr__(self, "runs_user_code", as_transform(self.colours).runs_user_code)

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """A random view; see the class."""
        top, left, height, width = random_rectangle(generator, image.shape[0], image.shape[1], self.scale, self.ratio)
        return self.finished(image[top : top + height, left : left + width], self.goal(image), generator)

    def goal(self, image: Image) -> tuple[int, int]:
        """Height and width of the view of an image."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size or (image.shape[0], image.shape[1])

    def finished(self, part: Image, size: tuple[int, ...], generator: KeyedGenerator) -> Image:
        """A part of an image, mirrored or not, in other colours and of a size; colours change where it is smallest."""
        if part.shape[0] * part.shape[1] > size[0] * size[1]:
            part = functional.resample(part, size)
        if generator.chance(self.flip):
            part = functional.flip(part)
        coloured = as_transform(self.colours).augment(part, generator)
        return functional.resample(alike(coloured, part), size)


@dataclass(frozen=True)
class PIRLTransform(PIRLImageTransform):
    """The transformed view of PIRL: patches of the image, pasted into one image of the same size in another order.

    A crop of 60 to 100 % of the image is cut into 3 × 3 cells. Of each cell a smaller part, at random, mirrored or not
    and in colours of its own, is enlarged to the cell of a random place. All 9! orders are equally likely. Where a side
    of the image is no multiple of three, cells differ by a pixel, so that the puzzle is as large as the image view.

    Args:
        size: Side of the puzzle in px, or (height, width); None: as large as the image.
        scale: Smallest and largest area of the crop, relative to the image.
        ratio: Smallest and largest width/height of the crop.
        flip: Probability of mirroring a patch.
        colours: A recipe or another callable that changes each patch.
        crops: Patches along a side.
        share: Of a cell's sides: what is taken of it.

    Raises:
        ConfigurationError: If an argument makes no sense, or an image is too small for its patches.

    Examples:
        >>> PIRLTransform()(np.zeros((97, 130, 3), np.uint8)).shape
        (97, 130, 3)

    References:
        Misra and van der Maaten, "Self-Supervised Learning of Pretext-Invariant Representations", 2020.
    """

    rules: ClassVar[dict[str, Rule]] = _IMAGE_RULES | _PUZZLE_RULES
    _: KW_ONLY
    scale: tuple[float, float] = (0.6, 1.0)
    crops: int = 3
    share: float = SHARE

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """A random puzzle; see the class."""
        goal = self.goal(image)
        cell_and_crop(goal, self.crops, None)  # complains of cells that are too small
        top, left, height, width = random_rectangle(generator, image.shape[0], image.shape[1], self.scale, self.ratio)
        crop = image[top : top + height, left : left + width]
        laid = np.empty((*goal, image.shape[2]), image.dtype)
        cells, places = _cells(height, width, self.crops), _cells(*goal, self.crops)
        for tile, place in enumerate(generator.permutation(self.crops**2)):
            there = laid[places[place]]
            there[:] = self.finished(self._patch(crop[cells[tile]], generator), there.shape[:2], generator)
        return laid

    def _patch(self, cell: Image, generator: KeyedGenerator) -> Image:
        """What is taken of a cell."""
        height, width = (max(1, round(self.share * side)) for side in cell.shape[:2])
        top, left = generator.integer(cell.shape[0] - height + 1), generator.integer(cell.shape[1] - width + 1)
        return cell[top : top + height, left : left + width]


@lru_cache(maxsize=4096)
def _cells(height: int, width: int, crops: int) -> tuple[tuple[slice, slice], ...]:
    """Rows and columns of the cells of an image, row by row; they differ by a pixel at most, and are none too small."""
    rows, columns = (
        [slice(n * side // crops, max(n * side // crops + 1, (n + 1) * side // crops)) for n in range(crops)]
        for side in (height, width)
    )
    return tuple((row, column) for row in rows for column in columns)


PIRLAugmentations = PIRLTransform()


def image_and_jigsaw(
    views: Views | Sequence[Views] | None = None,
    patch_views: Views | None = None,
    crops: int = 3,
    size: int | tuple[int, int] | None = None,
) -> Callable[[object], AugmentationIndexedDataset]:
    """What makes a data set of items (image view, puzzle, index) of a data set of images.

    Args:
        views: A recipe or callable that makes the image view, or a pair, whose second makes the transformed view in
            place of a puzzle; None: :class:`PIRLImageTransform`.
        patch_views: Changes each patch of the puzzle; None: :class:`PIRLColours`.
        crops: Patches along a side.
        size: Side of both views in px, or (height, width); None: as large as the images.

    Raises:
        ConfigurationError: If these make no two views.
    """
    image: Transform
    puzzle: Transform
    if isinstance(views, Sequence) and not isinstance(views, str):
        is_valid = len(views) == 2 and patch_views is None
        check_argument(is_valid, "views", views, "a recipe or callable, or a pair of them and no `patch_views`")
        image, puzzle = (as_transform(part) for part in views)
    else:
        image = PIRLImageTransform(size) if views is None else as_transform(views)
        puzzle = PIRLTransform(size, crops=crops, colours=PIRLColours() if patch_views is None else patch_views)
    return lambda images: AugmentationIndexedDataset(images, image, puzzle)


__getattr__ = old_names(__name__)
