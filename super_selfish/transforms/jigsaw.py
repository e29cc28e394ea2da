"""Colour augmentation of the jigsaw pretext task."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from super_selfish.errors import PROBABILITY, Rule, check_arguments
from super_selfish.images.functional import Image
from super_selfish.renamed import old_names
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms.base import Transform, log_skipped_colour_operations
from super_selfish.transforms.colour import SATURATION, adjust, is_jitter, jitter


@dataclass(frozen=True)
class JigsawTransform(Transform):
    """Colour augmentation of the jigsaw pretext task: colour jitter and greyscale, without geometric changes.

    Args:
        jitter: Strengths of brightness, contrast, saturation and hue, as in :class:`CropColourTransform`.
        jitter_p: Probability of the colour jitter.
        grey: Probability of greyscale.

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> import numpy as np
        >>> grey = JigsawTransform(grey=1.0)(np.array([[[9, 90, 30]]], np.uint8))
        >>> len(set(grey.ravel().tolist()))
        1
    """

    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    _: KW_ONLY
    jitter_p: float = 1.0
    grey: float = 0.3

    def __post_init__(self) -> None:
        check_arguments(_RULES, vars(self))

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """Return the image with random colour adjustments."""
        if image.shape[2] != 3:
            log_skipped_colour_operations(image.shape[2])
        jittered, grey, *draws = generator.sixteen()[:7]
        steps = jitter(self.jitter, draws) if jittered < self.jitter_p else ()
        return adjust(image, (*steps, (SATURATION, 0.0)) if grey < self.grey else steps)


_RULES = {
    "jitter": Rule(is_jitter, "four strengths of at least 0, with a hue strength of at most 0.5"),
    "jitter_p": PROBABILITY,
    "grey": PROBABILITY,
}


JigsawAugmentations = JigsawTransform()


__getattr__ = old_names(__name__)
