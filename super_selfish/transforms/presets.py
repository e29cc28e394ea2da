"""Views by the kind of images: what may change without changing what an image shows."""

from __future__ import annotations

from typing import Literal

from super_selfish.errors import ConfigurationError, did_you_mean
from super_selfish.transforms.moco import MoCoTransform

Preset = Literal["natural", "grey", "xray", "satellite", "microscopy"]

PRESETS = {
    "natural": MoCoTransform(),
    # grey photographs: no colour to change
    "grey": MoCoTransform(jitter=(0.4, 0.4, 0.0, 0.0), grey=0.0),
    # radiographs: left and right are not the same, findings are small and faint
    "xray": MoCoTransform(
        scale=(0.3, 1.0), flip=0.0, jitter=(0.2, 0.3, 0.0, 0.0), grey=0.0, blur=0.2, sigma=(0.1, 1.0)
    ),
    # from above: no upright; bands and colours mean something
    "satellite": MoCoTransform(scale=(0.3, 1.0), upside_down=0.5, jitter=(0.2, 0.2, 0.1, 0.02), grey=0.0, blur=0.1),
    # no upright; stains differ from one laboratory to the next
    "microscopy": MoCoTransform(scale=(0.3, 1.0), upside_down=0.5, jitter=(0.3, 0.3, 0.3, 0.1), grey=0.1, blur=0.3),
}
"""Recipes for ``views=``, by name."""


def preset(name: str) -> MoCoTransform:
    """The views for a kind of images.

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
            "`views` is no preset.",
            expected=f"{', '.join(map(repr, PRESETS))}, a recipe such as MoCoTransform(), or a function",
            received=repr(name),
            fix=did_you_mean(name, tuple(PRESETS)),
        )
    return PRESETS[name]
