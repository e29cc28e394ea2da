"""Data set of BiGAN: images with random codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from super_selfish.errors import ConfigurationError, Rule, is_count, validate_arguments
from super_selfish.pretext.base import PretextDataset, Sample
from super_selfish.pretext.rotation import checked_crop, checked_flip
from super_selfish.seeding import KeyedGenerator, global_seed
from super_selfish.transforms.operations import crop_and_flip

BIDIRECTIONAL_RULES = {
    "shape": Rule(
        lambda shape: (
            shape is None
            or (isinstance(shape, tuple | list) and len(shape) == 3 and all(is_count(side, 1) for side in shape))
        ),
        "None, or (channels, height, width)",
    ),
    "rand_gen": Rule(lambda draw: draw is None or callable(draw), "None, or a function called as rand_gen(*shape)"),
}


class BiDataset(PretextDataset):
    """Images with random codes: item (code, image C×H×W).

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        shape: Shape of a code: (channels, height, width).
        rand_gen: Function that draws a random code, called as ``rand_gen(*shape)`` like ``np.random.rand``. Global
            random generators are seeded before each call. None: uniform in [-1, 1).
        crop: Smallest and largest area of a random crop relative to the image; it is resized to the image size. None:
            no crop.
        flip: Probability of a horizontal flip, in [0, 1].

    Raises:
        ConfigurationError: If an argument is out of range, or ``rand_gen`` returns another shape.

    Examples:
        >>> code, image = BiDataset(np.zeros((2, 64, 64, 3), np.uint8), shape=(32, 2, 2))[0]
        >>> code.shape, image.shape
        (torch.Size([32, 2, 2]), torch.Size([3, 64, 64]))
    """

    @validate_arguments(BIDIRECTIONAL_RULES)
    def __init__(
        self,
        dataset: object,
        shape: tuple[int, int, int] = (32, 7, 7),
        rand_gen: Callable[..., Any] | None = None,
        *,
        crop: tuple[float, float] | None = None,
        flip: float = 0.0,
    ) -> None:
        super().__init__(dataset)
        self.crop, self.flip = checked_crop(crop), checked_flip(flip)
        self.shape = tuple(shape)
        self.rand_gen = rand_gen

    @property
    def runs_user_code(self) -> bool:
        """Whether reading an image runs user code, which may use global random generators."""
        return self.rand_gen is not None or super().runs_user_code

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The code and the image."""
        code = self._code(generator)
        return code, crop_and_flip(self.images.read(index), generator, self.crop, self.flip)

    def _code(self, generator: KeyedGenerator) -> torch.Tensor:
        if self.rand_gen is None:
            return torch.from_numpy((2.0 * generator.uniforms(*self.shape) - 1.0).astype(np.float32))
        with global_seed(generator.bits()):
            code = torch.as_tensor(self.rand_gen(*self.shape), dtype=torch.float32)
        if tuple(code.shape) != self.shape:
            raise ConfigurationError(
                "`rand_gen` returns codes of the wrong shape.",
                expected=f"{self.shape}",
                received=f"{tuple(code.shape)}",
            )
        return code
