"""Random crop, flip, colour jitter, grey scale and blur: what most contrastive transforms are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

from super_selfish.errors import is_number
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.rectangles import random_rectangle, rectangle_of
from super_selfish.renamed import old_names
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms import operations
from super_selfish.transforms.base import Transform, _check, is_range, is_size, log_skipped_colour_operations
from super_selfish.transforms.colour import SATURATION, adjust, is_jitter, jitter


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
class CropColourTransform(Transform):
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

    def draw(self, generator: KeyedGenerator, height: int, width: int) -> Drawn:
        """The parameters of a view of an image of ``height`` × ``width`` px."""
        *place, jittered, order, b, c, s, h, grey, flip, blur, sigma, solarize, upside = generator.sixteen()
        rectangle = rectangle_of(place, height, width, self.scale, self.ratio)
        if rectangle is None:
            rectangle = random_rectangle(generator, height, width, self.scale, self.ratio)
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
            log_skipped_colour_operations(image.shape[2])
        return (self.size, self.size) if isinstance(self.size, int) else self.size or image.shape[:2]

    def plan(self, height: int, width: int, generator: KeyedGenerator) -> Drawn:
        """The parameters of a view."""
        return self.draw(generator, height, width)

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """A random view; see the class."""
        return self.apply(image, self.draw(generator, *image.shape[:2]))


def _cut(image: Image, drawn: Drawn) -> Image:
    """What a view shows of an image."""
    top, left, height, width = drawn.rectangle
    return image[top : top + height, left : left + width]


def _changed(part: Image, drawn: Drawn) -> Image:
    """A view mirrored, or not, and in other colours."""
    part = functional.flip(part) if drawn.mirrored else part
    return adjust(part[::-1] if drawn.upside_down else part, drawn.steps)


__getattr__ = old_names(__name__)
