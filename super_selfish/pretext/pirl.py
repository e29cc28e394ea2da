"""The two views of PIRL: an image, and its jigsaw-transformed version with shuffled patches."""

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

CROPS = Rule(lambda crops: is_count(crops, 2), "an integer of at least 2", "The paper uses 3, for 3 × 3 patches.")

_JITTER = Rule(is_jitter, "four strengths of at least 0, with a hue of at most 0.5")
_COLOUR_RULES = {"jitter": _JITTER, "photometric": PROBABILITY, "grey": PROBABILITY}
_IMAGE_RULES = {
    "size": Rule(is_size, "None, a side in px, or (height, width)"),
    "scale": Rule(lambda scale: is_range(scale, 1.0), "0 < smallest <= largest <= 1"),
    "ratio": Rule(is_range, "0 < smallest <= largest"),
    "flip": PROBABILITY,
}
_JIGSAW_RULES = {
    "crops": CROPS,
    "share": Rule(lambda share: is_number(share, 0.01, 1.0), "a number in [0.01, 1]", f"The default is {SHARE}."),
}


@dataclass(frozen=True)
class PIRLColours(Transform):
    """Photometric transform of an image or a patch.

    First, brightness, contrast, saturation and hue are jittered in random order. Then, with probability
    ``photometric``, posterization to 4 to 8 bits, sharpness by a factor from 0.1 to 1.9, solarization at a random
    threshold and autocontrast are applied. Last, the image is converted to greyscale with probability ``grey``.

    Args:
        jitter: Strengths of brightness, contrast, saturation and hue, as in :class:`CropColourTransform`.
        photometric: Probability of posterization, sharpness, solarization and autocontrast, all four or none.
        grey: Probability of greyscale.

    Raises:
        ConfigurationError: If a probability or a strength is out of range.
    """

    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.2)
    _: KW_ONLY
    photometric: float = 0.66
    grey: float = 0.2

    def __post_init__(self) -> None:
        check_arguments(_COLOUR_RULES, vars(self))

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """Apply the transform; see the class."""
        if image.shape[2] != 3:
            log_skipped_colour_operations(image.shape[2])
        photometric, grey, bits, factor, threshold, *draws = generator.sixteen()[:10]
        steps = jitter(self.jitter, draws)
        to_grey = ((SATURATION, 0.0),) if grey < self.grey else ()
        if photometric >= self.photometric:
            return adjust(image, (*steps, *to_grey))
        image = posterize(adjust(image, steps), 4 + int(bits * 5))
        image = autocontrast(solarize(sharpness(image, 0.1 + 1.8 * factor), threshold * 256 / 255))
        return adjust(image, to_grey)


@dataclass(frozen=True)
class PIRLImageTransform(Transform):
    """The image view of PIRL: a random resized crop, a random horizontal flip and a photometric transform.

    Args:
        size: Size of the view in px: side of a square, or (height, width). None: the size of the image.
        scale: Smallest and largest area of the crop, relative to the image.
        ratio: Smallest and largest aspect ratio (width / height) of the crop.
        flip: Probability of a horizontal flip.
        colours: Transform or callable that is applied to the crop.

    Raises:
        ConfigurationError: If an argument is out of range.

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
        """Flip, transform and resize a part of an image; the colour transform runs at the smaller size."""
        if part.shape[0] * part.shape[1] > size[0] * size[1]:
            part = functional.resample(part, size)
        if generator.chance(self.flip):
            part = functional.flip(part)
        coloured = as_transform(self.colours).augment(part, generator)
        return functional.resample(alike(coloured, part), size)


@dataclass(frozen=True)
class PIRLTransform(PIRLImageTransform):
    """The transformed view of PIRL: shuffled patches of an image, in one image of the size of the image view.

    A random crop of 60 to 100 % of the image is divided into 3 × 3 cells. A random patch of each cell is flipped at
    random, transformed photometrically and resized to the cell at a random position. All 9! permutations are equally
    likely. If the image size is not a multiple of three, the sizes of cells differ by one pixel.

    Args:
        size: Size of the view in px: side of a square, or (height, width). None: the size of the image.
        scale: Smallest and largest area of the crop, relative to the image.
        ratio: Smallest and largest aspect ratio (width / height) of the crop.
        flip: Probability of a horizontal flip of each patch.
        colours: Transform or callable that is applied to each patch.
        crops: Number of patches per side.
        share: Side of a patch relative to the side of its cell, in [0.01, 1].

    Raises:
        ConfigurationError: If an argument is out of range, or an image is too small for its patches.

    Examples:
        >>> PIRLTransform()(np.zeros((97, 130, 3), np.uint8)).shape
        (97, 130, 3)

    References:
        Misra and van der Maaten, "Self-Supervised Learning of Pretext-Invariant Representations", 2020.
    """

    rules: ClassVar[dict[str, Rule]] = _IMAGE_RULES | _JIGSAW_RULES
    _: KW_ONLY
    scale: tuple[float, float] = (0.6, 1.0)
    crops: int = 3
    share: float = SHARE

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """Shuffled patches; see the class."""
        goal = self.goal(image)
        cell_and_crop(goal, self.crops, None)  # raises if the cells are too small
        top, left, height, width = random_rectangle(generator, image.shape[0], image.shape[1], self.scale, self.ratio)
        crop = image[top : top + height, left : left + width]
        output = np.empty((*goal, image.shape[2]), image.dtype)
        cells, positions = _cells(height, width, self.crops), _cells(*goal, self.crops)
        for tile, position in enumerate(generator.permutation(self.crops**2)):
            target = output[positions[position]]
            target[:] = self.finished(self._patch(crop[cells[tile]], generator), target.shape[:2], generator)
        return output

    def _patch(self, cell: Image, generator: KeyedGenerator) -> Image:
        """A random patch of a cell."""
        height, width = (max(1, round(self.share * side)) for side in cell.shape[:2])
        top, left = generator.integer(cell.shape[0] - height + 1), generator.integer(cell.shape[1] - width + 1)
        return cell[top : top + height, left : left + width]


@lru_cache(maxsize=4096)
def _cells(height: int, width: int, crops: int) -> tuple[tuple[slice, slice], ...]:
    """Slices of the cells of an image in row-major order; sides differ by at most one pixel, and are at least one."""
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
    """A function from a data set of images to one of items (image view, transformed view, index).

    Args:
        views: Transform or callable that returns the image view, or a pair whose second element returns the transformed
            view, instead of shuffled patches. None: :class:`PIRLImageTransform`.
        patch_views: Transform or callable that is applied to each patch. None: :class:`PIRLColours`.
        crops: Number of patches per side.
        size: Size of both views in px: side of a square, or (height, width). None: the size of the images.

    Raises:
        ConfigurationError: If ``views`` is not a transform or a pair, or is a pair beside ``patch_views``.
    """
    image: Transform
    transformed: Transform
    if isinstance(views, Sequence) and not isinstance(views, str):
        is_valid = len(views) == 2 and patch_views is None
        check_argument(is_valid, "views", views, "a transform or callable, or a pair of these without `patch_views`")
        image, transformed = (as_transform(part) for part in views)
    else:
        image = PIRLImageTransform(size) if views is None else as_transform(views)
        transformed = PIRLTransform(size, crops=crops, colours=PIRLColours() if patch_views is None else patch_views)
    return lambda images: AugmentationIndexedDataset(images, image, transformed)


__getattr__ = old_names(__name__)
