"""Conversion of one image in memory to a canonical array.

A canonical image is an H×W×C array: C-contiguous, of dtype uint8, uint16 or float32, with 1 to 64 channels. It does
not share memory with its input.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow

from super_selfish.errors import DataError, validate_keywords
from super_selfish.images.exif import exif_orientation
from super_selfish.images.functional import Image

MAX_CHANNELS = 64
ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV"})
GREY_MODES = frozenset({"1", "L", "LA", "La"})

_EXACT = 1 << 24  # float32 represents all integers up to this value
_LEVELS = 256  # number of distinct levels that floats keep without a note

_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def channels_last(shape: Sequence[int], default_last: bool) -> bool:
    """Infer from the sizes of three axes whether they are H×W×C (True) or C×H×W (False).

    The criteria, in order: a valid number of channels; a square image; 1, 3 or 4 channels; at most 16 channels; the
    default.

    Args:
        shape: Sizes of the three axes.
        default_last: Value to return if the sizes are ambiguous.

    Raises:
        DataError: If neither the first nor the last axis can be the channels, or if only the axis that is not the
            default can be, but is as likely a height or width.
    """
    first, middle, last = shape

    def rank(channels: int, square: bool) -> tuple[bool, bool, bool, bool]:
        return (not 1 <= channels <= MAX_CHANNELS, not square, channels not in (1, 3, 4), channels > 16)

    rank_first, rank_last = rank(first, middle == last), rank(last, first == middle)
    expected, other = (rank_last, rank_first) if default_last else (rank_first, rank_last)
    size, far = (first, last) if default_last else (last, first)
    doubtful = size not in (1, 3, 4) and (size == middle or (size > 16 and middle != far))
    if expected[0] and (other[0] or doubtful):
        raise DataError(
            "The image has no axis that can be its channels.",
            expected=f"H×W×C or C×H×W with 1 to {MAX_CHANNELS} channels",
            received=f"an image of shape {tuple(shape)}",
            fix=None
            if other[0]
            else "Select channels, or move the axis of channels to the "
            f"{'end' if default_last else 'front'} (np.moveaxis, torch.movedim).",
        )
    return default_last if rank_first == rank_last else rank_last < rank_first


@contextlib.contextmanager
def precision_notes() -> Iterator[list[str]]:
    """Collect the notes on precision that conversions within the block lose; they go into the list that is returned.

    Examples:
        >>> with precision_notes() as notes:
        ...     values = to_float32(np.array([0, 2**24 + 1], np.uint32))
        >>> notes[0][:52]
        'values up to 1.67772e+07 are rounded to multiples of'
    """
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def to_float32(values: npt.NDArray[np.generic]) -> Image:
    """Convert real numbers to float32; a loss of precision that changes an image becomes a note."""
    with np.errstate(over="ignore"):  # infinities raise an error later, where the file name is known
        converted = values.astype(np.float32, copy=False)
    notes = _notes.get()
    if notes is not None and values.size and values.dtype.itemsize > 2 and values.dtype != np.float32:
        step = _lost(values)
        if step:
            notes.append(
                f"values up to {float(np.abs(converted).max()):g} are rounded to multiples of {step:g}, as they are "
                "converted to float32; save them with an offset subtracted, or as float32 or uint16, to choose how"
            )
    return converted


def _lost(values: npt.NDArray[np.generic]) -> float:
    """Return the distance of neighbouring numbers in float32 if the conversion changes an image, else 0."""
    low, high = float(values.min()), float(values.max())
    top = max(abs(low), abs(high))
    if not np.isfinite([low, high]).all() or top > float(np.finfo(np.float32).max):
        return 0.0
    step = float(np.spacing(np.float32(top)))
    if values.dtype.kind == "f":
        return step if 0 < high - low < _LEVELS * step else 0.0
    return step if top > _EXACT and not _are_exact(values) else 0.0


def _are_exact(integers: npt.NDArray[np.generic]) -> bool:
    """Whether no integer has more significant bits than float32 stores."""
    sizes = np.abs(integers).astype(np.uint64)
    lowest_bits = np.maximum(sizes & (~sizes + np.uint64(1)), np.uint64(1))
    return bool((sizes // lowest_bits <= _EXACT).all())


def canonical_values(array: npt.NDArray[np.generic]) -> Image:
    """Convert an array of any real dtype to uint8, uint16 or float32 without clipping.

    Booleans become 0 and 255. Other integers become uint16 if all values fit, else float32.

    Raises:
        DataError: If the dtype is not a real number type.
    """
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint8:
        return np.asarray(array)
    if array.dtype.newbyteorder("=") == np.uint16:
        return array.astype(np.uint16, copy=False)
    if kind in "iu":
        fits = array.size > 0 and int(array.min()) >= 0 and int(array.max()) <= 65535
        return array.astype(np.uint16) if fits else to_float32(array)
    if kind == "f":
        return to_float32(array)
    raise DataError("Pixel values must be real numbers.", received=f"an array of dtype {array.dtype}")


def canonical(array: npt.NDArray[np.generic]) -> Image:
    """Convert an H×W or H×W×C array of any real dtype to a canonical image; the data is always copied.

    Raises:
        DataError: If the array is empty, has more than 64 channels or another number of axes.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape or array.shape[2] > MAX_CHANNELS:
        raise DataError(
            "The array is not an image.",
            expected=f"H×W or H×W×C with at least one pixel and 1 to {MAX_CHANNELS} channels",
            received=f"shape {array.shape}",
        )
    values = canonical_values(array)
    if np.may_share_memory(values, array):
        return np.array(values, order="C", copy=True)
    return np.ascontiguousarray(values)


def has_alpha(image: Pillow.Image) -> bool:
    """Whether a Pillow image has an alpha channel or a transparent colour."""
    return image.mode in ALPHA_MODES or "transparency" in image.info


def blended(image: Image, background: Sequence[float]) -> Image:
    """Composite an image, whose last channel is alpha, over a background colour.

    Args:
        image: H×W×(C+1).
        background: Values in [0, 1]: one per channel, or one for all C channels.
    """
    white = 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)
    behind = np.asarray(background, np.float32) * np.float32(white)
    opacity = image[:, :, -1:].astype(np.float32) / np.float32(white)
    mixed = behind + opacity * (image[:, :, :-1].astype(np.float32) - behind)
    if image.dtype == np.float32:
        return np.ascontiguousarray(mixed)
    return np.clip(np.rint(mixed), 0, white).astype(image.dtype)


def from_pillow(image: Pillow.Image, alpha: bool = False) -> Image:
    """Convert a Pillow image to a canonical image; palette, CMYK, YCbCr and HSV images become RGB.

    Args:
        image: Pillow image.
        alpha: Keep transparency as the last channel instead of dropping it.

    Raises:
        DataError: If the mode is not supported (for example CIE Lab).
    """
    mode = image.mode
    if alpha and has_alpha(image):
        return canonical(np.asarray(image.convert("LA" if mode in GREY_MODES else "RGBA")))
    if mode in ("1", "L", "RGB", "I", "F") or mode.startswith("I;16"):
        return canonical(np.asarray(image))
    if mode in ("LA", "La"):
        return canonical(np.asarray(image)[:, :, 0])
    if mode in ("RGBA", "RGBX"):
        return canonical(np.asarray(image)[:, :, :3])
    if mode in ("P", "PA", "RGBa"):  # via RGBA; otherwise Pillow blends transparent colours, or warns about them
        return canonical(np.asarray(image.convert("RGBA"))[:, :, :3])
    if mode in COLOUR_MODES:
        return canonical(np.asarray(image.convert("RGB")))
    raise DataError(
        f"Images in colour mode {mode} are not supported.",
        expected="grey, RGB, palette, CMYK, YCbCr or HSV, with or without alpha",
        fix="Convert them to RGB first.",
    )


def apply_orientation(image: Image, orientation: int) -> Image:
    """Apply an EXIF orientation.

    1: none, 2: mirrored, 3: rotated by 180°, 4: flipped vertically, 5 to 8: the same with the axes transposed.
    """
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image if image.flags.owndata and image.flags.c_contiguous else np.array(image, order="C")


def to_numpy(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    """Convert a tensor on any device to an array; bfloat16, which NumPy does not support, becomes float32."""
    tensor = tensor.detach().cpu()
    array: npt.NDArray[np.generic] = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return array


@validate_keywords()
def to_image(value: object) -> Image:
    """Convert one image in memory to a canonical array.

    Args:
        value: A PIL image, a tensor (C×H×W or H×W) or an array (H×W×C or H×W) of booleans, integers or floats of any
            width. The other channel order is accepted if it is clear from the sizes.

    Returns:
        H×W×C, C-contiguous, of dtype uint8, uint16 or float32; always a copy. Values are not rescaled.

    Raises:
        DataError: If ``value`` is not an image.

    Examples:
        >>> import numpy as np
        >>> to_image(np.zeros((3, 40, 50), np.float64)).shape
        (40, 50, 3)
    """
    if isinstance(value, Pillow.Image):
        return apply_orientation(from_pillow(value), exif_orientation(value))
    if isinstance(value, torch.Tensor):
        array, default_last = to_numpy(value), False
    elif isinstance(value, np.ndarray):
        array, default_last = value, True
    else:
        raise DataError(
            "The object is not an image.",
            expected="a PIL image, a tensor (C×H×W or H×W) or an array (H×W×C or H×W)",
            received=f"{type(value).__module__}.{type(value).__qualname__}",
        )
    if array.ndim == 3 and 0 not in array.shape and not channels_last(array.shape, default_last):
        array = np.moveaxis(array, 0, -1)
    return canonical(array)


def check_white(value: object, image: Image) -> None:
    """Raise an error for images whose value range is unknown.

    Args:
        value: The image as passed by the user.
        image: The same image as a canonical array.

    Raises:
        DataError: If the image is neither uint8, nor uint16, nor floats in [0, 1].
    """
    kind = str(getattr(value, "dtype", "uint8")).removeprefix("torch.")
    is_valid = kind in ("uint8", "uint16", "bool")
    if "float" in kind:
        is_valid = bool(image.min() >= -1e-3 and image.max() <= 1.001)
    if not is_valid:
        received = f"{kind} from {image.min():g} to {image.max():g}"
        expected = "uint8, uint16, or floats in [0, 1]"
        raise DataError("The value range of the image is unknown.", expected=expected, received=received)
