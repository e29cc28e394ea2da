"""Augmentation of Contrastive Predictive Coding."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from super_selfish.errors import PROBABILITY, Rule, check_arguments, is_count
from super_selfish.images.functional import Image
from super_selfish.renamed import old_names
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms import warps
from super_selfish.transforms.base import Transform, log_skipped_colour_operations
from super_selfish.transforms.colour import SATURATION, adjust, is_jitter, jitter
from super_selfish.transforms.pool import AUTOAUGMENT, POOL, Operation

_OPERATIONS = tuple(AUTOAUGMENT.values())
_WITHOUT_RGB = tuple(operation for operation in _OPERATIONS if not operation.rgb)

_RULES = {
    "n_ops": Rule(
        lambda count: is_count(count, 0) and count <= len(_WITHOUT_RGB), f"an integer from 0 to {len(_WITHOUT_RGB)}"
    ),
    "elastic": PROBABILITY,
    "gamma": PROBABILITY,
    "jitter": Rule(is_jitter, "four strengths of at least 0, with a hue strength of at most 0.5"),
    "jitter_p": PROBABILITY,
    "grey": PROBABILITY,
}


@dataclass(frozen=True)
class CPCTransform(Transform):
    """AutoAugment operations, elastic deformation, gamma, colour jitter and greyscale. The size is preserved.

    The transform is designed for patches and also works on whole images. It applies, in this order: ``n_ops`` distinct
    AutoAugment operations; an elastic deformation with shear; gamma correction with one exponent in [0.7, 1.4] per
    channel; the colour jitter of Inception; greyscale. Saturation, hue and greyscale are skipped for images that are
    not RGB.

    Args:
        n_ops: Number of distinct operations sampled from :data:`super_selfish.transforms.pool.AUTOAUGMENT`, from 0 to
            14.
        elastic: Probability of the elastic deformation with shear.
        gamma: Probability of the gamma correction.
        jitter: Strengths s of brightness (an added value in [-s, s] of white), contrast, saturation (factors in
            [max(0, 1-s), 1+s]) and hue (turns in [-s, s]), applied in random order.
        jitter_p: Probability of the colour jitter.
        grey: Probability of greyscale.

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> import torch
        >>> CPCTransform()(torch.rand(3, 56, 48)).shape
        torch.Size([3, 56, 48])

    References:
        Hénaff et al., "Data-Efficient Image Recognition with Contrastive Predictive Coding", 2020, appendix A.2.
    """

    # Differs from the paper: without sample pairing, the pool's sixteenth operation, which needs a second image
    n_ops: int = 2
    _: KW_ONLY
    elastic: float = 0.2
    gamma: float = 0.2  # Differs from the paper: gammas stand for its augmentation of colour histograms
    jitter: tuple[float, float, float, float] = (32 / 255, 0.5, 0.5, 0.2)
    jitter_p: float = 0.8
    grey: float = 0.25

    def __post_init__(self) -> None:
        check_arguments(_RULES, vars(self))

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """Return a random view of the same shape and dtype."""
        coloured = image.shape[2] == 3
        if not coloured:
            log_skipped_colour_operations(image.shape[2])
        elastic, gamma, jittered, grey, *draws = generator.sixteen()
        matrix = None  # consecutive affine warps are composed into one
        for operation in self._sample_operations(_OPERATIONS if coloured else _WITHOUT_RGB, draws[5:], generator):
            if operation.apply is warps.affine:
                warp = warps.inverse_matrix(image.shape, **operation.draw(generator, image.shape))
                matrix = warp if matrix is None else warps.compose(matrix, warp)
            else:
                image, matrix = image if matrix is None else warps.placed(image, matrix), None
                image = operation(image, generator)
        if elastic < self.elastic:
            deform = POOL["elastic"]
            image = deform.apply(image, matrix=matrix or warps.IDENTITY, **deform.draw(generator, image.shape))
        elif matrix is not None:
            image = warps.placed(image, matrix)
        if gamma < self.gamma:
            image = POOL["gamma"](image, generator)
        steps = jitter(self.jitter, draws[:5], additive=True) if jittered < self.jitter_p else ()
        return adjust(image, (*steps, (SATURATION, 0.0)) if grey < self.grey else steps)

    def _sample_operations(
        self, pool: tuple[Operation, ...], draws: list[float], generator: KeyedGenerator
    ) -> list[Operation]:
        """Sample operations without replacement, from the numbers in ``draws`` first and the generator afterwards."""
        remaining, missing = list(pool), max(0, self.n_ops - len(draws))
        draws = draws[: self.n_ops] + [generator.uniform() for _ in range(missing)]
        return [remaining.pop(int(draw * len(remaining))) for draw in draws]


ContrastivePredictiveCodingAugmentations = CPCTransform()


__getattr__ = old_names(__name__)
