"""Images in files: a folder, a list of paths, or a table of paths and labels."""

from __future__ import annotations

import bisect
import codecs
import contextlib
import copy
import csv
import hashlib
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.folder_cache import index_folder
from super_selfish.datasets.folders import Groups, Paths, class_folders, describe_left_out, may_be_missed
from super_selfish.datasets.image_source import NO_LABEL, ImageSource
from super_selfish.distributed import rank
from super_selfish.errors import DataError
from super_selfish.images.formats import EXTENSIONS
from super_selfish.images.functional import Image
from super_selfish.images.image_files import Header, decode, inspect_image, printable

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category")
_SAMPLED, _SAMPLE = 64, 1024  # files and bytes of them that tell whether contents are the same
_SIZES_UP_TO = 20_000  # asking for the size of a file takes longer than reading its name

_reported: set[tuple[str, str]] = set()

logger = logging.getLogger("super_selfish")


class FileSource(ImageSource):
    """Images in files below one folder.

    Args:
        root: The folder that relative paths start from; empty for the working folder.
        paths: The files.
        max_pixels: The largest image that is decoded.
        groups: The class folders, if the paths are sorted and lie in such.
    """

    kind = "files"
    thread_safe = True
    _cover: tuple[int, int] | None = None
    _keys: npt.NDArray[np.int64] | None = None

    def __init__(self, root: str, paths: Paths, max_pixels: int, groups: Groups | None = None) -> None:
        self.root = root
        self.paths = paths
        self.max_pixels = max_pixels
        self._groups = groups
        self.class_names = groups.names if groups else None

    def __len__(self) -> int:
        """The number of files."""
        return len(self.paths)

    def path(self, index: int) -> str:
        """Where file ``index`` is; undecodable bytes as surrogates, as everywhere in Python."""
        return os.path.join(self.root, os.fsdecode(self.paths[index]))  # noqa: PTH118  (an empty root)

    def read(self, index: int) -> Image:
        """Decode file ``index``."""
        image, alpha = decode(self.path(index), self.max_pixels, cover=self._cover)
        self._log_alpha(alpha)
        return image

    def header(self, index: int) -> Header:
        """What file ``index`` holds, from its first bytes."""
        header, alpha = inspect_image(self.path(index), self.max_pixels)
        self._log_alpha(alpha)
        return header

    def covering(self, resolution: tuple[int, int]) -> FileSource:
        """The same files; a JPEG is decoded at reduced scale where that still covers the resolution."""
        other = copy.copy(self)
        other._cover = resolution
        return other

    def name(self, index: int) -> str:
        """The path of file ``index``: relative to a folder, as given in a list or table."""
        return os.fsdecode(self.paths[index])

    def label(self, index: int) -> int | None:
        """The number of the class folder or of the table's label, if there is one."""
        if self._groups is None or self._labels is not None:
            return super().label(index)
        return self._groups.numbers[bisect.bisect_right(self._groups.starts, index) - 1]

    def fingerprint(self) -> dict[str, int | str]:
        """A hash of names and sizes; of names only beyond 20,000 files (``"content"`` says which).

        Names are relative to the folder that all files share, so that moving that folder changes nothing.
        """
        paths = list(self.paths)
        shared = 0 if self.root else _shared_folder(paths)
        digest = hashlib.sha256()
        sized = len(paths) <= _SIZES_UP_TO
        for index, path in enumerate(paths):
            size = _size_and_time(self.path(index))[0] if sized else 0
            digest.update(b"%d:%s:%d\n" % (len(path) - shared, path[shared:], size))
        content = "names and sizes" if sized else "names"
        return {"kind": self.kind, "length": len(self), "sha256": digest.hexdigest(), "content": content}

    def keys(self) -> npt.NDArray[np.int64]:
        """A hash of each file's name, relative to the folder that all share."""
        if self._keys is None:
            paths = list(self.paths)
            shared = 0 if self.root else _shared_folder(paths)
            hashes = b"".join(hashlib.blake2b(path[shared:], digest_size=8).digest() for path in paths)
            self._keys = np.frombuffer(hashes, np.int64)
        return self._keys

    def stamp(self) -> str:
        """A hash of the names, sizes and times of change of all files, and of some bytes of some of them."""
        paths = list(self.paths)
        shared = 0 if self.root else _shared_folder(paths)
        digest = hashlib.sha256()
        for index, path in enumerate(paths):
            digest.update(b"%d:%s:%d:%d\n" % (len(path) - shared, path[shared:], *_size_and_time(self.path(index))))
        for index in range(0, len(self), max(1, len(self) // _SAMPLED)):
            with contextlib.suppress(OSError), open(self.path(index), "rb") as stream:  # noqa: PTH123
                stream.seek(_size_and_time(self.path(index))[0] // 2)
                digest.update(stream.read(_SAMPLE))
        return digest.hexdigest()


def _shared_folder(paths: list[bytes]) -> int:
    """How many bytes the folder that all paths begin with takes, its slash included."""
    lowest, highest = min(paths), max(paths)
    same = next((place for place, (a, b) in enumerate(zip(lowest, highest, strict=False)) if a != b), len(lowest))
    return lowest.rfind(b"/", 0, same) + 1


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def open_folder(root: str, max_pixels: int) -> FileSource:
    """All images below a folder; folders at its first level are classes if every image lies in one.

    Raises:
        DataError: If there are none.
    """
    index = index_folder(root)
    if not len(index.images):
        raise DataError(
            f"The folder `{printable(root)}` contains no images.",
            expected=f"files ending in {', '.join(EXTENSIONS)}, at any depth",
            received=describe_left_out(index.others).rstrip(".") or "no files that are not hidden",
            fix="Give the folder above your images, or convert them to one of these formats.",
        )
    source = FileSource(root, index.images, max_pixels, class_folders(index.images))
    source.left_out = index.others
    return source


def report_left_out(source: ImageSource) -> None:
    """Log which files of a folder are not read, once a process: as a warning if some may have been meant as images."""
    text = describe_left_out(source.left_out)
    if not text or not isinstance(source, FileSource) or rank() != 0 or (source.root, text) in _reported:
        return
    _reported.add((source.root, text))
    level = logging.WARNING if may_be_missed(source.left_out) else logging.INFO
    logger.log(level, "`%s`: %s", printable(source.root), text)


def open_paths(paths: Sequence[str | os.PathLike[str]], max_pixels: int) -> FileSource:
    """The listed files, in the order given."""
    return FileSource("", Paths.of([os.fsencode(_with_slashes("", path)) for path in paths]), max_pixels)


def open_table(table: Path, max_pixels: int) -> FileSource:
    """The files listed in a CSV file, with its labels; relative paths start at the folder of the CSV file.

    Raises:
        DataError: If it cannot be read, lists nothing, has no column of paths, or none of the files exists.
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
            expected=f"a column called {', '.join(PATH_COLUMNS)}, or no header and the paths first",
            received=f"a first row {rows[0]}",
        )
    if not rows or path_column is None:
        raise DataError(f"`{printable(table)}` lists no images.")
    paths = [_cell(row, path_column) for row in rows]
    if "" in paths:
        raise DataError(f"Entry {paths.index('') + 1} of `{printable(table)}` has no path.")
    root = str(table.parent)
    source = FileSource(root, Paths.of([_as_bytes(_with_slashes(root, path)) for path in paths]), max_pixels)
    _check_some_exist(source, table)
    if label_column is None:
        return source
    source._labels, source.class_names = number_labels([_cell(row, label_column) for row in rows])
    return source


def _with_slashes(root: str, path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """A path; one that Windows wrote, with slashes if there is no file with backslashes in its name."""
    if os.sep != "/" or not isinstance(path, str) or "\\" not in path or os.path.exists(os.path.join(root, path)):  # noqa: PTH110, PTH118
        return path
    return path.replace("\\", "/")


def _as_bytes(path: str | os.PathLike[str]) -> bytes:
    """A path of a table as the file system has it: bytes that are not UTF-8 stay as they are."""
    return os.fspath(path).encode("utf-8", "surrogateescape") if os.name != "nt" else os.fsencode(path)


def _text(table: Path) -> str:
    """The text of a table: UTF-8, or UTF-16 with a byte order mark, as spreadsheets write it.

    Raises:
        DataError: If it is UTF-16 without a byte order mark, or no text.
    """
    content = table.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    if b"\0" in content:
        raise DataError(
            f"`{printable(table)}` is no text in UTF-8.",
            received="zero bytes, as in UTF-16 without a byte order mark, or in a spreadsheet file",
            fix="Save it as CSV in UTF-8.",
        )
    return content.decode("utf-8-sig", "surrogateescape")


def _rows(table: Path) -> list[list[str]]:
    try:
        lines = _text(table).splitlines(keepends=True)
        head = lines[0] if lines else ""
        delimiter = max(",;\t", key=head.count)
        return [row for row in csv.reader(lines, delimiter=delimiter) if any(cell.strip() for cell in row)]
    except (OSError, csv.Error) as error:
        raise DataError(f"`{printable(table)}` cannot be read: {error}.") from error


def _cell(row: list[str], column: int) -> str:
    return row[column].strip() if column < len(row) else ""


def _check_some_exist(source: FileSource, table: Path) -> None:
    tried = sorted({(len(source) - 1) * step // 15 for step in range(16)})
    if not any(os.path.exists(source.path(index)) for index in tried):  # noqa: PTH110
        raise DataError(
            f"None of {len(tried)} files listed in `{printable(table)}` that were looked for exists.",
            expected=f"paths relative to `{printable(table.parent)}`, or absolute ones",
            received=printable(source.path(0)),
            fix="Paths of Windows with a drive letter have to be made relative."
            if re.match(r"[A-Za-z]:[\\/]", source.name(0))
            else None,
        )


def number_labels(words: Sequence[str]) -> tuple[npt.NDArray[np.int64], tuple[str, ...] | None]:
    """Labels as numbers: integers are kept, anything else is numbered in sorted order; empty means no label."""
    if all(re.fullmatch(r"[+-]?\d{1,18}", word) for word in words if word):
        return np.array([int(word) if word else NO_LABEL for word in words], np.int64), None
    names = sorted({word for word in words if word})
    number = {name: place for place, name in enumerate(names)}
    return np.array([number.get(word, NO_LABEL) for word in words], np.int64), tuple(names)
