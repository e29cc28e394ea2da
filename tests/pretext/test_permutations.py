"""Tables of permutations."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from super_selfish.data import permutation_table
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.pretext.permutations import _built, read_table


def least_distance(table: np.ndarray) -> int:
    rows = table.astype(np.uint8)
    return min(int((rows[:place] != rows[place]).sum(axis=1).min()) for place in range(1, len(rows)))


@pytest.mark.parametrize(
    ("grid", "total", "promised"),
    [
        *((2, total, promised) for total, promised in ((2, 4), (4, 4), (5, 3), (12, 3), (13, 2), (24, 2))),
        *((3, total, promised) for total, promised in ((2, 9), (9, 9), (10, 8), (72, 8), (73, 7), (100, 7), (504, 7))),
        *((3, total, promised) for total, promised in ((505, 6), (1512, 6), (1513, 4), (3100, 4))),
        *((4, total, promised) for total, promised in ((16, 16), (17, 2), (200, 2))),
    ],
)
def test_rows_are_different_permutations_as_far_apart_as_promised(grid: int, total: int, promised: int) -> None:
    table = permutation_table(grid, total)
    assert table.shape == (total, grid * grid)
    assert np.array_equal(np.sort(table, axis=1), np.tile(np.arange(grid * grid), (total, 1)))
    assert table[0].tolist() == list(range(grid * grid))
    assert len(np.unique(table, axis=0)) == total
    found = least_distance(table)
    assert found == promised if grid < 4 or total <= 16 else found >= 10
    _built.cache_clear()
    assert np.array_equal(table, permutation_table(grid, total))


def test_all_orders_of_four_tiles_are_lexicographic() -> None:
    assert permutation_table(2, 24).tolist() == [list(row) for row in itertools.permutations(range(4))]
    assert np.array_equal(permutation_table(2, 17), permutation_table(2, 24)[:17])


@pytest.mark.parametrize(("grid", "most", "total"), [(3, 504, 100), (3, 1512, 600), (3, 72, 30), (2, 12, 7)])
def test_fewer_rows_are_the_first_of_a_fixed_order(grid: int, most: int, total: int) -> None:
    assert np.array_equal(permutation_table(grid, most)[:total], permutation_table(grid, total))


@pytest.mark.parametrize(("grid", "total"), [(2, 12), (3, 72), (3, 504), (3, 1512)])
def test_stored_tables_are_groups(grid: int, total: int) -> None:
    table = permutation_table(grid, total)
    elements = {tuple(row) for row in table.tolist()}
    assert {tuple(row) for row in table[:, table[total // 2]].tolist()} == elements
    assert all(tuple(table[total // 3][row].tolist()) in elements for row in table)


def test_the_largest_table_has_all_orders_of_nine_tiles() -> None:
    table = permutation_table(3, 362_880)
    assert len(np.unique(table @ 10 ** np.arange(9))) == 362_880
    assert np.array_equal(table[:13_000], permutation_table(3, 13_000))


def test_each_tile_comes_to_each_place_equally_often() -> None:
    for total in (9, 45, 90, 504, 900):
        table = permutation_table(3, total)
        for tile in range(9):
            assert np.bincount(table[:, tile]).tolist() == [total // 9] * 9


def test_large_tables_hold_the_even_permutations_first() -> None:
    table = permutation_table(3, 13_000)
    assert len(np.unique(table, axis=0)) == 13_000
    inversions = sum((table[:, [a]] > table[:, [b]])[:, 0].astype(int) for a, b in itertools.combinations(range(9), 2))
    assert (inversions % 2 == 0).all(), "even permutations differ in at least 3 places"
    rows = table[:12_096].astype(np.uint8)
    assert min((rows[:place] != rows[place]).sum(axis=1).min() for place in range(1513, 12_096, 500)) == 4


def test_tables_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        permutation_table(2, 24)[0, 0] = 3


@pytest.mark.parametrize(("grid", "total"), [(1, 1), (2, 0), (2, 25), (3, 362_881), (2.0, 3), (True, 1), (2, "4")])
def test_arguments_out_of_range_raise(grid: int, total: int) -> None:
    with pytest.raises(ConfigurationError, match=r"`(grid|total)` is out of range. Expected: an integer"):
        permutation_table(grid, total)


def test_custom_table(tmp_path: Path) -> None:
    path = tmp_path / "table.npy"
    np.save(path, np.array([[3, 2, 1, 0], [0, 1, 2, 3], [1, 0, 2, 3]], np.uint8))
    table = read_table(path, 2, 2)
    assert table.tolist() == [[3, 2, 1, 0], [0, 1, 2, 3]]
    assert table.dtype == np.int64
    with pytest.raises(ConfigurationError, match=r"too few.*total_perms=4.*Received: 3 rows. Set total_perms=3"):
        read_table(path, 2, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([[0, 1, 2, 3.0]]), "Received: float64 of shape"),
        (np.array([[True] * 4]), "Received: bool"),
        (np.array([0, 1, 2, 3]), r"Expected: integers of shape \(permutations, 4\)"),
        (np.arange(9)[None], "`crops`"),
        (np.array([[0, 1, 2, 3], [0, 1, 1, 3]]), r"Received: row 1: \[0, 1, 1, 3\]"),
        (np.array([[-1, 0, 1, 2]]), "row 0"),
        (np.array([[1, 2, 3, 4], [2, 1, 3, 4]]), "subtract 1"),
        (np.array([[0, 1, 2, 3], [0, 1, 2, 3]]), "duplicate"),
        (np.array([[0, 1, 2, None]], object), "cannot be read"),
    ],
)
def test_invalid_tables_raise(tmp_path: Path, content: np.ndarray, message: str) -> None:
    np.save(tmp_path / "table.npy", content, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "table.npy", 2, 1)


def test_files_without_an_array_raise(tmp_path: Path) -> None:
    np.savez(tmp_path / "table.npz", table=np.arange(4))
    (tmp_path / "text.npy").write_text("0 1 2 3")
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(DataError, match="an archive of arrays"):
        read_table(tmp_path / "table.npz", 2, 1)
    for name in ("text.npy", "empty.npy", "missing.npy"):
        with pytest.raises(DataError, match=rf"`.*{name}` cannot be read"):
            read_table(tmp_path / name, 2, 1)
