"""CSV files that list images and labels: reading and writing."""

from __future__ import annotations

import codecs
import collections
import contextlib
import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.file_sources import FileSource, with_slashes
from super_selfish.datasets.folders import Paths
from super_selfish.datasets.image_source import NO_LABEL, ImageSource
from super_selfish.errors import DataError
from super_selfish.files import replacing
from super_selfish.images.formats import EXTENSIONS
from super_selfish.images.image_files import printable

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category")


def open_table(table: Path, max_pixels: int) -> ImageSource:
    """Open the images listed in a CSV file, with their labels; paths are relative to the folder of the CSV file.

    Raises:
        DataError: If the table cannot be read, is empty, has no column of paths, or none of its files exists.
    """
    rows = _rows(table)
    first = [cell.strip().lower() for cell in rows[0]] if rows else []
    path_column = next((first.index(name) for name in PATH_COLUMNS if name in first), None)
    label_column = next((first.index(name) for name in LABEL_COLUMNS if name in first), None)
    if path_column is not None:
        rows = rows[1:]
    elif first and first[0].endswith(EXTENSIONS):
        path_column, label_column = 0, 1 if len(first) > 1 else None
    elif first:
        raise DataError(
            f"`{printable(table)}` has no column of paths.",
            expected=f"a column named {', '.join(PATH_COLUMNS)}, or no header and paths in the first column",
            received=f"the first row {rows[0]}",
        )
    if not rows or path_column is None:
        raise DataError(f"`{printable(table)}` lists no images.")
    root = str(table.parent)
    rows = _decoded(rows, path_column, label_column, table)
    paths = [_path(row, path_column, root) for row in rows]
    if "" in paths:
        raise DataError(f"Entry {paths.index('') + 1} of `{printable(table)}` has no path.")
    files = FileSource(root, Paths.of([_as_bytes(with_slashes(root, path)) for path in paths]), max_pixels)
    _check_some_exist(files, table)
    words = [""] * len(rows) if label_column is None else [_cell(row, label_column) for row in rows]
    source = files if label_column is None else files.with_labels(*number_labels(words))
    source.remarks = tuple(_remarks(source, words))
    return source


def _as_bytes(path: str | os.PathLike[str]) -> bytes:
    """Encode a path of a table for the file system; bytes that are not UTF-8 are preserved."""
    return os.fspath(path).encode("utf-8", "surrogateescape") if os.name != "nt" else os.fsencode(path)


def _text(table: Path) -> str:
    """Read the text of a table: UTF-8, or UTF-16 with a byte order mark, which spreadsheets write.

    Raises:
        DataError: If the table is UTF-16 without a byte order mark, or not text.
    """
    content = table.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    if b"\0" in content:
        raise DataError(
            f"`{printable(table)}` is not a UTF-8 text file.",
            received="zero bytes, as in UTF-16 without a byte order mark, or in a spreadsheet file",
            fix="Save it as CSV in UTF-8.",
        )
    return content.decode("utf-8-sig", "surrogateescape")


def _decoded(rows: list[list[str]], path_column: int, label_column: int | None, table: Path) -> list[list[str]]:
    """Decode rows that are not UTF-8: as Windows-1252 if all files of these rows exist by these names.

    Raises:
        DataError: If paths or labels are not UTF-8, and no files confirm their bytes or Windows-1252.
    """
    cells = [(_cell(row, path_column), "" if label_column is None else _cell(row, label_column)) for row in rows]
    odd = [path for path, _ in cells if _is_escaped(path)]
    wrong = next((cell for pair in cells for cell in pair if _is_escaped(cell)), None)
    if wrong is None or any(_exists(table, path) for path in odd):  # names of files of any bytes
        return rows
    with contextlib.suppress(UnicodeDecodeError):
        western = [[_bytes(cell).decode("cp1252") for cell in row] for row in rows]
        if odd and all(_exists(table, _bytes(path).decode("cp1252")) for path in odd):
            return western
    raise DataError(
        f"The encoding of `{printable(table)}` is not UTF-8.",
        received=f"the bytes {_bytes(wrong)!r}, perhaps in Windows-1252 or Latin-1",
        fix='Save it as "CSV UTF-8", or convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD.csv > NEW.csv.',
    )


def _is_escaped(cell: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in cell)


def _bytes(cell: str) -> bytes:
    return cell.encode("utf-8", "surrogateescape")


def _exists(table: Path, path: str) -> bool:
    return os.path.exists(os.path.join(table.parent, with_slashes(str(table.parent), path)))  # noqa: PTH110, PTH118


def _remarks(source: ImageSource, words: Sequence[str]) -> Iterator[str]:
    """What is doubtful about the rows of a table: files that are listed twice, and numbers with leading zeros."""
    names = collections.Counter(source.name(index) for index in range(len(source)))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
        yield f"{printable(twice[0])}{more} is listed more than once; each row is an image of its own."
    if source.class_names is None:
        numbers: dict[int, set[str]] = {}
        for word in {word for word in words if word.isdecimal()}:
            numbers.setdefault(int(word), set()).add(word)
        for number, forms in numbers.items():
            if len(forms) > 1:
                yield f"the labels {' and '.join(sorted(forms))} are read as the same class, {number}."


def _rows(table: Path) -> list[list[str]]:
    try:
        lines = io.StringIO(_text(table), newline="")  # other line separators of Unicode may be part of a name
        head = lines.readline()
        lines.seek(0)
        delimiter = max(",;\t", key=head.count)
        return [row for row in csv.reader(lines, delimiter=delimiter) if any(cell.strip() for cell in row)]
    except (OSError, csv.Error) as error:
        raise DataError(f"`{printable(table)}` cannot be read: {error}.") from error


def _cell(row: list[str], column: int) -> str:
    return row[column].strip() if column < len(row) else ""


def _path(row: list[str], column: int, root: str) -> str:
    """A path of a table without the spaces around it, unless a file has them in its name."""
    stripped = _cell(row, column)
    given = row[column] if column < len(row) else ""
    return given if given != stripped and os.path.exists(os.path.join(root, given)) else stripped  # noqa: PTH110, PTH118


def _check_some_exist(source: FileSource, table: Path) -> None:
    tried = sorted({(len(source) - 1) * step // 15 for step in range(16)})
    if not any(os.path.exists(source.path(index)) for index in tried):  # noqa: PTH110
        raise DataError(
            f"None of {len(tried)} files listed in `{printable(table)}` exists.",
            expected=f"absolute paths, or paths relative to `{printable(table.parent)}`",
            received=printable(source.path(0)),
            fix="Replace Windows paths with a drive letter by relative paths."
            if re.match(r"[A-Za-z]:[\\/]", source.name(0))
            else None,
        )


def number_labels(words: Sequence[str]) -> tuple[npt.NDArray[np.int64], tuple[str, ...] | None]:
    """Convert labels to integers; labels that are not all integers are numbered in sorted order; empty: no label.

    Beside numbers, ``nan`` is no label. Integers may be written as floats, as pandas does where a label is missing.

    Examples:
        >>> labels, names = number_labels(["2.0", "nan", "7"])
        >>> labels[[0, 2]], labels[1] == NO_LABEL, names
        (array([2, 7]), np.True_, None)
    """
    given = [word for word in words if word and word.lower() != "nan"]
    if given and all(re.fullmatch(r"[+-]?\d+(\.\d*)?", word) for word in given):
        words = ["" if word.lower() == "nan" else word for word in words]
    if all(re.fullmatch(r"[+-]?\d{1,18}(\.0*)?", word) for word in words if word):
        return np.array([int(word.split(".")[0]) if word else NO_LABEL for word in words], np.int64), None
    names = sorted({word for word in words if word})
    number = {name: place for place, name in enumerate(names)}
    return np.array([number.get(word, NO_LABEL) for word in words], np.int64), tuple(names)


class TableRows:
    """Rows of a CSV file for images of a source: path and, if the images have labels, class name.

    Paths of images below the folder of the CSV file are relative to it; others are absolute.

    Args:
        source: Image files.
        table: Path of the CSV file.

    Attributes:
        header: The column names, ``path`` and possibly ``label``.
    """

    def __init__(self, source: FileSource, table: Path) -> None:
        self._source = source
        self._folder = os.path.join(os.path.realpath(table.parent), "")  # noqa: PTH118
        self._root = os.path.realpath(source.root)
        self._is_labelled = source.class_names is not None or source.label(0) is not None
        self.header = ["path", "label"] if self._is_labelled else ["path"]

    def row(self, index: int) -> list[str]:
        """The row of image ``index``."""
        path = os.path.join(self._root, self._source.name(index))  # noqa: PTH118
        row = [path.removeprefix(self._folder)]
        return [*row, self._class_name(self._source.label(index))] if self._is_labelled else row

    def _class_name(self, label: int | None) -> str:
        names = self._source.class_names
        return "" if label is None else str(label) if names is None else names[label]


def as_csv(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as CSV in UTF-8. Text is quoted, so that any file name is read back unchanged."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def write_table(source: FileSource, indices: Iterable[int], table: Path) -> None:
    """Write a CSV file that lists images of a source, to be opened by :func:`open_table`.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    rows = TableRows(source, table)
    with replacing(table) as temporary:
        temporary.write_bytes(as_csv([rows.header, *map(rows.row, indices)]))
