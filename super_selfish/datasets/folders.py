"""Listing the images of a folder: fast, in a fixed order, and compact enough to send to worker processes."""

from __future__ import annotations

import collections
import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from super_selfish.errors import DataError
from super_selfish.files import FIGURES, sha256_of, written_figures
from super_selfish.images.formats import EXTENSIONS, HEAD, recognised
from super_selfish.images.image_files import printable

OWN = "written by super-selfish"
"""Key under which figures written by this library are counted."""

_ENDINGS = tuple(extension.encode() for extension in EXTENSIONS)
_EXTENSION = re.compile(rb"\.[a-z][a-z0-9]{0,9}", re.IGNORECASE)  # others, such as .1 and .jpg_large, do not count
_IGNORED = {  # folders of copies, thumbnails and deleted files that operating systems and NAS devices create
    *(b"__MACOSX", b"@eaDir", b"@Recycle", b"#recycle", b"$RECYCLE.BIN", b"System Volume Information", b"lost+found"),
}
_CHECKPOINTS = b".ckpt"  # suffix of checkpoint folders
_COMPANIONS = {  # extensions of files that are often stored with images, and are never images
    *(".txt", ".md", ".pdf", ".csv", ".tsv", ".json", ".xml", ".html", ".htm", ".yaml", ".yml", ".toml", ".ini"),
    *(".log", ".db", ".py", ".ipynb", ".sh", ".xmp", ".safetensors", ".lock", ".prev"),
}


class Paths:
    """Many paths in one byte string, so that a million paths pickle as two objects.

    Args:
        blob: All paths, concatenated.
        offsets: int64 of length n + 1 for n paths; path i is ``blob[offsets[i]:offsets[i + 1]]``.
    """

    def __init__(self, blob: bytes, offsets: npt.NDArray[np.int64]) -> None:
        self.blob = blob
        self.offsets = offsets

    @classmethod
    def of(cls, paths: Iterable[bytes]) -> Paths:
        """Pack paths in the given order."""
        listed = paths if isinstance(paths, list) else list(paths)
        offsets = np.zeros(len(listed) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, listed), np.int64, len(listed)), out=offsets[1:])
        return cls(b"".join(listed), offsets)

    def __len__(self) -> int:
        """The number of paths."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        """Return path ``index``, counted from 0.

        Raises:
            IndexError: If the index is out of range.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} is out of range for {len(self)} images.")
        return self.blob[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over all paths in order."""
        ends = self.offsets.tolist()
        return (self.blob[start:end] for start, end in itertools.pairwise(ends))


class Index(NamedTuple):
    """Result of a scan: the images, sorted bytewise, and the scanned folders with their modification times."""

    images: Paths  # relative to the root, with forward slashes
    folders: Paths
    changed: npt.NDArray[np.int64]  # st_mtime_ns of each folder, taken before it was read
    others: dict[str, int]  # counts of ignored files by extension, and of ignored folders by name with a slash
    started_ns: int


def scan(root: str) -> Index:
    """Scan a folder recursively for images.

    Images are identified by the extension, and files without extension by their first bytes. Names with a leading dot,
    figures written by this library, and folders such as ``__MACOSX`` and ``@eaDir`` are ignored. Symbolic links are
    followed, except those that lead to a parent folder.

    Args:
        root: Path of the folder.

    Raises:
        DataError: If a folder cannot be read.
    """
    started = time.time_ns()
    images: list[bytes] = []
    folders: list[bytes] = []
    changed: list[int] = []
    others: collections.Counter[str] = collections.Counter()
    waiting: list[tuple[bytes, frozenset[tuple[int, int]]]] = [(b"", frozenset())]
    base = os.fsencode(root)
    while waiting:
        folder, above = waiting.pop()
        full = os.path.join(base, folder) if folder else base  # noqa: PTH118  (bytes: names may be undecodable)
        try:
            status = os.stat(full)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            below = _list(full, folder + b"/" if folder else b"", images, others)
        except OSError as error:
            raise DataError(
                f"The folder `{printable(full)}` cannot be read: {error.strerror or error}.",
                fix="Make it readable, or pass a folder that does not contain it.",
            ) from error
        folders.append(folder)
        changed.append(status.st_mtime_ns)
        lineage = above | {identity}
        waiting.extend((child, lineage) for child in below)
    images.sort()
    return Index(Paths.of(images), Paths.of(folders), np.array(changed, np.int64), dict(others.most_common()), started)


def _list(full: bytes, prefix: bytes, images: list[bytes], others: collections.Counter[str]) -> list[bytes]:
    """Read one folder: append its images to ``images``, count other files, and return its subfolders."""
    below: list[bytes] = []
    found: list[bytes] = []
    has_list = False
    with os.scandir(full) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(b"."):
                has_list = has_list or name == FIGURES.encode()
                continue
            is_image = name.lower().endswith(_ENDINGS)
            if is_image and not _is_folder(entry):
                found.append(name)
            elif not is_image and _is_file(entry):
                if _is_image_without_extension(entry):
                    found.append(name)
                else:
                    others[os.path.splitext(os.fsdecode(name))[1].lower() or "no extension"] += 1  # noqa: PTH122
            elif name in _IGNORED and _is_folder(entry):
                others[os.fsdecode(name) + "/"] += 1
            elif not name.endswith(_CHECKPOINTS) and _is_folder(entry):
                below.append(prefix + name)
    own = _own_figures(Path(os.fsdecode(full))) if has_list else set()
    others.update({OWN: len(own & set(found))} if own & set(found) else {})
    images.extend(prefix + name for name in found if name not in own)
    return below


def _own_figures(folder: Path) -> set[bytes]:
    """Return the names of figures in a folder that this library wrote and that have not changed since."""
    listed = written_figures(folder).items()
    return {
        os.fsencode(name) for name, digest in listed if (folder / name).is_file() and sha256_of(folder / name) == digest
    }


def _is_image_without_extension(entry: os.DirEntry[bytes]) -> bool:
    ending = os.path.splitext(entry.name)[1]  # noqa: PTH122  (bytes: names may be undecodable)
    if _EXTENSION.fullmatch(ending):
        return False
    try:
        with open(entry.path, "rb") as stream:  # noqa: PTH123
            return recognised(stream.read(HEAD)) is not None
    except OSError:  # counted as ignored
        return False


def describe_left_out(others: Mapping[str, int], most: int = 12) -> str:
    """Describe the files and folders that a scan ignored; an empty string if there are none.

    Args:
        others: See :class:`Index`.
        most: Maximum number of extensions to list.
    """
    files = {kind: count for kind, count in others.items() if not kind.endswith("/") and kind != OWN}
    folders = {kind: count for kind, count in others.items() if kind.endswith("/")}
    sentences = []
    if files:
        named = [f"{count} × {printable(kind)}" for kind, count in list(files.items())[:most]]
        more = [f"{len(files) - most} other extensions"] if len(files) > most else []
        verb = "file is" if sum(files.values()) == 1 else "files are"
        sentences.append(f"{sum(files.values())} {verb} not read: {', '.join(named + more)}.")
    if OWN in others:
        sentences.append(f"Figures written by super-selfish are ignored: {others[OWN]}.")
    if folders:
        named = [f"{count} × {printable(kind)}" for kind, count in folders.items()]
        sentences.append(f"Folders of thumbnails, copies or deleted files are ignored: {', '.join(named)}.")
    return " ".join(sentences)


def may_be_missed(others: Mapping[str, int]) -> bool:
    """Whether any of the ignored files may be an image."""
    return any(kind not in _COMPANIONS and kind != OWN for kind in others)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or without permission: an unreadable file, reported when it is read
        return False


def _is_file(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


_PARTS = {b"train", b"training", b"test", b"testing", b"val", b"valid", b"validation", b"dev", b"eval"}
_MOST_BESIDE = 0.1  # fraction of images beside class folders, above which these are no classes


class Layout(NamedTuple):
    """Images of a folder without those beside its class folders, and what is doubtful about the class folders."""

    images: Paths
    remarks: tuple[str, ...] = ()


def layout_of(paths: Paths) -> Layout:
    """Leave out a few images beside class folders, which have no class; more of them make all images unlabelled.

    Args:
        paths: Relative paths, sorted bytewise.
    """
    folders, beside = list[bytes](), list[bytes]()
    position = 0 if b"/" in paths.blob else len(paths)
    while position < len(paths):
        folder, separator, _ = paths[position].partition(b"/")
        (folders if separator else beside).append(folder)
        position = _first_at_or_after(paths, folder + b"0", position) if separator else position + 1
    if len(folders) < 2:
        return Layout(paths)
    listed, names, share = _some(folders), f"({len(beside)}: {_some(beside)})", len(beside) / len(paths)
    if beside and (len(beside) == 1 or share <= _MOST_BESIDE):
        paths = Paths.of([path for path in paths if b"/" in path])
        return Layout(paths, (f"the images beside the class folders {listed} have no class and are left out {names}.",))
    remark = ""
    if not beside and {folder.lower() for folder in folders} <= _PARTS:
        remark = (
            f"the folders {listed} look like parts of a data set, but are read as classes. Pass one to use it alone."
        )
    elif 0 < share < 0.5:  # otherwise, these are clearly no class folders
        remark = f"no image has a label: the folders {listed} are no classes, as images lie beside them {names}."
    return Layout(paths, (remark,) if remark else ())


def _some(names: list[bytes], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{printable(name)}`" for name in names[:most]) + more


class Groups(NamedTuple):
    """The class folders of a sorted list of paths: first index and label of each, and class names by label."""

    starts: list[int]
    numbers: list[int]
    names: tuple[str, ...]


def class_folders(paths: Paths) -> Groups | None:
    """Return the first-level folders as classes if every image lies in one and there are at least two; else None.

    Args:
        paths: Relative paths, sorted bytewise, so that the images of a folder are contiguous.
    """
    starts, folders, position = [], [], 0
    while position < len(paths):
        folder, separator, _ = paths[position].partition(b"/")
        if not separator:
            return None
        starts.append(position)
        folders.append(os.fsdecode(folder))
        position = _first_at_or_after(paths, folder + b"0", position)  # "0" is the byte after "/"
    if len(folders) < 2:
        return None
    names = sorted(folders)
    number = {name: place for place, name in enumerate(names)}
    return Groups(starts, [number[folder] for folder in folders], tuple(names))


def _first_at_or_after(paths: Paths, bound: bytes, low: int) -> int:
    high = len(paths)
    while low < high:
        middle = (low + high) // 2
        if paths[middle] < bound:
            low = middle + 1
        else:
            high = middle
    return low
