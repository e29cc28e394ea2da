"""The augmentation of Contrastive Predictive Coding: strong enough that neighbouring patches share content alone."""

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
    "jitter": Rule(is_jitter, "four strengths of at least 0, that of the hue at most 0.5"),
    "jitter_p": PROBABILITY,
    "grey": PROBABILITY,
}


@dataclass(frozen=True)
class CPCTransform(Transform):
    """Operations of AutoAugment's pool, elastic deformation, gamma, colour jitter and grey: an image of the same size.

    It is made for patches and suits whole images. In this order: ``n_ops`` different operations of the pool; a smooth
    deformation and shear; another gamma for each channel, from 0.7 to 1.4; the colour jitter of Inception; grey. Images
    that are not RGB go without saturation, hue and grey.

    Args:
        n_ops: Operations that are drawn from :data:`super_selfish.transforms.pool.AUTOAUGMENT`, all different, from 0
            to 14.
        elastic: Probability of the deformation with shear.
        gamma: Probability of the gammas.
        jitter: Strength of brightness (added, up to ±s of white), contrast, saturation (factors from 1-s to 1+s, not
            below 0) and hue (turns from -s to s), applied in random order.
        jitter_p: Probability of the jitter.
        grey: Probability of greyscale.

    Raises:
        ConfigurationError: If a number or a probability makes no sense.

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
        """The image, changed; of the same shape and type."""
        coloured = image.shape[2] == 3
        if not coloured:
            log_skipped_colour_operations(image.shape[2])
        elastic, gamma, jittered, grey, *draws = generator.sixteen()
        origin = None  # of the pixels: warps in a row are one
        for operation in self._drawn(_OPERATIONS if coloured else _WITHOUT_RGB, draws[5:], generator):
            if operation.apply is warps.affine:
                placed = warps.origin_of(image.shape, **operation.draw(generator, image.shape))
                origin = placed if origin is None else warps.through(origin, placed)
            else:
                image, origin = image if origin is None else warps.placed(image, origin), None
                image = operation(image, generator)
        if elastic < self.elastic:
            deform = POOL["elastic"]
            image = deform.apply(image, origin=origin or warps.NOWHERE_ELSE, **deform.draw(generator, image.shape))
        elif origin is not None:
            image = warps.placed(image, origin)
        if gamma < self.gamma:
            image = POOL["gamma"](image, generator)
        steps = jitter(self.jitter, draws[:5], additive=True) if jittered < self.jitter_p else ()
        return adjust(image, (*steps, (SATURATION, 0.0)) if grey < self.grey else steps)

    def _drawn(self, pool: tuple[Operation, ...], draws: list[float], generator: KeyedGenerator) -> list[Operation]:
        """Different operations, in random order; by draws at hand, then by others of the stream."""
        rest, more = list(pool), max(0, self.n_ops - len(draws))
        draws = draws[: self.n_ops] + [generator.uniform() for _ in range(more)]
        return [rest.pop(int(draw * len(rest))) for draw in draws]


ContrastivePredictiveCodingAugmentations = CPCTransform()


__getattr__ = old_names(__name__)
