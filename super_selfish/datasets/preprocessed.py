"""Preprocessing of images: size, channels and value range, saved with the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from super_selfish.errors import CheckpointError, DataError, UnreadableImage, is_count, is_number
from super_selfish.images.fitting import Fit
from super_selfish.images.functional import Image
from super_selfish.images.image_files import MAX_PIXELS, AlphaRule
from super_selfish.images.open_image import Mask

MINIMUM_SIDE = 32
_DAMAGED = "The stored preprocessing is damaged."
_FIELDS = ("resolution", "channels", "value_range", "mean", "std", "max_pixels")
_FIELDS_IF_SET = ("fill", "background")
RESIZE = (
    "to the smallest size that covers resolution, then the centre; bilinear up to a reduction of 1.75, else by area"
)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601
_is_size = partial(is_count, least=1)
_is_finite = partial(is_number, low=-math.inf, high=math.inf)


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing that is applied to every image of a data set.

    Args:
        resolution: Height and width in pixels.
        channels: Number of channels. Grey and RGB images are converted to each other; other images must have this
            number of channels.
        value_range: Values that are mapped to 0 and 1 if images are not uint8; values outside are clipped. None: values
            already are in [0, 1].
        mean: Mean per channel, on the scale [0, 1], or None.
        std: Standard deviation per channel, positive, or None.
        max_pixels: Maximum number of pixels of an image.
        fill: Value, on the scale of the files, of pixels that are declared as no data or not finite. None: pixels
            declared as no data get the lower end of the value range, and other non-finite pixels raise an error.
        background: Colour in [0, 1], one value or one per channel, that transparent images are blended with. None:
            alpha is dropped, unless ``channels`` includes it.

    Examples:
        >>> import numpy as np
        >>> Preprocessing((32, 32), 3, None, None, None).image(np.zeros((40, 60, 1), np.uint8)).shape
        (32, 32, 3)
    """

    resolution: tuple[int, int]
    channels: int
    value_range: tuple[float, float] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    max_pixels: int = MAX_PIXELS
    fill: float | None = None
    background: tuple[float, ...] | None = None

    @property
    def alpha_rule(self) -> AlphaRule:
        """How alpha channels are handled."""
        return AlphaRule(self.channels, self.background)

    def image(self, image: Image, missing: Mask | None = None) -> Image:
        """Preprocess a canonical image. Normalisation with ``mean`` and ``std`` is applied later, on the device.

        Args:
            image: H×W×C, uint8, uint16 or float32.
            missing: H×W×C or H×W×1, True where a pixel is missing.

        Returns:
            The centre of the image, scaled to cover the resolution: uint8 if the input is, else float32 in [0, 1].

        Raises:
            DataError: If the channels cannot be converted, or values are not finite.
        """
        self._check_finite(image, missing)
        fit = Fit.of(image.shape, self.resolution)
        part = self._filled(fit.crop(image), None if missing is None else fit.crop(missing))
        return np.ascontiguousarray(fit.resample(self._with_channels(self._scaled(part))))

    def mask(self, missing: Mask) -> npt.NDArray[np.bool_]:
        """Return the mask (H, W) of pixels of the preprocessed image that depend on missing pixels."""
        fit = Fit.of(missing.shape, self.resolution)
        part = np.asarray(fit.crop(missing).any(axis=2, keepdims=True), np.float32)
        found: npt.NDArray[np.bool_] = fit.resample(part)[:, :, 0] > 0
        return found

    def clipped(self, image: Image, missing: Mask | None = None) -> float:
        """Return the fraction of the values of an image outside the value range; missing pixels are ignored."""
        low, high = self.value_range or ((0.0, 65535.0) if image.dtype == np.uint16 else (0.0, 1.0))
        if image.dtype == np.uint8 or (image.min() >= low and image.max() <= high):
            return 0.0
        beyond = (image < low) | (image > high)
        valid = np.isfinite(image) if missing is None else np.isfinite(image) & ~missing
        return float((beyond & valid).sum() / max(1, int(valid.sum())))

    def visible(self, images: Tensor) -> Tensor:
        """Undo the normalisation of images (..., C, H, W) for display, and clip them to [0, 1]."""
        if self.mean is not None and self.std is not None:
            mean, std = (images.new_tensor(row).view(-1, 1, 1) for row in (self.mean, self.std))
            images = images * std + mean
        return images.clamp(0.0, 1.0)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON types, for :meth:`from_json`."""
        return {
            "resolution": list(self.resolution),
            "channels": self.channels,
            "value_range": None if self.value_range is None else list(self.value_range),
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "max_pixels": self.max_pixels,
            **({} if self.fill is None else {"fill": self.fill}),
            **({} if self.background is None else {"background": list(self.background)}),
        }

    @classmethod
    def from_json(cls, fields: object) -> Preprocessing:
        """Create a ``Preprocessing`` from the result of :meth:`as_json`.

        Raises:
            CheckpointError: If a field is missing, unknown or of a wrong type.
        """
        if not isinstance(fields, Mapping) or set(fields) - set(_FIELDS_IF_SET) != set(_FIELDS):
            raise CheckpointError(_DAMAGED, expected=f"the fields {_FIELDS}", received=f"{fields}")
        channels = fields["channels"]
        right = {
            "resolution": _is_row(fields["resolution"], 2, _is_size),
            "channels": _is_size(channels),
            "value_range": fields["value_range"] is None
            or (_is_row(fields["value_range"], 2, _is_finite) and fields["value_range"][0] < fields["value_range"][1]),
            "mean": (fields["mean"] is None) == (fields["std"] is None)
            and (fields["mean"] is None or _is_row(fields["mean"], channels, _is_finite)),
            "std": fields["std"] is None or (_is_row(fields["std"], channels, _is_finite) and min(fields["std"]) > 0),
            "max_pixels": _is_size(fields["max_pixels"]),
            "fill": fields.get("fill") is None or _is_finite(fields["fill"]),
            "background": fields.get("background") is None
            or any(_is_row(fields["background"], length, _is_finite) for length in (1, channels)),
        }
        wrong = [name for name in right if not right[name]]
        if wrong:
            received = ", ".join(f"{name}={fields.get(name)!r}" for name in wrong)
            raise CheckpointError(_DAMAGED, received=received)
        rows: dict[str, Any] = {
            name: None if fields.get(name) is None else tuple(float(number) for number in fields[name])
            for name in ("value_range", "mean", "std", "background")
        }
        height, width = fields["resolution"]
        rest: dict[str, Any] = {"max_pixels": fields["max_pixels"], "fill": fields.get("fill")}
        return cls((height, width), channels, **rest, **rows)

    def describe(self) -> str:
        """Return a one-line description."""
        height, width = self.resolution
        order = "" if height == width else " (height×width)"
        parts = [f"{height}×{width} pixels{order}", f"{self.channels} channel{'s' if self.channels > 1 else ''}"]
        if self.value_range is not None:
            parts.append(f"values from {self.value_range[0]:g} to {self.value_range[1]:g} scaled to [0, 1]")
        if self.mean is not None and self.std is not None:
            mean, std = (", ".join(f"{number:.3f}" for number in row) for row in (self.mean, self.std))
            parts.append(f"normalised with mean ({mean}) and std ({std})")
        if self.fill is not None:
            parts.append(f"missing pixels filled with {self.fill:g}")
        return ", ".join(parts)

    def scaling(self) -> str:
        """Return how values of files become values in [0, 1], as a phrase.

        Examples:
            >>> Preprocessing((32, 32), 1, (0.0, 4095.0), None, None).scaling()
            'values divided by 4095 and clipped to [0, 1] (8-bit values: divided by 255)'
        """
        if self.value_range is None:
            return "8-bit values divided by 255, 16-bit values by 65535"
        low, high = self.value_range
        how = f"divided by {high:.9g}" if low == 0 else f"scaled by (value - {low:.9g}) / {high - low:.9g}"
        return f"values {how} and clipped to [0, 1] (8-bit values: divided by 255)"

    def input_description(self, *, normalised: bool) -> str:
        """Return what a network of this training takes, in one line.

        Args:
            normalised: Whether the network itself subtracts ``mean`` and divides by ``std``.
        """
        height, width = self.resolution
        size = f"{height} px" if height == width else f"{height}×{width} px (height×width)"
        text = f"float32 (batch, {self.channels}, height, width), images of {size}, {self.scaling()}"
        if self.mean is None or self.std is None:
            return text
        return f"{text}; " + ("mean and std are part of the model" if normalised else "then (x - mean) / std")

    def metadata(self, *, normalised: bool) -> dict[str, str]:
        """Return the preprocessing as texts, for the metadata of an exported file; all but three are JSON.

        Args:
            normalised: Whether the network itself subtracts ``mean`` and divides by ``std``.
        """
        names = ("resolution", "channels", "value_range", "mean", "std")
        fields = self.as_json()
        return {
            "input": self.input_description(normalised=normalised),
            "resize": RESIZE,
            "normalization": "included" if normalised else "not included",
            **{name: json.dumps(fields[name]) for name in names},
        }

    def _check_finite(self, image: Image, missing: Mask | None) -> None:
        if self.fill is None and not_finite(image, missing) is not None:
            raise UnreadableImage(
                "Pixel values are not finite.",
                fix="Declare these pixels as no data in the file, pass fill= to replace them, or pass "
                'on_error="skip" to skip the image.',
            )

    def _filled(self, image: Image, missing: Mask | None) -> Image:
        """Replace missing and non-finite pixels by the fill value."""
        low = 0.0 if self.value_range is None or image.dtype == np.uint8 else self.value_range[0]
        value = low if self.fill is None else self.fill
        if image.dtype != np.float32:
            value = float(np.clip(np.rint(value), 0, np.iinfo(image.dtype).max))
        if missing is not None and missing.any():
            image = np.where(missing, image.dtype.type(value), image)
        bad = not_finite(image, None)
        return image if bad is None else np.where(bad, image.dtype.type(value), image)

    def _scaled(self, image: Image) -> Image:
        if image.dtype == np.uint8:
            return image
        values = image.astype(np.float32)
        full = (0.0, 65535.0) if image.dtype == np.uint16 else (0.0, 1.0)
        low, high = self.value_range or full
        values -= np.float32(low)
        values /= np.float32(high - low)
        np.clip(values, 0.0, 1.0, out=values)
        return values

    def _with_channels(self, image: Image) -> Image:
        found = image.shape[2]
        check_channels(found, self.channels)
        if found == self.channels:
            return image
        if found == 1:
            return np.repeat(image, self.channels, axis=2)
        grey: Image = (image.astype(np.float32) @ LUMA)[:, :, None]
        if image.dtype == np.uint8:
            return np.rint(grey).astype(np.uint8)
        return np.clip(grey, 0.0, 1.0)


def not_finite(image: Image, missing: Mask | None) -> Mask | None:
    """Return the mask of values that are neither finite nor missing; None if there are none."""
    if image.dtype != np.float32:
        return None
    with np.errstate(invalid="ignore"):
        if math.isfinite(float(image.min())) and math.isfinite(float(image.max())):  # allocates no mask
            return None
    bad = ~np.isfinite(image)
    if missing is not None:
        bad &= ~missing
    return bad if bad.any() else None


def check_channels(found: int, wanted: int) -> None:
    """Check that images with ``found`` channels can be converted to ``wanted`` channels.

    Raises:
        DataError: If ``found`` is neither 1 nor ``wanted``, unless 3 channels become 1.
    """
    if found not in (1, wanted) and (found, wanted) != (3, 1):
        raise DataError(
            f"An image has {found} channels, but the network takes {wanted}.",
            expected=f"images with {wanted} channels; grey images are repeated, and RGB can be converted to grey",
            fix="Use only images with the same number of channels, or pass `channels=`.",
        )


def _is_row(value: object, length: object, is_valid: Callable[[object], bool]) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length and all(map(is_valid, value))
