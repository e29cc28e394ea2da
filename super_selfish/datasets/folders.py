"""Finding the images of a folder: fast, in a fixed order, and compact enough to hand to worker processes."""

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
from super_selfish.files import PICTURES, sha256_of, written_pictures
from super_selfish.images.formats import EXTENSIONS, HEAD, recognised
from super_selfish.images.image_files import printable

OWN = "written by super-selfish"
"""What pictures are counted under that the library itself wrote."""

_ENDINGS = tuple(extension.encode() for extension in EXTENSIONS)
_EXTENSION = re.compile(rb"\.[a-z][a-z0-9]{0,9}", re.IGNORECASE)  # others, such as .1 and .jpg_large, say nothing
_PASSED_OVER = {  # folders of copies, thumbnails and deleted files, which operating systems and disk stations make
    *(b"__MACOSX", b"@eaDir", b"@Recycle", b"#recycle", b"$RECYCLE.BIN"),
    *(b"System Volume Information", b"lost+found"),
}
_CHECKPOINTS = b".ckpt"  # folders that training writes
_COMPANIONS = {  # what is found beside images and never means one
    *(".txt", ".md", ".pdf", ".csv", ".tsv", ".json", ".xml", ".html", ".htm", ".yaml", ".yml", ".toml", ".ini"),
    *(".log", ".db", ".py", ".ipynb", ".sh", ".xmp", ".safetensors", ".lock", ".prev"),
}


class Paths:
    """Many paths in one run of bytes: a million of them pickle as two objects.

    Args:
        blob: All paths, one after the other.
        offsets: int64, one more than there are paths; path i is ``blob[offsets[i]:offsets[i + 1]]``.
    """

    def __init__(self, blob: bytes, offsets: npt.NDArray[np.int64]) -> None:
        self.blob = blob
        self.offsets = offsets

    @classmethod
    def of(cls, paths: Iterable[bytes]) -> Paths:
        """Pack paths in the order given."""
        listed = paths if isinstance(paths, list) else list(paths)
        offsets = np.zeros(len(listed) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, listed), np.int64, len(listed)), out=offsets[1:])
        return cls(b"".join(listed), offsets)

    def __len__(self) -> int:
        """The number of paths."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        """Path ``index``, counted from 0.

        Raises:
            IndexError: If there is none.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} images; number {index} is not one of them.")
        return self.blob[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[bytes]:
        """All paths in order."""
        ends = self.offsets.tolist()
        return (self.blob[start:end] for start, end in itertools.pairwise(ends))


class Index(NamedTuple):
    """What a scan found: the images, sorted by their bytes, and every folder looked into with its time of change."""

    images: Paths  # relative to the root, with forward slashes
    folders: Paths
    changed: npt.NDArray[np.int64]  # st_mtime_ns of each folder, taken before it was read
    others: dict[str, int]  # counts of what is left out: files by extension, folders by name with a slash
    started_ns: int


def scan(root: str) -> Index:
    """Look through a folder and all below it.

    A file is an image by its extension; without one, by its first bytes. Names with a leading dot, pictures that the
    library wrote and folders such as ``__MACOSX`` and ``@eaDir`` are passed over. Links to files and folders are
    followed, unless a folder would contain itself.

    Args:
        root: The folder.

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
                fix="Make it readable, or give a folder that does not contain it.",
            ) from error
        folders.append(folder)
        changed.append(status.st_mtime_ns)
        lineage = above | {identity}
        waiting.extend((child, lineage) for child in below)
    images.sort()
    return Index(Paths.of(images), Paths.of(folders), np.array(changed, np.int64), dict(others.most_common()), started)


def _list(full: bytes, prefix: bytes, images: list[bytes], others: collections.Counter[str]) -> list[bytes]:
    """Read one folder: its images go to ``images``, other files are counted, the folders in it are returned."""
    below: list[bytes] = []
    found: list[bytes] = []
    has_list = False
    with os.scandir(full) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(b"."):
                has_list = has_list or name == PICTURES.encode()
                continue
            is_image = name.lower().endswith(_ENDINGS)
            if is_image and not _is_folder(entry):
                found.append(name)
            elif not is_image and _is_file(entry):
                if _is_image_without_extension(entry):
                    found.append(name)
                else:
                    others[os.path.splitext(os.fsdecode(name))[1].lower() or "no extension"] += 1  # noqa: PTH122
            elif name in _PASSED_OVER and _is_folder(entry):
                others[os.fsdecode(name) + "/"] += 1
            elif not name.endswith(_CHECKPOINTS) and _is_folder(entry):
                below.append(prefix + name)
    own = _own_pictures(Path(os.fsdecode(full))) if has_list else set()
    others.update({OWN: len(own & set(found))} if own & set(found) else {})
    images.extend(prefix + name for name in found if name not in own)
    return below


def _own_pictures(folder: Path) -> set[bytes]:
    """The names of pictures in a folder that the library wrote and nobody has changed since."""
    listed = written_pictures(folder).items()
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
    except OSError:  # it may be none of ours: counted with those that are left out
        return False


def describe_left_out(others: Mapping[str, int], most: int = 12) -> str:
    """What a scan left out, in words; empty if nothing.

    Args:
        others: As in :class:`Index`.
        most: How many kinds are named.
    """
    files = {kind: count for kind, count in others.items() if not kind.endswith("/") and kind != OWN}
    folders = {kind: count for kind, count in others.items() if kind.endswith("/")}
    said = []
    if files:
        named = [f"{count} × {printable(kind)}" for kind, count in list(files.items())[:most]]
        more = [f"{len(files) - most} other kinds"] if len(files) > most else []
        one = sum(files.values()) == 1
        said.append(f"{sum(files.values())} {'file is' if one else 'files are'} not read: {', '.join(named + more)}.")
    if OWN in others:
        said.append(f"Pictures that super-selfish wrote are passed over: {others[OWN]}.")
    if folders:
        named = [f"{count} × {printable(kind)}" for kind, count in folders.items()]
        said.append(f"Folders of thumbnails, copies or deleted files are passed over: {', '.join(named)}.")
    return " ".join(said)


def may_be_missed(others: Mapping[str, int]) -> bool:
    """Whether something was left out that may have been meant as an image."""
    return any(kind not in _COMPANIONS and kind != OWN for kind in others)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where we may not look: an unreadable file, told when it is read
        return False


def _is_file(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


class Groups(NamedTuple):
    """The class folders of a sorted list of paths: where each begins, its number, and the names by number."""

    starts: list[int]
    numbers: list[int]
    names: tuple[str, ...]


def class_folders(paths: Paths) -> Groups | None:
    """The first-level folders as classes, if every image lies in one and there are at least two; else None.

    Args:
        paths: Relative paths in the order of their bytes, so that each folder's images are neighbours.
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
