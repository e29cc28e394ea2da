"""Tables of permutations with large Hamming distances: the classes of the jigsaw task.

The larger the Hamming distance of two permutations, the less a single tile suffices to distinguish them. The tables for
2 × 2 and 3 × 3 tiles are stored in ``permutations.npz``: permutation groups with large minimum distances, and the
cosets of the largest group. Tables for more tiles are the result of a greedy search.
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

_POOL = 4096  # minimum number of candidates of the greedy search
_STORED = Path(__file__).with_name("permutations.npz")


@validate_keywords()
def permutation_table(grid: int, total: int) -> Table:
    """Table of permutations of ``grid`` · ``grid`` tiles with large pairwise Hamming distances.

    Tile n moves to position ``table[row, n]``. The first row is the identity. The minimum Hamming distance between two
    rows is at least

    - 2 × 2 tiles: 4 up to 4 rows (cyclic shifts), 3 up to 12 rows (the alternating group), else 2 (up to all 24, in
      lexicographic order);
    - 3 × 3 tiles: 9 up to 9 rows (cyclic shifts), 8 up to 72 (the affine group AGL(1, 9)), 7 up to 504 (PGL(2, 8)), 6
      up to 1,512 (PΓL(2, 8)). Beyond, cosets of PΓL(2, 8) are added greedily by distance: 4 up to 12,096 rows, 3 up to
      181,440, and 2 for all 362,880;
    - more tiles: the number of tiles, up to as many rows (cyclic shifts). Beyond, each row is the one farthest from the
      previous rows in a pool of at least 4,096 permutations: at least 2.

    If ``total`` is smaller than a group, the first rows of a fixed order are returned.

    Args:
        grid: Number of tiles per side, at least 2.
        total: Number of rows, from 1 to the factorial of the number of tiles.

    Returns:
        Int64 array (total, grid · grid), read-only and deterministic.

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
    expected = f"an integer from 1 to {most}, the number of permutations of {grid * grid} tiles"
    check_argument(is_count(total, 1) and total <= most, "total", total, expected)
    return _built(grid, total)


def read_table(path: str | os.PathLike[str], grid: int, total: int) -> Table:
    """The first rows of a user-supplied table of permutations.

    Args:
        path: A ``.npy`` file of integers, with one permutation of 0 .. grid · grid - 1 per row.
        grid: Number of tiles per side.
        total: Number of rows to return.

    Raises:
        DataError: If the file does not exist, or is not a table of permutations.
        ConfigurationError: If it has fewer than ``total`` rows.
    """
    tiles, named = grid * grid, os.fspath(path)
    try:
        table = np.load(named, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        expected = "a .npy file with an array of integers, written by numpy.save"
        raise DataError(f"The table of permutations `{named}` cannot be read: {error}.", expected=expected) from error
    shape = getattr(table, "shape", ())
    message = f"`{named}` is not a table of permutations."
    expected = f"integers of shape (permutations, {tiles}), where each row is a permutation of 0 to {tiles - 1}"
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "iu" or shape[1:] != (tiles,):
        received = f"{table.dtype} of shape {shape}" if isinstance(table, np.ndarray) else "an archive of arrays"
        raise DataError(message, expected=expected, received=received, fix="Check that `crops` fits the table.")
    wrong = np.flatnonzero((np.sort(table, axis=1) != np.arange(tiles)).any(axis=1))
    if wrong.size:
        from_one = bool((np.sort(table, axis=1) == np.arange(1, tiles + 1)).all())
        received = f"row {wrong[0]}: {table[wrong[0]].tolist()}"
        fix = "The numbers start at 1: subtract 1." if from_one else None
        raise DataError(message, expected=expected, received=received, fix=fix)
    if len(np.unique(table, axis=0)) < len(table):
        raise DataError(message, expected="distinct rows", received="duplicate rows")
    if len(table) < total:
        raise ConfigurationError(
            f"`{named}` has too few permutations.",
            expected=f"at least total_perms={total}",
            received=f"{len(table)} rows",
            fix=f"Set total_perms={len(table)}.",
        )
    return _read_only(table[:total])


@functools.lru_cache(maxsize=32)
def _built(grid: int, total: int) -> Table:
    tiles = grid * grid
    if total <= tiles:
        return _read_only(_cyclic_shifts(tiles)[:total])
    if grid > 3:
        return _read_only(_farthest_first(tiles, total))
    if grid == 2 and total > 12:
        return _read_only(np.array(list(itertools.permutations(range(4))))[:total])
    with np.load(_STORED, allow_pickle=False) as stored:
        if grid == 2:
            return _read_only(stored["alternating_4"][:total])
        if total <= 72:
            return _read_only(stored["affine_9"][:total])
        group = stored["projective_9"]
        leaders = stored["cosets_9"][: -(-total // len(group))]  # one element per coset; the first is the identity
    return _read_only(leaders[:, group].reshape(-1, 9)[:total])


def _read_only(table: npt.NDArray[np.integer]) -> Table:
    copied = np.array(table, np.int64)
    copied.flags.writeable = False
    return copied


def _cyclic_shifts(tiles: int) -> Table:
    return (np.arange(tiles)[:, None] + np.arange(tiles)) % tiles


def _farthest_first(tiles: int, total: int) -> Table:
    """The cyclic shifts, followed by the permutation of a pool farthest from all previous rows, repeatedly."""
    count = max(_POOL, 2 * total)
    keys = splitmix64(make_key("permutations", tiles), count * tiles).reshape(count, tiles)
    pool = keys.argsort(axis=1).astype(np.uint16)
    table = np.empty((total, tiles), np.uint16)
    table[:tiles] = _cyclic_shifts(tiles)
    nearest = np.full(count, tiles)
    for place in range(total):
        if place >= tiles:
            table[place] = pool[nearest.argmax()]
        np.minimum(nearest, (pool != table[place]).sum(axis=1), out=nearest)
    return table.astype(np.int64)
