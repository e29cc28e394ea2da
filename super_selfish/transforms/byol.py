"""Augmentations of BYOL, one for each of the two views."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from super_selfish.renamed import old_names
from super_selfish.transforms.base import _check
from super_selfish.transforms.crop_and_colour import CropColourTransform


@dataclass(frozen=True)
class BYOLTransform(CropColourTransform):
    """Augmentations of BYOL. The two views differ in the probabilities of blur and solarization.

    Args:
        size: Side length of the view in px, or (height, width). None: the size of the image.
        view: 1 or 2. Sets the defaults of ``blur`` (1.0 or 0.1) and ``solarize`` (0.0 or 0.2).

    The other arguments are those of :class:`CropColourTransform`. Crops are resampled bilinearly. The paper uses
    bicubic interpolation (``cubic=True``), which takes 20 % longer.

    Raises:
        ConfigurationError: If an argument is out of range.

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
        """Return the probabilities of blur and solarization. None stands for the default of the view."""
        blur, solarize = ((1.0, 0.0), (0.1, 0.2))[self.view - 1]
        return blur if self.blur is None else self.blur, solarize if self.solarize is None else self.solarize


BYOLAugmentations = BYOLTransform()


__getattr__ = old_names(__name__)
