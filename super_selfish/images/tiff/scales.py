"""Scale and offset of bands, which GDAL stores in the metadata of a GeoTIFF: value = stored · scale + offset."""

from __future__ import annotations

import math
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np

from super_selfish.errors import DataError
from super_selfish.images.arrays import to_float32
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Mask, OpenImage

_NEUTRAL = {"scale": 1.0, "offset": 0.0}


def scaled(opened: OpenImage, metadata: object, is_grey_or_rgb: bool) -> OpenImage:
    """Return the same image with the scales and offsets of its bands applied: float32.

    Args:
        opened: Image with stored values.
        metadata: Value of the GDAL_METADATA tag; None: the file has none.
        is_grey_or_rgb: Whether stored values are decoded as they are, which scaling requires.

    Raises:
        DataError: If a scale or offset is not a usable number, or the values are inverted, palette indices or inks.
    """
    bands = bands_of(metadata)
    if all((scale, offset) == (1.0, 0.0) for scale, offset in bands.values()):
        return opened
    if not is_grey_or_rgb:
        raise DataError(
            "the file declares a scale, but its values are inverted, palette indices or inks such as CMYK.",
            received=f"scale and offset {next(iter(bands.values()))}",
            fix="Apply the scale, and save the values without it.",
        )

    def apply(image: Image) -> Image:
        factors = np.array([bands.get(band, (1.0, 0.0)) for band in range(image.shape[2])])
        return to_float32(image * factors[:, 0] + factors[:, 1])

    def apply_with_mask(decode: Callable[[], tuple[Image, Mask]]) -> tuple[Image, Mask]:
        image, missing = decode()
        return apply(image), missing

    alpha, mask = opened.decode_with_alpha, opened.decode_with_mask
    return opened._replace(
        header=opened.header._replace(dtype="float32"),
        decode=lambda: apply(opened.decode()),
        decode_with_alpha=None if alpha is None else lambda: apply(alpha()),
        decode_with_mask=None if mask is None else lambda: apply_with_mask(mask),
    )


def bands_of(metadata: object) -> dict[int, tuple[float, float]]:
    """Return scale and offset of each band for which GDAL's metadata declare one.

    Raises:
        DataError: If the metadata cannot be parsed, or a value is not a usable number.

    Examples:
        >>> bands_of('<GDALMetadata><Item name="SCALE" sample="1" role="scale">0.5</Item></GDALMetadata>')
        {1: (0.5, 0.0)}
    """
    text = str(metadata or "").strip("\0 \r\n")
    if not any(role in text for role in _NEUTRAL):
        return {}
    found: dict[int, dict[str, float]] = {}
    try:
        for item in ElementTree.fromstring(text).iter("Item"):
            role = item.get("role", "")
            if role in _NEUTRAL:
                found.setdefault(int(item.get("sample", 0)), dict(_NEUTRAL))[role] = float((item.text or "").strip())
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"its GDAL metadata cannot be parsed ({error}).", fix="Save the file again.") from error
    bands = {band: (values["scale"], values["offset"]) for band, values in found.items()}
    for scale, offset in bands.values():
        if scale == 0 or not (math.isfinite(scale) and math.isfinite(offset)):
            raise DataError(
                "its scale and offset are not usable.",
                expected="a finite scale other than 0, and a finite offset",
                received=f"scale {scale:g}, offset {offset:g}",
            )
    return bands
