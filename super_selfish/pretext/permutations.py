"""Tables of permutations that differ in many places: the classes of a jigsaw puzzle.

The more places two permutations differ in (their Hamming distance), the less a network can tell them apart by a single
tile. The tables for 2 × 2 and 3 × 3 tiles are stored in ``permutations.npz``: groups of permutations, of which two
elements differ in many places, and the cosets of the largest. Tables of more tiles come from a greedy search.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from super_selfish.errors import ConfigurationError, DataError, check_argument, is_count, validate_keywords
from super_selfish.seeding import make_key, splitmix64

Table = npt.NDArray[np.int64]

_POOL = 4096  # permutations that the greedy search chooses from, at least
_STORED = Path(__file__).with_name("permutations.npz")


@validate_keywords()
def permutation_table(grid: int, total: int) -> Table:
    """Permutations of the ``grid`` · ``grid`` tiles of a puzzle, as different as a known construction makes them.

    Tile n goes to place ``table[row, n]``. The first row leaves everything in its place. The smallest number of places
    in which two rows differ is at least

    - 2 × 2 tiles: 4 up to 4 rows (rotations of the order), 3 up to 12 (the alternating group), else 2 (all 24 are in
      lexicographic order);
    - 3 × 3 tiles: 9 up to 9 rows (rotations of the order), 8 up to 72 (the affine group AGL(1, 9)), 7 up to 504
      (PGL(2, 8)), 6 up to 1,512 (PΓL(2, 8)); beyond, cosets of PΓL(2, 8) are added one by one, each as far from the
      others as possible: 4 up to 12,096 rows, 3 up to 181,440, and 2 for all 362,880;
    - more tiles: their number up to as many rows (rotations of the order); beyond, each row is the one of a pool of at
      least 4,096 that is farthest from those before it: at least 2.

    Where fewer rows are asked for than a group has, they are the first ones of a fixed order.

    Args:
        grid: Tiles along a side, at least 2.
        total: Rows, from 1 to the factorial of the number of tiles.

    Returns:
        Int64 (total, grid · grid), read-only; the same for the same arguments.

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> permutation_table(2, 24)[:3].tolist()
        [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3]]
        >>> table = permutation_table(3, 500)
        >>> min(int((row != other).sum()) for row in table[:50] for other in table[50:])
        7
    """
    check_argument(is_count(grid, 2), "grid", grid, "an integer of at least 2")
    most = math.factorial(grid * grid) if grid < 5 else math.inf
    expected = f"an integer from 1 to {most}: there are no more orders of {grid * grid} tiles"
    check_argument(is_count(total, 1) and total <= most, "total", total, expected)
    return _built(grid, total)


def read_table(path: str | os.PathLike[str], grid: int, total: int) -> Table:
    """The first rows of a user's table of permutations.

    Args:
        path: A ``.npy`` file of integers, one permutation of 0 .. grid · grid - 1 a row.
        grid: Tiles along a side.
        total: Rows that are used.

    Raises:
        DataError: If there is no such file, or it holds something else.
        ConfigurationError: If it has fewer rows than that.
    """
    tiles, named = grid * grid, os.fspath(path)
    try:
        table = np.load(named, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        expected = "a .npy file that numpy.save wrote of an array of integers"
        raise DataError(f"The table of permutations `{named}` cannot be read: {error}.", expected=expected) from error
    shape = getattr(table, "shape", ())
    message = f"`{named}` is no table of permutations."
    expected = f"integers of shape (permutations, {tiles}), each row the numbers 0 to {tiles - 1} in some order"
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "iu" or shape[1:] != (tiles,):
        received = f"{table.dtype} of shape {shape}" if isinstance(table, np.ndarray) else "an archive of arrays"
        raise DataError(message, expected=expected, received=received, fix="`crops` has to be the table's grid too.")
    wrong = np.flatnonzero((np.sort(table, axis=1) != np.arange(tiles)).any(axis=1))
    if wrong.size:
        from_one = bool((np.sort(table, axis=1) == np.arange(1, tiles + 1)).all())
        received = f"row {wrong[0]}: {table[wrong[0]].tolist()}"
        fix = "Its numbers begin with 1: subtract 1." if from_one else None
        raise DataError(message, expected=expected, received=received, fix=fix)
    if len(np.unique(table, axis=0)) < len(table):
        raise DataError(message, expected="rows that differ", received="a permutation that comes twice")
    if len(table) < total:
        raise ConfigurationError(
            f"`{named}` has too few permutations.",
            expected=f"at least total_perms={total}",
            received=f"{len(table)} rows",
            fix=f"Set total_perms={len(table)}.",
        )
    return _settled(table[:total])


@functools.lru_cache(maxsize=32)
def _built(grid: int, total: int) -> Table:
    tiles = grid * grid
    if total <= tiles:
        return _settled(_rotations(tiles)[:total])
    if grid > 3:
        return _settled(_farthest_first(tiles, total))
    if grid == 2 and total > 12:
        return _settled(np.array(list(itertools.permutations(range(4))))[:total])
    with np.load(_STORED, allow_pickle=False) as stored:
        if grid == 2:
            return _settled(stored["alternating_4"][:total])
        if total <= 72:
            return _settled(stored["affine_9"][:total])
        group = stored["projective_9"]
        leaders = stored["cosets_9"][: -(-total // len(group))]  # an element of each coset; the first is the identity
    return _settled(leaders[:, group].reshape(-1, 9)[:total])


def _settled(table: npt.NDArray[np.integer]) -> Table:
    made = np.array(table, np.int64)
    made.flags.writeable = False
    return made


def _rotations(tiles: int) -> Table:
    return (np.arange(tiles)[:, None] + np.arange(tiles)) % tiles


def _farthest_first(tiles: int, total: int) -> Table:
    """The rotations, and then of a pool whichever permutation differs from all before it in the most places."""
    count = max(_POOL, 2 * total)
    keys = splitmix64(make_key("permutations", tiles), count * tiles).reshape(count, tiles)
    pool = keys.argsort(axis=1).astype(np.uint16)
    table = np.empty((total, tiles), np.uint16)
    table[:tiles] = _rotations(tiles)
    nearest = np.full(count, tiles)
    for place in range(total):
        if place >= tiles:
            table[place] = pool[nearest.argmax()]
        np.minimum(nearest, (pool != table[place]).sum(axis=1), out=nearest)
    return table.astype(np.int64)
