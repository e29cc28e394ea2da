"""RotateNet's exercise: by which angle was the image turned?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from super_selfish.data import functional
from super_selfish.data.images import to_image
from super_selfish.data.pretext import PretextDataset, Sample
from super_selfish.errors import ConfigurationError
from super_selfish.seeding import Stream, global_seed

QUARTER_TURNS = (0.0, 90.0, 180.0, -90.0)


class RotateDataset(PretextDataset):
    """Each image turned by each of some angles.

    Item: (images R×C×S×S, rotation ids 0 .. R-1), or with ``r_all=False`` one rotation drawn at random:
    (image C×S×S, rotation id). S is the image's short side, which is cropped from the middle before turning: a
    non-square image turned in place would give its angle away by black bars. Multiples of 90° move pixels and change
    none. If any angle is not a multiple of 90°, *all* classes, 0° included, are cropped to the square that holds only
    original pixels at every angle, and scaled back to S.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        rotations: Angles in degrees, counter-clockwise; at least two, all different modulo 360.
        r_all: All rotations of an image at once, as in the paper.
        transform: Called on each image before it is turned (a crop or flip, say), with H×W×C arrays in and out;
            global generators are seeded for each call.

    Raises:
        ConfigurationError: If there are not two different finite angles.

    Example:
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
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(dataset)
        self.rotations = checked_rotations(rotations)
        self.r_all = r_all
        self.transform = transform
        self.batched = r_all

    def sample(self, index: int, stream: Stream) -> Sample:
        """The turned images and their ids."""
        image = self.images.read(index)
        if self.transform is not None:
            with global_seed(stream.bits()):
                image = to_image(self.transform(image))
        image = functional.square(image)
        if self.r_all:
            turned = np.stack([self._turn(image, angle) for angle in self.rotations])
            return turned, torch.arange(len(self.rotations))
        chosen = stream.integer(len(self.rotations))
        return np.ascontiguousarray(self._turn(image, self.rotations[chosen])), chosen

    def _turn(self, image: functional.Image, angle: float) -> functional.Image:
        turned = functional.rotate(image, angle)
        if all(other % 90.0 == 0 for other in self.rotations):
            return turned
        side = image.shape[0]
        inner = min(functional.inscribed_side(side, other) for other in self.rotations)
        return functional.resize(functional.center_crop(turned, inner, inner), side, side)


def checked_rotations(rotations: Sequence[float]) -> tuple[float, ...]:
    """The angles as floats, if they make a task.

    Raises:
        ConfigurationError: If there are not at least two finite angles, all different modulo 360.
    """
    try:
        angles = tuple(float(angle) for angle in rotations)
    except TypeError:
        angles = ()
    if (
        len(angles) < 2
        or not np.isfinite(angles).all()
        or len({round(angle % 360.0, 6) for angle in angles}) < len(angles)
    ):
        raise ConfigurationError(
            "`rotations` makes no task.",
            expected="at least two finite angles in degrees, all different modulo 360",
            received=f"rotations={rotations!r}",
            fix="The paper uses (0, 90, 180, -90).",
        )
    return angles
