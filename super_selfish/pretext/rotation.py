"""Pretext task of RotateNet: predict the rotation angle of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from super_selfish.errors import ConfigurationError
from super_selfish.images import functional
from super_selfish.images.image_files import to_image
from super_selfish.images.rectangles import center_crop
from super_selfish.pretext.base import PretextDataset, Sample
from super_selfish.seeding import KeyedGenerator, global_seed
from super_selfish.transforms import warps

QUARTER_TURNS = (0.0, 90.0, 180.0, -90.0)


class RotateDataset(PretextDataset):
    """Images rotated by several angles.

    Item: (images R×C×S×S, rotation ids 0 .. R-1), or with ``r_all=False`` one random rotation: (image C×S×S, rotation
    id). S is the short side of the image. Images are cropped to a square before rotation, since padding would reveal
    the angle. Multiples of 90° do not interpolate. If any angle is not a multiple of 90°, the images of *all* classes,
    including 0°, are cropped to the largest square without padding at every angle, and resized to S.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        rotations: Angles in degrees, counter-clockwise; at least two, all different modulo 360.
        r_all: Return all rotations of an image, as in the paper.
        crop: Smallest and largest area of a random crop before rotation, relative to the centre square. The crop is
            taken from the whole image, with an aspect ratio from 3/4 to 4/3. None: centre crop.
        flip: Probability of a horizontal flip before rotation, in [0, 1].
        transform: Function from H×W×C arrays to H×W×C arrays, applied before the crop; global random generators are
            seeded before each call.

    Raises:
        ConfigurationError: If there are fewer than two different finite angles, or an argument is out of range.

    Examples:
        >>> images, ids = RotateDataset(np.zeros((2, 32, 48, 3), np.uint8))[0]
        >>> images.shape, ids
        (torch.Size([4, 3, 32, 32]), tensor([0, 1, 2, 3]))

    References:
        Gidaris, Singh and Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", 2018.
    """

    def __init__(
        self,
        dataset: object,
        rotations: Sequence[float] = QUARTER_TURNS,
        r_all: bool = True,
        *,
        crop: tuple[float, float] | None = None,
        flip: float = 0.0,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(dataset)
        self.rotations = checked_rotations(rotations)
        self.crop = checked_crop(crop)
        self.flip = checked_flip(flip)
        self.r_all = r_all
        self.transform = transform
        self.batched = r_all

    @property
    def runs_user_code(self) -> bool:
        """Whether reading an image runs user code, which may use global random generators."""
        return self.transform is not None or super().runs_user_code

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The rotated images and their rotation ids."""
        image = self.images.read(index)
        if self.transform is not None:
            with global_seed(generator.bits()):
                image = to_image(self.transform(image))
        image = self._cropped(image, generator)
        if self.r_all:
            rotated = np.stack([self._rotate(image, angle) for angle in self.rotations])
            return rotated, torch.arange(len(self.rotations))
        chosen = generator.integer(len(self.rotations))
        return np.ascontiguousarray(self._rotate(image, self.rotations[chosen])), chosen

    def _cropped(self, image: functional.Image, generator: KeyedGenerator) -> functional.Image:
        side = min(image.shape[:2])
        if self.crop is None:
            image = center_crop(image, side, side)
        else:
            area = side * side * generator.uniform(*self.crop)
            stretch = math.exp(generator.uniform(-1, 1) * math.log(4 / 3) / 2)
            height, width = (min(side, math.sqrt(area) * factor) for factor in (stretch, 1 / stretch))
            top, left = (generator.uniform(0, space) for space in (image.shape[0] - height, image.shape[1] - width))
            image = warps.zoom(image, top, left, height, width, (side, side))
        return image[:, ::-1] if generator.chance(self.flip) else image

    def _rotate(self, image: functional.Image, angle: float) -> functional.Image:
        rotated = warps.rotate(image, angle)
        if all(other % 90.0 == 0 for other in self.rotations):
            return rotated
        side = image.shape[0]
        inner = min(inscribed_side(side, other) for other in self.rotations)
        return functional.resize(center_crop(rotated, inner, inner), side, side)


def inscribed_side(side: int, angle: float) -> int:
    """Side in px of the largest centred, axis-aligned square without padding after rotation by ``angle`` degrees.

    The inscribed axis-aligned square of a square of side s, rotated by a, has side s / (|sin a| + |cos a|).
    """
    radians = math.radians(angle % 90.0)
    return max(1, math.floor(side / (abs(math.sin(radians)) + abs(math.cos(radians))) + 1e-9))


def checked_crop(crop: tuple[float, float] | None) -> tuple[float, float] | None:
    """Validate ``crop``, a range of relative areas, and return it.

    Raises:
        ConfigurationError: If it is neither None nor (smallest, largest) with 0 < smallest ≤ largest ≤ 1.
    """
    if crop is None:
        return None
    try:
        smallest, largest = (float(area) for area in crop)
    except (TypeError, ValueError):
        smallest, largest = 1.0, 0.0
    if not 0 < smallest <= largest <= 1:
        raise ConfigurationError(
            "`crop` is not a range of areas.",
            expected="None, or (smallest, largest) with 0 < smallest <= largest <= 1",
            received=f"crop={crop!r}",
        )
    return smallest, largest


def checked_flip(flip: float) -> float:
    """Validate ``flip``, a probability, and return it as a float.

    Raises:
        ConfigurationError: If it is not in [0, 1].
    """
    if isinstance(flip, bool) or not isinstance(flip, int | float) or not 0 <= flip <= 1:
        raise ConfigurationError(
            "`flip` is not a probability.", expected="a number in [0, 1]", received=f"flip={flip!r}"
        )
    return float(flip)


def checked_rotations(rotations: Sequence[float]) -> tuple[float, ...]:
    """Validate ``rotations`` and return the angles as floats.

    Raises:
        ConfigurationError: If there are not at least two finite angles, all different modulo 360.
    """
    try:
        angles = tuple(float(angle) for angle in rotations)
    except (TypeError, ValueError):
        angles = ()
    if (
        len(angles) < 2
        or not np.isfinite(angles).all()
        or len({round(angle % 360.0, 6) for angle in angles}) < len(angles)
    ):
        raise ConfigurationError(
            "`rotations` is not a valid set of angles.",
            expected="at least two finite angles in degrees, all different modulo 360",
            received=f"rotations={rotations!r}",
            fix="The paper uses (0, 90, 180, -90).",
        )
    return angles
