"""Augmentation operations with random magnitudes, by name.

Each operation combines a pure function of an image with a distribution of its magnitudes. Calling it with an image and
a generator samples the magnitudes and applies them. Images are H×W×C arrays of uint8, uint16 or float32 with any number
of channels; shape, dtype and range are preserved. Operations that require RGB return other images unchanged.

=================  ============================================================================
shear_x, shear_y   factor in [-0.3, 0.3], about the centre
translate_x, _y    up to ±0.3 of the width or of the height
translate          up to ±0.2 of the width and of the height
rotate             angle in [-30°, 30°]
scale              factor in [0.7, 1.4]
elastic            nine displacements, σ = 0.045 of the shorter side, and a shear in [-0.3, 0.3]
autocontrast       the minimum of each channel becomes black, the maximum white
equalize           histogram equalization of each channel
contrast           factor in [0.1, 1.9], about the mean grey level
principal_contrast factors in [0.5, 2] along the three principal components of colour; RGB
brightness         factor in [0.1, 1.9]
gamma              exponent in [0.7, 1.4], one per channel
colour             saturation factor in [0.1, 1.9]; RGB
saturation_value   both: exponent in [0.25, 4], gain in [0.7, 1.4], offset in [-0.1, 0.1]; RGB
grey               greyscale; RGB
hue                shift in [-0.1, 0.1] turns of the colour circle; RGB
sharpness          factor in [0.1, 1.9]; below 1 smooths
cutout             grey square with a side of up to 0.2 of the shorter side
invert             inversion of all values
solarize           inversion of values above a threshold in [0, 1] of white
posterize          the 4 to 8 most significant bits are kept
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
"""Keyword arguments of an operation."""


class Operation(NamedTuple):
    """An operation with random magnitudes.

    Attributes:
        kind: Image property that the operation changes. Operations of the same kind may cancel each other.
        apply: The operation, called with an image and the magnitudes as keyword arguments.
        draw: Samples the magnitudes, given a generator and an image shape (H, W, C).
        rgb: Whether the operation requires RGB.

    Examples:
        >>> POOL["invert"](np.zeros((1, 1, 3), np.uint8), KeyedGenerator(0)).ravel().tolist()
        [255, 255, 255]
    """

    kind: str
    apply: Callable[..., Image]
    draw: Callable[[KeyedGenerator, tuple[int, ...]], Magnitudes]
    rgb: bool = False

    def supports(self, image: Image) -> bool:
        """Return whether the operation supports the number of channels of an image."""
        return not self.rgb or image.shape[2] == 3

    def __call__(self, image: Image, generator: KeyedGenerator) -> Image:
        """Sample magnitudes and apply the operation. Unsupported images are returned unchanged."""
        return self.apply(image, **self.draw(generator, image.shape)) if self.supports(image) else image


def no_magnitudes(generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:  # noqa: ARG001 - interface
    """Return the empty magnitudes of an operation without parameters."""
    return {}


@dataclass(frozen=True)
class Uniform:
    """One number from a uniform distribution.

    Args:
        name: Name of the keyword argument.
        low: Lower bound.
        high: Upper bound.
        log: Use a log-uniform distribution.
    """

    name: str
    low: float
    high: float
    log: bool = False

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:  # noqa: ARG002 - interface
        """Sample the magnitude."""
        return {self.name: uniform(generator, self.low, self.high, self.log)}


@dataclass(frozen=True)
class Uniforms:
    """One number per channel, or ``count`` numbers, from a uniform distribution; see :class:`Uniform`."""

    name: str
    low: float
    high: float
    log: bool = False
    count: int | None = None

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:
        """Sample the magnitudes for an image shape (H, W, C)."""
        count = shape[2] if self.count is None else self.count
        return {self.name: [uniform(generator, self.low, self.high, self.log) for _ in range(count)]}


@dataclass(frozen=True)
class Offset:
    """A pair of numbers (horizontal, vertical) from symmetric uniform distributions.

    Args:
        name: Name of the keyword argument.
        x: Maximum absolute value of the horizontal number.
        y: Maximum absolute value of the vertical number.
        relative: Whether ``x`` and ``y`` are fractions of the width and height. The sampled numbers are then in px,
            rounded to integers.
    """

    name: str
    x: float
    y: float
    relative: bool = False

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:
        """Sample the magnitudes for an image shape (H, W, C)."""
        if not self.relative:
            return {self.name: (generator.uniform(-self.x, self.x), generator.uniform(-self.y, self.y))}
        x, y = self.x * shape[1], self.y * shape[0]
        return {self.name: (round(generator.uniform(-x, x)), round(generator.uniform(-y, y)))}


@dataclass(frozen=True)
class Deformation:
    """Normally distributed displacements for :func:`warps.elastic`, and a uniformly distributed shear.

    Args:
        sigma: Standard deviation of the displacements, relative to the shorter side.
        shear: Maximum absolute value of both shear factors.
    """

    sigma: float = 0.045
    shear: float = 0.3

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:
        """Sample the magnitudes for an image shape (H, W, C)."""
        radii, angles = generator.sixteen(), generator.sixteen()
        scale, displacements = self.sigma * min(shape[:2]), []
        for radius, angle in zip(radii[:9], angles[:9], strict=True):  # Box-Muller transform
            length, turn = scale * math.sqrt(-2.0 * math.log1p(-radius)), 2.0 * math.pi * angle
            displacements += [length * math.cos(turn), length * math.sin(turn)]
        shear = (self.shear * (2.0 * radii[9] - 1.0), self.shear * (2.0 * angles[9] - 1.0))
        return {"displacement": np.array(displacements).reshape(2, 3, 3), "shear": shear}


@dataclass(frozen=True)
class Curves:
    """Power, gain and offset of the curves gain · x^power + offset for saturation and value."""

    power: tuple[float, float] = (0.25, 4.0)
    gain: tuple[float, float] = (0.7, 1.4)
    offset: tuple[float, float] = (-0.1, 0.1)

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:  # noqa: ARG002 - interface
        """Sample the magnitudes."""
        return {
            name: (
                uniform(generator, *self.power, log=True),
                uniform(generator, *self.gain, log=True),
                generator.uniform(*self.offset),
            )
            for name in ("saturation", "value")
        }


@dataclass(frozen=True)
class Square:
    """A square at a random position, with a side from 1 px to ``side`` times the shorter side of the image."""

    side: float = 0.2

    def __call__(self, generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:
        """Sample the magnitudes for an image shape (H, W, C)."""
        height, width = shape[:2]
        side = max(1, round(min(height, width) * generator.uniform(0.0, self.side)))
        return {"top": generator.integer(height - side + 1), "left": generator.integer(width - side + 1), "side": side}


def uniform_bits(generator: KeyedGenerator, shape: tuple[int, ...]) -> Magnitudes:  # noqa: ARG001 - interface
    """Sample a number of bits from 4 to 8."""
    return {"bits": 4 + generator.integer(5)}


def uniform(generator: KeyedGenerator, low: float, high: float, log: bool = False) -> float:
    """Sample from the uniform or, with ``log``, the log-uniform distribution over [low, high)."""
    return low * math.exp(generator.uniform(0.0, math.log(high / low))) if log else generator.uniform(low, high)


def deform(
    image: Image,
    displacement: npt.NDArray[np.floating],
    shear: tuple[float, float],
    matrix: warps.InverseMatrix = warps.IDENTITY,
) -> Image:
    """Apply ``matrix``, a shear and an elastic deformation in one interpolation; see :func:`warps.elastic`."""
    return warps.elastic(image, displacement, warps.compose(matrix, warps.inverse_matrix(image.shape, shear=shear)))


def cutout(image: Image, top: int, left: int, side: int) -> Image:
    """Fill a square with mid-grey."""
    grey = functional.peak(image) / 2
    return operations.erase(image, top, left, side, side, grey if image.dtype == np.float32 else round(grey))


def brightness(image: Image, factor: float) -> Image:
    """Multiply all values by a factor."""
    return colour.adjust(image, ((colour.BRIGHTNESS, factor),))


def contrast(image: Image, factor: float) -> Image:
    """Scale the differences from the mean grey level by a factor."""
    return colour.adjust(image, ((colour.CONTRAST, factor),))


def saturation(image: Image, factor: float) -> Image:
    """Scale the differences of each pixel from its luma by a factor."""
    return colour.adjust(image, ((colour.SATURATION, factor),))


def hue(image: Image, turns: float) -> Image:
    """Shift the hue by a number of turns of the colour circle."""
    return colour.adjust(image, ((colour.HUE, turns),))


_ENHANCE = Uniform("factor", 0.1, 1.9)

AUTOAUGMENT: dict[str, Operation] = {
    "shear_x": Operation("shear", warps.affine, Offset("shear", 0.3, 0.0)),
    "shear_y": Operation("shear", warps.affine, Offset("shear", 0.0, 0.3)),
    "translate_x": Operation("translation", warps.affine, Offset("translate", 0.3, 0.0, relative=True)),
    "translate_y": Operation("translation", warps.affine, Offset("translate", 0.0, 0.3, relative=True)),
    "rotate": Operation("rotation", warps.affine, Uniform("angle", -30.0, 30.0)),
    "autocontrast": Operation("contrast", operations.autocontrast, no_magnitudes),
    "invert": Operation("inversion", operations.invert, no_magnitudes),
    "equalize": Operation("contrast", operations.equalize, no_magnitudes),
    "solarize": Operation("inversion", operations.solarize, Uniform("threshold", 0.0, 256 / 255)),
    "posterize": Operation("posterization", operations.posterize, uniform_bits),
    "contrast": Operation("contrast", contrast, _ENHANCE),
    "colour": Operation("saturation", saturation, _ENHANCE, rgb=True),
    "brightness": Operation("brightness", brightness, _ENHANCE),
    "sharpness": Operation("sharpness", operations.sharpness, _ENHANCE),
    "cutout": Operation("occlusion", cutout, Square()),
}
"""The operations of AutoAugment, except sample pairing, which needs a second image."""

POOL: dict[str, Operation] = AUTOAUGMENT | {
    "translate": Operation("translation", warps.affine, Offset("translate", 0.2, 0.2, relative=True)),
    "scale": Operation("scaling", warps.affine, Uniform("scale", 0.7, 1.4, log=True)),
    "elastic": Operation("shear", deform, Deformation()),
    "principal_contrast": Operation(
        "contrast", colour.principal_contrast, Uniforms("factors", 0.5, 2.0, log=True, count=3), rgb=True
    ),
    "gamma": Operation("brightness", operations.gamma, Uniforms("exponent", 0.7, 1.4, log=True)),
    "saturation_value": Operation("saturation", colour.curve_saturation_value, Curves(), rgb=True),
    "grey": Operation("saturation", colour.to_grey, no_magnitudes, rgb=True),
    "hue": Operation("hue", hue, Uniform("turns", -0.1, 0.1), rgb=True),
}
"""All operations by name."""
