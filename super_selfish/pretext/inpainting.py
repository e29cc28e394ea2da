"""Pretext task of the context encoder: inpaint erased blocks of an image."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.errors import COUNT, DataError, Rule, UnreadableImage, check_argument, is_number, validate_arguments
from super_selfish.images import functional
from super_selfish.pretext.base import PretextDataset, Sample
from super_selfish.pretext.rotation import checked_crop, checked_flip
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms.operations import crop_and_flip

_MAX_LOG_RATIO = math.log(3.3)  # log of the largest aspect ratio of a block
_MEAN_COLOUR_IMAGES = 64  # number of images for the mean colour

CONTEXT_RULES = {
    "p": Rule(lambda p: is_number(p, 0, 1), "a number in [0, 1]"),
    "n_blocks": COUNT,
    "scale_range": Rule(
        lambda pair: (
            isinstance(pair, tuple | list)
            and len(pair) == 2
            and all(is_number(area, 1e-6, 1) for area in pair)
            and pair[0] <= pair[1]
        ),
        "(smallest, largest) area of a block, 0 < smallest <= largest <= 1",
    ),
    "fill": Rule(
        lambda fill: (
            fill is None
            or is_number(fill, 0, 1)
            or (isinstance(fill, tuple | list) and bool(fill) and all(is_number(part, 0, 1) for part in fill))
        ),
        "None, or a number in [0, 1], or one for each channel",
    ),
}


class ContextDataset(PretextDataset):
    """Images with erased blocks: item (corrupted C×H×W, clean C×H×W, mask 1×H×W), where the mask is True if erased.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        p: Probability of erasing each of ``n_blocks`` blocks, in [0, 1]; at least one block is erased.
        n_blocks: Maximum number of erased blocks.
        scale_range: Smallest and largest area of a block, relative to the image. Aspect ratios are log-uniform up to
            3.3.
        fill: Value of erased pixels in [0, 1], or one value per channel. None: the mean colour of the data set,
            estimated from at most 64 images.
        crop: Smallest and largest area of a random crop relative to the image; it is resized to the image size. None:
            no crop.
        flip: Probability of a horizontal flip, in [0, 1].

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> corrupted, clean, mask = ContextDataset(np.full((2, 40, 48, 3), 200, np.uint8), fill=0.0)[0]
        >>> bool((corrupted[:, mask[0]] == 0).all()), torch.equal(corrupted[:, ~mask[0]], clean[:, ~mask[0]])
        (True, True)

    References:
        Pathak et al., "Context Encoders: Feature Learning by Inpainting", 2016, section 3.3 (random block).
    """

    @validate_arguments(CONTEXT_RULES)
    def __init__(
        self,
        dataset: object,
        p: float = 0.3,
        n_blocks: int = 10,
        scale_range: tuple[float, float] = (0.05, 0.1),
        *,
        fill: float | Sequence[float] | None = None,
        crop: tuple[float, float] | None = None,
        flip: float = 0.0,
    ) -> None:
        super().__init__(dataset)
        self.crop, self.flip = checked_crop(crop), checked_flip(flip)
        self.p = p
        self.n_blocks = n_blocks
        self.scale_range = scale_range
        self.fill = fill
        if isinstance(fill, tuple | list):
            with contextlib.suppress(UnreadableImage):  # handled by the loader during training
                channels = self.images.header(0).channels
                check_argument(len(fill) == channels, "fill", fill, f"one number per channel ({channels}), or a number")
        self._colour = self._mean_colour() if fill is None else np.asarray(fill, np.float64)

    def _mean_colour(self) -> npt.NDArray[np.float64]:
        means = []
        for index in evenly_spaced(len(self.images), _MEAN_COLOUR_IMAGES):
            try:
                image = self.images.read(index)
            except DataError:
                continue  # handled by the loader during training
            means.append(image.mean(axis=(0, 1), dtype=np.float64) / functional.peak(image))
        return np.mean(means, axis=0) if means else np.asarray(0.5)

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The corrupted image, the clean image and the mask of erased pixels."""
        clean = np.ascontiguousarray(crop_and_flip(self.images.read(index), generator, self.crop, self.flip))
        colour = self._colour * functional.peak(clean)
        mask, corrupted = np.zeros(clean.shape[:2], np.bool_), clean.copy()
        for block in self._blocks(generator, *clean.shape[:2]):
            mask[block] = True
            corrupted[block] = np.rint(colour) if clean.dtype.kind == "u" else colour
        return corrupted, clean, torch.from_numpy(mask)[None]

    def _blocks(self, generator: KeyedGenerator, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        drawn = generator.uniforms(self.n_blocks, 5)
        erased = drawn[:, 0] < self.p
        erased[0] |= not erased.any()
        smallest, largest = self.scale_range
        for _, area, shape, top, left in drawn[erased]:
            side = math.sqrt((smallest + (largest - smallest) * area) * height * width)
            ratio = math.exp((2 * shape - 1) * _MAX_LOG_RATIO / 2)
            down = min(height, max(1, round(side * ratio)))
            across = min(width, max(1, round(side / ratio)))
            y, x = int(top * (height - down + 1)), int(left * (width - across + 1))
            yield slice(y, y + down), slice(x, x + across)
