"""Randomness by key instead of by stream.

Whatever is random in a run is a pure function of a key such as (seed, epoch, image index, view number). Nothing has to
be remembered: the same key gives the same draw in any process, in any order, before and after a restart.

A draw is a hash of the key and of a counter: BLAKE2b (RFC 7693), which Python has built in, gives eight 64-bit numbers
at a time. A key and fifteen draws, what a view needs, take 7 µs so, 27 µs with splitmix64 written in Python and 42 µs
with numpy's Philox. Whole arrays come from splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", 2014), started at one such draw.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.renamed import old_names

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_TO_UNIT = 2.0**-53
_BLOCK = struct.Struct("<8Q")
_HALVES = struct.Struct("<16I")


def _fold(parts: tuple[int | str, ...]) -> bytes:
    return ascii([part if isinstance(part, str) else int(part) for part in parts]).encode()


def make_key(*parts: int | str) -> int:
    """Fold integers and words into one 64-bit key.

    Examples:
        >>> make_key(0, 1, 2) == make_key(0, 1, 2), make_key(0, 1, 2) == make_key(0, 2, 1)
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(_fold(parts), digest_size=8).digest(), "little")


class KeyedGenerator:
    """Random draws that are a pure function of a key.

    Args:
        key: Integers and words.

    Examples:
        >>> KeyedGenerator(7, "crop").uniform() == KeyedGenerator(7, "crop").uniform()
        True
        >>> 0 <= KeyedGenerator(7, "crop").integer(10) < 10
        True
    """

    __slots__ = ("_block", "_draws", "_key")

    def __init__(self, *key: int | str) -> None:
        self._key = _fold(key)
        self._block = 0
        self._draws: list[int] = []

    def _refill(self) -> list[int]:
        block = hashlib.blake2b(b"%d%s" % (self._block, self._key)).digest()
        self._block += 1
        self._draws = list(_BLOCK.unpack(block))
        return self._draws

    def bits(self) -> int:
        """The next 64 random bits."""
        return (self._draws or self._refill()).pop()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float in [low, high)."""
        return low + (high - low) * (((self._draws or self._refill()).pop() >> 11) * _TO_UNIT)

    def sixteen(self) -> list[float]:
        """Sixteen floats in [0, 1) of 32 random bits each, at the cost of about three single draws."""
        block = hashlib.blake2b(b"%d%s" % (self._block, self._key)).digest()
        self._block += 1
        return [bits * 2.0**-32 for bits in _HALVES.unpack(block)]

    def integer(self, stop: int) -> int:
        """An integer in [0, stop)."""
        return ((self._draws or self._refill()).pop() * stop) >> 64

    def chance(self, probability: float) -> bool:
        """True with the given probability; never for 0, always for 1."""
        return self.uniform() < probability

    def uniforms(self, *shape: int) -> npt.NDArray[np.float64]:
        """An array of floats in [0, 1), which costs one draw of the stream."""
        bits = splitmix64(self.bits(), int(np.prod(shape, dtype=np.int64)))
        return ((bits >> np.uint64(11)).astype(np.float64) * _TO_UNIT).reshape(shape)

    def permutation(self, count: int) -> list[int]:
        """The numbers 0 .. count-1 in random order."""
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.integer(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


def splitmix64(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """The first ``count`` outputs of the generator for a 64-bit seed."""
    with np.errstate(over="ignore"):
        value = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value ^= value >> np.uint64(31)
    return value


def seed_everything(key: int) -> None:
    """Seed Python's, numpy's and torch's global generators, those of all devices in use included."""
    _seed_python_and_numpy(key)
    # torch.manual_seed() writes down the whole stack for devices that are not in use yet: up to a millisecond.
    in_use = torch.cuda.is_initialized() or torch.backends.mps.is_available() or torch.xpu.is_initialized()  # type: ignore[no-untyped-call]
    (torch.manual_seed if in_use else torch.default_generator.manual_seed)(key & (_MASK >> 1))


def _seed_python_and_numpy(key: int) -> None:
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)


@contextlib.contextmanager
def global_seed(key: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global generators from a key, and restore them afterwards.

    For code that is not ours (a user's data set or callable) and draws from the global generators. CUDA generators are
    left alone.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    _seed_python_and_numpy(key)
    torch.default_generator.manual_seed(key & (_MASK >> 1))
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


def generator_from_torch() -> KeyedGenerator:
    """A stream keyed by torch's global generator: how recipes draw when no loader gave them a key."""
    return KeyedGenerator(int(torch.randint(0, 2**63 - 1, ()).item()))


@contextlib.contextmanager
def keyed_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block all global generators are seeded; the user's states are restored afterwards."""
    key = make_key(seed, "run")
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), global_seed(key):
        seed_everything(key)
        yield


__getattr__ = old_names(__name__)
