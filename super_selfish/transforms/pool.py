"""Operations of random magnitude, by name: what recipes are put together from.

Each is a pure function of an image and its magnitudes, and a distribution that the magnitudes are drawn from; called
with an image and a stream it does both. Images are H×W×C of uint8, uint16 or float32 with any number of channels, and
keep shape, type and range. What needs RGB leaves other images as they are.

=================  ============================================================================
shear_x, shear_y   by a factor in ±0.3, about the centre
translate_x, _y    by up to 0.3 of the width, or of the height
translate          by up to 0.2 of both
rotate             by up to 30° either way
scale              by a factor from 0.7 to 1.4
elastic            nine points moved by σ = 0.045 of the short side each, with a shear in ±0.3
autocontrast       the darkest value of each channel becomes black, the brightest white
equalize           all values of a channel about equally frequent
contrast           by a factor from 0.1 to 1.9, about the mean grey
principal_contrast by factors from 0.5 to 2 along the three principal directions of colour; RGB
brightness         by a factor from 0.1 to 1.9
gamma              to a power from 0.7 to 1.4, another one for each channel
colour             saturation by a factor from 0.1 to 1.9; RGB
saturation_value   both to a power from 0.25 to 4, times 0.7 to 1.4, plus -0.1 to 0.1; RGB
grey               no colour; RGB
hue                by up to a tenth of the colour circle either way; RGB
sharpness          from a factor of 0.1, smoothed, to 1.9, sharpened
cutout             a grey square of up to 0.2 of the short side
invert             white for black
solarize           inverted from a threshold on, anywhere from black to white
posterize          the highest 4 to 8 bits are kept
=================  ============================================================================

References:
    Cubuk et al., "AutoAugment: Learning Augmentation Policies from Data", 2019; Hénaff et al., "Data-Efficient Image
    Recognition with Contrastive Predictive Coding", 2020, appendix A.2; Dosovitskiy et al., "Discriminative
    Unsupervised Feature Learning with Exemplar Convolutional Neural Networks", 2014, section 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms import colour, operations, warps

Magnitudes = dict[str, Any]
"""Arguments of an operation by name."""


class Operation(NamedTuple):
    """An operation whose magnitudes are drawn when it is called with an image and a stream.

    Attributes:
        kind: What it changes; two of one kind in a row would undo or double each other.
        apply: The operation, called with an image and magnitudes by name.
        draw: Draws the magnitudes for an image of a shape (H, W, C).
        rgb: Whether it needs RGB.

    Examples:
        >>> POOL["invert"](np.zeros((1, 1, 3), np.uint8), KeyedGenerator(0)).ravel().tolist()
        [255, 255, 255]
    """

    kind: str
    apply: Callable[..., Image]
    draw: Callable[[KeyedGenerator, tuple[int, ...]], Magnitudes]
    rgb: bool = False

    def suits(self, image: Image) -> bool:
        """Whether the operation is one for an image of that many channels."""
        return not self.rgb or image.shape[2] == 3

    def __call__(self, image: Image, generator: KeyedGenerator) -> Image:
        """The image, changed; as it is if the operation needs RGB and the image is none."""
        return self.apply(image, **self.draw(generator, image.shape)) if self.suits(image) else image


def nothing(generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:  # noqa: ARG001 - the protocol's
    """The magnitudes of an operation that has none."""
    return {}


@dataclass(frozen=True)
class Uniform:
    """One number.

    Args:
        name: Of the argument.
        low: The least.
        high: The greatest.
        log: Draw the logarithm uniformly, so that half and double are equally frequent.
    """

    name: str
    low: float
    high: float
    log: bool = False

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:  # noqa: ARG002 - the protocol's
        """The magnitude for an image of a shape."""
        return {self.name: between(generator, self.low, self.high, self.log)}


@dataclass(frozen=True)
class Uniforms:
    """A number for each channel, or ``count`` numbers; otherwise as :class:`Uniform`."""

    name: str
    low: float
    high: float
    log: bool = False
    count: int | None = None

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:
        """The magnitudes for an image of a shape."""
        count = shape[2] if self.count is None else self.count
        return {self.name: [between(generator, self.low, self.high, self.log) for _ in range(count)]}


@dataclass(frozen=True)
class Offset:
    """A pair of numbers, right and down, each in ± its limit.

    Args:
        name: Of the argument.
        across: Limit of the first.
        down: Limit of the second.
        of_side: Whether they are parts of the image's width and height, which are told in whole px.
    """

    name: str
    across: float
    down: float
    of_side: bool = False

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:
        """The magnitudes for an image of a shape."""
        if not self.of_side:
            return {self.name: (generator.uniform(-self.across, self.across), generator.uniform(-self.down, self.down))}
        across, down = self.across * shape[1], self.down * shape[0]
        return {self.name: (round(generator.uniform(-across, across)), round(generator.uniform(-down, down)))}


@dataclass(frozen=True)
class Deformation:
    """Displacements of the nine points of :func:`warps.elastic`, and a shear.

    Args:
        sigma: Standard deviation of the displacements, relative to the short side.
        shear: Limit of both shears.
    """

    sigma: float = 0.045
    shear: float = 0.3

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:
        """The magnitudes for an image of a shape."""
        radii, angles = generator.sixteen(), generator.sixteen()
        scale, moves = self.sigma * min(shape[:2]), []
        for radius, angle in zip(radii[:9], angles[:9], strict=True):  # two normal numbers each: Box and Muller
            length, turn = scale * math.sqrt(-2.0 * math.log1p(-radius)), 2.0 * math.pi * angle
            moves += [length * math.cos(turn), length * math.sin(turn)]
        shear = (self.shear * (2.0 * radii[9] - 1.0), self.shear * (2.0 * angles[9] - 1.0))
        return {"displacement": np.array(moves).reshape(2, 3, 3), "shear": shear}


@dataclass(frozen=True)
class Curves:
    """A power, a factor and an offset for saturation, and others for value: x becomes gain · x^power + offset."""

    power: tuple[float, float] = (0.25, 4.0)
    gain: tuple[float, float] = (0.7, 1.4)
    offset: tuple[float, float] = (-0.1, 0.1)

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:  # noqa: ARG002 - the protocol's
        """The magnitudes for an image of a shape."""
        return {
            name: (
                between(generator, *self.power, log=True),
                between(generator, *self.gain, log=True),
                generator.uniform(*self.offset),
            )
            for name in ("saturation", "value")
        }


@dataclass(frozen=True)
class Square:
    """A square of whole pixels, at least one, of up to ``side`` of the short side, anywhere within the image."""

    side: float = 0.2

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:
        """The magnitudes for an image of a shape."""
        height, width = shape[:2]
        side = max(1, round(min(height, width) * generator.uniform(0.0, self.side)))
        return {"top": generator.integer(height - side + 1), "left": generator.integer(width - side + 1), "side": side}


def bits(generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:  # noqa: ARG001 - the protocol's
    """From 4 to 8 bits."""
    return {"bits": 4 + generator.integer(5)}


def between(generator: KeyedGenerator, low: float, high: float, log: bool = False) -> float:
    """A number in [low, high), uniform, or uniform in its logarithm."""
    return low * math.exp(generator.uniform(0.0, math.log(high / low))) if log else generator.uniform(low, high)


def deform(
    image: Image,
    displacement: npt.NDArray[np.floating],
    shear: tuple[float, float],
    origin: warps.Origin = warps.NOWHERE_ELSE,
) -> Image:
    """Shear, then deform smoothly, an image whose pixels come from elsewhere: one warp; see :func:`warps.elastic`."""
    return warps.elastic(image, displacement, warps.through(origin, warps.origin_of(image.shape, shear=shear)))


def cutout(image: Image, top: int, left: int, side: int) -> Image:
    """Fill a square with the grey between black and white."""
    grey = functional.peak(image) / 2
    return operations.erase(image, top, left, side, side, grey if image.dtype == np.float32 else round(grey))


def brightness(image: Image, factor: float) -> Image:
    """All values times a factor."""
    return colour.adjust(image, ((colour.BRIGHTNESS, factor),))


def contrast(image: Image, factor: float) -> Image:
    """Distances from the mean grey times a factor."""
    return colour.adjust(image, ((colour.CONTRAST, factor),))


def saturation(image: Image, factor: float) -> Image:
    """Distances of each pixel from its grey times a factor."""
    return colour.adjust(image, ((colour.SATURATION, factor),))


def hue(image: Image, turns: float) -> Image:
    """Hues moved on by a part of the colour circle."""
    return colour.adjust(image, ((colour.HUE, turns),))


_ENHANCE = Uniform("factor", 0.1, 1.9)

AUTOAUGMENT: dict[str, Operation] = {
    "shear_x": Operation("shear", warps.affine, Offset("shear", 0.3, 0.0)),
    "shear_y": Operation("shear", warps.affine, Offset("shear", 0.0, 0.3)),
    "translate_x": Operation("translation", warps.affine, Offset("translate", 0.3, 0.0, of_side=True)),
    "translate_y": Operation("translation", warps.affine, Offset("translate", 0.0, 0.3, of_side=True)),
    "rotate": Operation("rotation", warps.affine, Uniform("angle", -30.0, 30.0)),
    "autocontrast": Operation("contrast", operations.autocontrast, nothing),
    "invert": Operation("inversion", operations.invert, nothing),
    "equalize": Operation("contrast", operations.equalize, nothing),
    "solarize": Operation("inversion", operations.solarize, Uniform("threshold", 0.0, 256 / 255)),
    "posterize": Operation("posterization", operations.posterize, bits),
    "contrast": Operation("contrast", contrast, _ENHANCE),
    "colour": Operation("saturation", saturation, _ENHANCE, rgb=True),
    "brightness": Operation("brightness", brightness, _ENHANCE),
    "sharpness": Operation("sharpness", operations.sharpness, _ENHANCE),
    "cutout": Operation("occlusion", cutout, Square()),
}
"""The operations of AutoAugment but its sixteenth, sample pairing, which needs a second image."""

POOL: dict[str, Operation] = AUTOAUGMENT | {
    "translate": Operation("translation", warps.affine, Offset("translate", 0.2, 0.2, of_side=True)),
    "scale": Operation("scaling", warps.affine, Uniform("scale", 0.7, 1.4, log=True)),
    "elastic": Operation("shear", deform, Deformation()),
    "principal_contrast": Operation(
        "contrast", colour.principal_contrast, Uniforms("factors", 0.5, 2.0, log=True, count=3), rgb=True
    ),
    "gamma": Operation("brightness", operations.gamma, Uniforms("exponent", 0.7, 1.4, log=True)),
    "saturation_value": Operation("saturation", colour.curve_saturation_value, Curves(), rgb=True),
    "grey": Operation("saturation", colour.to_grey, nothing, rgb=True),
    "hue": Operation("hue", hue, Uniform("turns", -0.1, 0.1), rgb=True),
}
"""All operations by name."""
