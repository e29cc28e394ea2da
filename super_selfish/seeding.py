"""Randomness by key instead of by stream.

Whatever is random in a run is a pure function of a key such as (seed, epoch, image index, view number). Nothing has to
be remembered: the same key gives the same draw in any process, in any order, before and after a restart.

The generator is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the n-th
output is a bijective mix of ``key + n * GOLDEN``, hence a counter-based generator that costs no set-up. A key and
fifteen draws, what a view needs, took 27 µs with it and 42 µs with numpy's Philox.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_TO_UNIT = 2.0**-53


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def make_key(*parts: int | str) -> int:
    """Fold integers and words into one 64-bit key.

    Example:
        >>> make_key(0, 1, 2) == make_key(0, 1, 2), make_key(0, 1, 2) == make_key(0, 2, 1)
        (True, False)
    """
    key = 0
    for part in parts:
        number = int.from_bytes(part.encode(), "little") if isinstance(part, str) else part
        sign = 1 if number < 0 else 0
        number = abs(number)
        while True:  # numbers wider than 64 bits are folded in word by word
            key = _mix((key + _GOLDEN + (number & _MASK)) & _MASK)
            number >>= 64
            if number == 0:
                break
        key = _mix((key + _GOLDEN + sign) & _MASK)
    return key


class Stream:
    """Random draws that are a pure function of a key.

    Args:
        key: The parts of the key, folded by :func:`make_key`.

    Example:
        >>> Stream(7, "crop").uniform() == Stream(7, "crop").uniform()
        True
        >>> 0 <= Stream(7, "crop").integer(10) < 10
        True
    """

    __slots__ = ("_state", "key")

    def __init__(self, *key: int | str) -> None:
        self.key = make_key(*key)
        self._state = self.key

    def bits(self) -> int:
        """The next 64 random bits."""
        self._state = (self._state + _GOLDEN) & _MASK
        return _mix(self._state)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float in [low, high)."""
        return low + (high - low) * ((self.bits() >> 11) * _TO_UNIT)

    def integer(self, stop: int) -> int:
        """An integer in [0, stop)."""
        return (self.bits() * stop) >> 64

    def chance(self, probability: float) -> bool:
        """True with the given probability; never for 0, always for 1."""
        return self.uniform() < probability

    def uniforms(self, *shape: int) -> npt.NDArray[np.float64]:
        """An array of floats in [0, 1): the same numbers that as many calls of :meth:`uniform` would give."""
        count = int(np.prod(shape, dtype=np.int64))
        with np.errstate(over="ignore"):
            steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
            value = np.uint64(self._state) + steps
            value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            value ^= value >> np.uint64(31)
        self._state = (self._state + count * _GOLDEN) & _MASK
        return ((value >> np.uint64(11)).astype(np.float64) * _TO_UNIT).reshape(shape)

    def permutation(self, count: int) -> list[int]:
        """The numbers 0 .. count-1 in random order."""
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.integer(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


@contextlib.contextmanager
def global_seed(key: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global generators from a key, and restore them afterwards.

    For code that is not ours (a user's data set or callable) and draws from the global generators. CUDA generators are
    left alone.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    torch.default_generator.manual_seed(key & (_MASK >> 1))
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


def stream_from_torch() -> Stream:
    """A stream keyed by torch's global generator: how recipes draw when no loader gave them a key."""
    return Stream(int(torch.randint(0, 2**63 - 1, ()).item()))
