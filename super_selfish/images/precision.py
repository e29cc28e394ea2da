"""Conversion of values to float32, and notes on the precision that it loses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np
import numpy.typing as npt

from super_selfish.images.functional import Image

_EXACT = 1 << 24  # float32 represents all integers up to this value
_LEVELS = 256  # number of distinct levels that floats keep without a note

_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


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
    low, high = float(values.min()), float(values.max())  # type: ignore[attr-defined]
    top = max(abs(low), abs(high))
    if not np.isfinite([low, high]).all() or top > float(np.finfo(np.float32).max):
        return 0.0
    step = float(np.spacing(np.float32(top)))
    if values.dtype.kind == "f":
        return step if 0 < high - low < _LEVELS * step else 0.0
    return step if top > _EXACT and not _are_exact(values) else 0.0


def _are_exact(integers: npt.NDArray[np.generic]) -> bool:
    """Whether no integer has more significant bits than float32 stores."""
    sizes = np.abs(integers).astype(np.uint64)  # type: ignore[arg-type]
    lowest_bits = np.maximum(sizes & (~sizes + np.uint64(1)), np.uint64(1))
    return bool((sizes // lowest_bits <= _EXACT).all())
