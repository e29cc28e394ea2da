"""Recipes: what a view is made of. Parameters are drawn from a key, then applied to the pixels.

A recipe is made once and called often. The training loader gives it an H×W×C array and a stream keyed by (seed, epoch,
index), and nothing but the view is built. Called by hand it takes a PIL image, a tensor or an array, returns the same
kind, and draws from torch's global generator.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from super_selfish.errors import check_argument, is_count, is_number
from super_selfish.images import functional
from super_selfish.images.arrays import check_white, to_image
from super_selfish.images.functional import Image
from super_selfish.images.rectangles import random_rectangle, rectangle_of
from super_selfish.seeding import Stream, stream_from_torch
from super_selfish.transforms import operations
from super_selfish.transforms.colour import SATURATION, adjust, is_jitter, jitter

_told: set[int] = set()

AnyImage = TypeVar("AnyImage", Pillow.Image, Tensor, Image)

logger = logging.getLogger("super_selfish")


class Recipe(ABC):
    """Makes random views of images; a subclass implements :meth:`augment`."""

    foreign = False
    """Whether a user's code is called, which may draw from global generators."""

    @abstractmethod
    def augment(self, image: Image, stream: Stream) -> Image:
        """A random view of an image, H×W×C; a function of the image and the stream's key.

        Args:
            image: H×W×C of uint8, uint16 or float32; it is not changed.
            stream: The only source of randomness.
        """

    def plan(self, height: int, width: int, stream: Stream) -> Any:  # noqa: ARG002 - for those who need them
        """What is random about a view of an image of ``height`` × ``width`` px: what :meth:`make_all` needs."""
        return Stream(stream.bits())

    def make_all(self, images: Sequence[Image], plans: Sequence[Any]) -> list[Image]:
        """The views of images that were planned."""
        return [self.augment(image, plan) for image, plan in zip(images, plans, strict=True)]

    def __call__(self, image: AnyImage) -> AnyImage:
        """A random view, drawn from torch's global generator.

        Args:
            image: A PIL image, a tensor C×H×W or an array H×W×C: uint8, uint16, or floats in [0, 1].

        Returns:
            The view, of the same kind and type of numbers; of a PIL image with a palette or alpha, in RGB.

        Raises:
            DataError: If it is no image, or of other numbers.
        """
        given = to_image(image)
        check_white(image, given)
        view = np.ascontiguousarray(self.augment(given, stream_from_torch()))
        if isinstance(image, Pillow.Image):
            return Pillow.fromarray(view[:, :, 0] if view.shape[2] == 1 else view)
        if isinstance(image, Tensor):
            moved = torch.from_numpy(view).movedim(-1, 0).contiguous().to(image.device)
            return moved.to(image.dtype) if image.is_floating_point() else moved
        return view.astype(image.dtype, copy=False) if image.dtype.kind == "f" else view


class Drawn(NamedTuple):
    """The parameters of one view.

    Attributes:
        rectangle: Top, left, height and width of the crop in px.
        steps: Of colour, in their order; see :func:`super_selfish.transforms.colour.adjust`.
        mirrored: Whether left and right are exchanged.
        sigma: Of the blur in px of the view; 0 for none.
        solarized: Whether values of at least one half are inverted.
        upside_down: Whether above and below are exchanged.
    """

    rectangle: tuple[int, int, int, int]
    steps: tuple[tuple[int, float], ...]
    mirrored: bool
    sigma: float
    solarized: bool
    upside_down: bool = False


@dataclass(frozen=True)
class CropColourRecipe(Recipe):
    """Random resized crop, mirroring, colour jitter, grey, blur and solarization: the views of most contrastive papers.

    Args:
        size: Side of the view in px, or (height, width); None: as large as the image.
        scale: Smallest and largest area of the crop, relative to the image.
        ratio: Smallest and largest width/height of the crop; drawn uniformly on a logarithmic scale.
        cubic: Resample bicubically instead of bilinearly.
        flip: Probability of mirroring.
        jitter: Strength of brightness, contrast, saturation (factors from 1-s to 1+s, not below 0) and hue (turns
            from -s to s), applied in random order.
        jitter_p: Probability of the jitter.
        grey: Probability of greyscale.
        blur: Probability of a Gaussian blur.
        sigma: Smallest and largest standard deviation of the blur, in px of the view; drawn in hundredths.
        solarize: Probability of inverting values of at least one half.
        upside_down: Probability of mirroring above and below, for images without an upright.

    Raises:
        ConfigurationError: If a probability or a range makes no sense.
    """

    optional = False  # whether blur and solarize may be None
    size: int | tuple[int, int] | None = None
    _: KW_ONLY
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    cubic: bool = False
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_p: float = 0.8
    grey: float = 0.2
    blur: float | None = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float | None = 0.0
    upside_down: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "jitter_p", "grey", "blur", "solarize", "upside_down"):
            chance = getattr(self, name)
            _check(self, name, is_number(chance, 0, 1) or (chance is None and self.optional), "a number in [0, 1]")
        _check(self, "scale", is_range(self.scale, 1.0), "0 < smallest <= largest <= 1")
        _check(self, "ratio", is_range(self.ratio), "0 < smallest <= largest")
        _check(self, "sigma", is_range(self.sigma), "0 < smallest <= largest")
        _check(self, "jitter", is_jitter(self.jitter), "four strengths of at least 0, that of the hue at most 0.5")
        _check(self, "size", is_size(self.size), "None, a side in px, or (height, width)")

    def draw(self, stream: Stream, height: int, width: int) -> Drawn:
        """The parameters of a view of an image of ``height`` × ``width`` px."""
        *place, jittered, order, b, c, s, h, grey, flip, blur, sigma, solarize, upside = stream.sixteen()
        rectangle = rectangle_of(place, height, width, self.scale, self.ratio)
        if rectangle is None:
            rectangle = random_rectangle(stream, height, width, self.scale, self.ratio)
        steps: tuple[tuple[int, float], ...] = ()
        if jittered < self.jitter_p:
            steps = jitter(self.jitter, (order, b, c, s, h))
        if grey < self.grey:
            steps = (*steps, (SATURATION, 0.0))
        weak, strong = self.sigma
        often_blurred, often_solarized = self.chances()
        blurred = round(weak + (strong - weak) * sigma, 2) if blur < often_blurred else 0.0  # few kernels, made once
        solarized, turned = solarize < often_solarized, upside < self.upside_down
        return Drawn(rectangle, steps, flip < self.flip, blurred, solarized, turned)

    def chances(self) -> tuple[float, float]:
        """Probabilities of blur and solarization."""
        return self.blur or 0.0, self.solarize or 0.0

    def apply(self, image: Image, drawn: Drawn) -> Image:
        """The view of an image with given parameters."""
        return self.make_all([image], [drawn])[0]

    def make_all(self, images: Sequence[Image], plans: Sequence[Drawn]) -> list[Image]:
        """Views of several images, one kind of work after the other: a fifth less time for small images."""
        sizes = [self._side_lengths(image) for image in images]
        views = [_cut(image, drawn) for image, drawn in zip(images, plans, strict=True)]
        early = [view.shape[0] * view.shape[1] < size[0] * size[1] for view, size in zip(views, sizes, strict=True)]
        # views are mirrored and colours changed where there are fewer pixels
        views = [_changed(view, drawn) if now else view for view, drawn, now in zip(views, plans, early, strict=True)]
        views = [functional.resample(view, size, self.cubic) for view, size in zip(views, sizes, strict=True)]
        views = [view if past else _changed(view, drawn) for view, drawn, past in zip(views, plans, early, strict=True)]
        views = [functional.blur(view, d.sigma) if d.sigma else view for view, d in zip(views, plans, strict=True)]
        return [operations.solarize(view, 0.5) if d.solarized else view for view, d in zip(views, plans, strict=True)]

    def _side_lengths(self, image: Image) -> tuple[int, ...]:
        if image.shape[2] != 3:
            tell_left_out(image.shape[2])
        return (self.size, self.size) if isinstance(self.size, int) else self.size or image.shape[:2]

    def plan(self, height: int, width: int, stream: Stream) -> Drawn:
        """The parameters of a view."""
        return self.draw(stream, height, width)

    def augment(self, image: Image, stream: Stream) -> Image:
        """A random view; see the class."""
        return self.apply(image, self.draw(stream, *image.shape[:2]))


@dataclass(frozen=True)
class MoCoRecipe(CropColourRecipe):
    """The views of MoCo v2: crops of a fifth to all of the image, strong jitter, grey, blur.

    Examples:
        >>> MoCoRecipe(size=32)(torch.rand(3, 48, 64)).shape
        torch.Size([3, 32, 32])

    References:
        Chen, Fan, Girshick and He, "Improved Baselines with Momentum Contrastive Learning", 2020.
    """


@dataclass(frozen=True)
class BYOLRecipe(CropColourRecipe):
    """The views of BYOL, which differ: the first is always blurred, the second seldom, but sometimes solarized.

    Args:
        size: Side of the view in px, or (height, width); None: as large as the image.
        view: 1 or 2. Sets ``blur`` to 1.0 or 0.1 and ``solarize`` to 0.0 or 0.2, unless they are given.

    The other arguments are those of :class:`CropColourRecipe`. Crops are resampled bilinearly; ``cubic=True``
    is as in the paper, and a fifth slower.

    Raises:
        ConfigurationError: If an argument makes no sense.

    References:
        Grill et al., "Bootstrap Your Own Latent", 2020, appendix B.
    """

    optional = True
    view: int = 1
    _: KW_ONLY
    scale: tuple[float, float] = (0.08, 1.0)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    blur: float | None = None
    solarize: float | None = None

    def __post_init__(self) -> None:
        _check(self, "view", self.view in (1, 2), "1 or 2")
        super().__post_init__()

    def chances(self) -> tuple[float, float]:
        """Probabilities of blur and solarization: as given, or those of the view."""
        blur, solarize = ((1.0, 0.0), (0.1, 0.2))[self.view - 1]
        return blur if self.blur is None else self.blur, solarize if self.solarize is None else self.solarize


def is_size(value: object) -> bool:
    """Whether a value is None, a side in px, or (height, width)."""
    sides = value if isinstance(value, tuple | list) and len(value) == 2 else (value,)
    return value is None or all(is_count(side, 1) for side in sides)


def _cut(image: Image, drawn: Drawn) -> Image:
    """What a view shows of an image."""
    top, left, height, width = drawn.rectangle
    return image[top : top + height, left : left + width]


def _changed(part: Image, drawn: Drawn) -> Image:
    """A view mirrored, or not, and in other colours."""
    part = functional.flip(part) if drawn.mirrored else part
    return adjust(part[::-1] if drawn.upside_down else part, drawn.steps)


def _is_row(value: Any, length: int) -> bool:
    return isinstance(value, tuple | list) and len(value) == length and all(is_number(x, 0, math.inf) for x in value)


def is_range(value: Any, largest: float = math.inf) -> bool:
    """Whether a value is a pair of numbers with 0 < smallest <= largest."""
    return _is_row(value, 2) and 0 < value[0] <= value[1] <= largest


def _check(recipe: Any, name: str, sound: bool, expected: str) -> None:
    check_argument(sound, name, getattr(recipe, name), expected)


def tell_left_out(channels: int) -> None:
    """Say once, for a number of channels other than three, what is left out."""
    if channels not in _told:
        _told.add(channels)
        logger.info("Images have %d channels: saturation, hue and grey, which need RGB, are left out.", channels)


MomentumContrastAugmentations = MoCoRecipe()
BYOLAugmentations = BYOLRecipe()
