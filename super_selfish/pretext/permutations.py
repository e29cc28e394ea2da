"""Tables of permutations that differ in many places: the classes of a jigsaw puzzle.

The more places two permutations differ in (their Hamming distance), the less a network can tell them apart by a single
tile. Groups give such tables exactly: in a sharply k-transitive group, two permutations agree in at most k - 1 places.
"""

from __future__ import annotations

import functools
import itertools
import math
import os

import numpy as np
import numpy.typing as npt

from super_selfish.errors import ConfigurationError, DataError, check_argument, is_count
from super_selfish.seeding import make_key, splitmix64

Table = npt.NDArray[np.int64]

_POOL = 4096  # permutations that the greedy search chooses from, at least
_POWERS = (1, 2, 4, 3, 6, 7, 5)  # of x in GF(8) = GF(2)[x] / (x³ + x + 1), whose elements are written as bits
_LOGARITHMS = {value: power for power, value in enumerate(_POWERS)}
_INFINITY = 8  # the ninth point of the projective line over GF(8)
_SHIFT = 2  # x → 1 / (x + 2) runs through all nine points


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
    complaint = f"`{named}` is no table of permutations."
    expected = f"integers of shape (permutations, {tiles}), each row the numbers 0 to {tiles - 1} in some order"
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "iu" or shape[1:] != (tiles,):
        received = f"{table.dtype} of shape {shape}" if isinstance(table, np.ndarray) else "an archive of arrays"
        raise DataError(complaint, expected=expected, received=received, fix="`crops` has to be the table's grid too.")
    wrong = np.flatnonzero((np.sort(table, axis=1) != np.arange(tiles)).any(axis=1))
    if wrong.size:
        from_one = bool((np.sort(table, axis=1) == np.arange(1, tiles + 1)).all())
        received = f"row {wrong[0]}: {table[wrong[0]].tolist()}"
        fix = "Its numbers begin with 1: subtract 1." if from_one else None
        raise DataError(complaint, expected=expected, received=received, fix=fix)
    if len(np.unique(table, axis=0)) < len(table):
        raise DataError(complaint, expected="rows that differ", received="a permutation that comes twice")
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
    if grid == 2 and total > 4:
        every = _every(4)
        return _settled(every[[_is_even(row) for row in every]][:total] if total <= 12 else every[:total])
    if total <= tiles:
        return _settled(_rotations(tiles)[:total])
    if grid > 3:
        return _settled(_farthest_first(tiles, total))
    if total <= 72:
        return _settled(_affine_group()[:total])
    return _settled(_projective_group(1 if total <= 504 else 3)[:total] if total <= 1512 else _cosets(total))


def _settled(table: npt.NDArray[np.integer]) -> Table:
    made = np.array(table, np.int64)
    made.flags.writeable = False
    return made


def _every(tiles: int) -> Table:
    return np.array(list(itertools.permutations(range(tiles))))


def _rotations(tiles: int) -> Table:
    return (np.arange(tiles)[:, None] + np.arange(tiles)) % tiles


def _is_even(row: npt.NDArray[np.integer]) -> bool:
    return int((row[:, None] > row)[np.triu_indices(len(row), 1)].sum()) % 2 == 0


def _affine_group() -> Table:
    """The maps x → ax + b of GF(9) = GF(3)[i], i² = -1; the element u + vi is tile 3u + v.

    All b come for an a, then for the next: the first 9 rows put each tile in each place once.
    """
    u, v = np.divmod(np.arange(9), 3)
    rows = []
    for a, b in itertools.product((3, 1, 2, 4, 5, 6, 7, 8), range(9)):  # 3 is the number one
        (p, q), (r, s) = divmod(a, 3), divmod(b, 3)
        rows.append(3 * ((p * u - q * v + r) % 3) + (p * v + q * u + s) % 3)
    return np.stack(rows)


def _times(a: int, b: int) -> int:
    return 0 if a == 0 or b == 0 else _POWERS[(_LOGARITHMS[a] + _LOGARITHMS[b]) % 7]


def _turned(point: int) -> int:
    """The map x → 1 / (x + _SHIFT) of the projective line."""
    if point == _INFINITY:
        return 0
    shifted = point ^ _SHIFT
    return _INFINITY if shifted == 0 else _POWERS[-_LOGARITHMS[shifted] % 7]


def _projective_group(automorphisms: int) -> Table:
    """PGL(2, 8), and with 3 automorphisms PΓL(2, 8), as permutations of the nine points of the projective line.

    Points are numbered as a map of order 9 runs through them, from infinity on; so its powers rotate the numbers.
    Every element is one of these powers after x → a·x^e + b, with e = 1, or 1, 2 and 4. The first 9 rows put each tile
    in each place once, the first 72 each pair of tiles in each pair of places.
    """
    points = [_INFINITY]
    for _ in range(8):
        points.append(_turned(points[-1]))
    number = {point: place for place, point in enumerate(points)}
    powers = {point: point for point in points}
    rows = []
    for _ in range(automorphisms):
        for a, b in itertools.product(range(1, 8), range(8)):
            moved = {x: x if x == _INFINITY else _times(a, powers[x]) ^ b for x in points}
            rows.append([number[moved[point]] for point in points])
        powers = {x: x if x == _INFINITY else _times(y, y) for x, y in powers.items()}
    fixing = np.array(rows)
    turns = np.arange(9)[:, None]
    return ((fixing[:, None] + turns) % 9).reshape(-1, 9)


def _cosets(total: int) -> Table:
    """PΓL(2, 8) and its left cosets: the group first, then each coset at the largest distance from those before it.

    Every coset has three elements that leave tiles 0, 1 and 2 in their places; the first stands for it. From distance 3
    on, which all even permutations have from each other, they follow as they come, the odd ones last.
    """
    group = _projective_group(3)
    fixing = group[(group[:, :3] == np.arange(3)).all(axis=1)]
    leaders: dict[tuple[int, ...], bool] = {}
    for tail in itertools.permutations(range(3, 9)):
        row = np.array((0, 1, 2, *tail))
        if not any(tuple(row[other]) in leaders for other in fixing):
            leaders[tuple(row)] = _is_even(row)
    even = np.array([leader for leader, is_even in leaders.items() if is_even], np.uint8)
    odd = np.array([leader for leader, is_even in leaders.items() if not is_even], np.uint8)
    chosen, nearest = [0], np.full(len(even), 9)
    for _ in range(-(-total // len(group)) - 1):
        coset = even[chosen[-1]][group]
        nearest = np.minimum(nearest, [int((coset != leader).sum(axis=1).min()) for leader in even])
        if nearest.max() < 4:
            break
        chosen.append(int(nearest.argmax()))
    rest = [place for place in range(len(even)) if place not in chosen]
    ordered = np.concatenate([even[chosen], even[rest], odd])
    return ordered[: -(-total // len(group))][:, group].reshape(-1, 9)[:total]


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
