"""Augmentation presets for types of images: transforms that preserve what an image shows."""

from __future__ import annotations

from typing import Literal

from super_selfish.errors import ConfigurationError
from super_selfish.suggestions import did_you_mean
from super_selfish.transforms.moco import MoCoTransform

Preset = Literal["natural", "grey", "xray", "satellite", "microscopy"]

PRESETS = {
    "natural": MoCoTransform(),
    # greyscale photographs: no colour augmentation
    "grey": MoCoTransform(jitter=(0.4, 0.4, 0.0, 0.0), grey=0.0),
    # radiographs: left and right differ, findings are small and of low contrast
    "xray": MoCoTransform(
        scale=(0.3, 1.0), flip=0.0, jitter=(0.2, 0.3, 0.0, 0.0), grey=0.0, blur=0.2, sigma=(0.1, 1.0)
    ),
    # no canonical orientation; spectral bands and colours carry information
    "satellite": MoCoTransform(scale=(0.3, 1.0), upside_down=0.5, jitter=(0.2, 0.2, 0.1, 0.02), grey=0.0, blur=0.1),
    # no canonical orientation; stain colours vary between laboratories
    "microscopy": MoCoTransform(scale=(0.3, 1.0), upside_down=0.5, jitter=(0.3, 0.3, 0.3, 0.1), grey=0.1, blur=0.3),
}
"""Transforms for ``views=`` by name."""


def preset(name: str) -> MoCoTransform:
    """Return the augmentation preset for a type of images.

    Args:
        name: ``"natural"``, ``"grey"``, ``"xray"``, ``"satellite"`` or ``"microscopy"``.

    Raises:
        ConfigurationError: If there is no such preset.

    Examples:
        >>> preset("xray").flip
        0.0
    """
    if name not in PRESETS:
        raise ConfigurationError(
            "`views` is not a known preset.",
            expected=f"{', '.join(map(repr, PRESETS))}, a transform such as MoCoTransform(), or a callable",
            received=repr(name),
            fix=did_you_mean(name, tuple(PRESETS)),
        )
    return PRESETS[name]
