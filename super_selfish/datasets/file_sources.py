"""Data sets of image files: a folder, or a list of paths."""

from __future__ import annotations

import bisect
import contextlib
import copy
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import PureWindowsPath

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.folder_cache import index_folder
from super_selfish.datasets.folders import Groups, Paths, class_folders, describe_left_out, layout_of, may_be_missed
from super_selfish.datasets.image_source import ImageSource, Loaded
from super_selfish.distributed import rank
from super_selfish.errors import DataError
from super_selfish.images import image_files
from super_selfish.images.formats import EXTENSIONS
from super_selfish.images.functional import Image
from super_selfish.images.image_files import DROP_ALPHA, AlphaRule, Decoded, Header, printable

_SAMPLED, _SAMPLE = 64, 1024  # number of files, and of bytes of each, that are compared to detect changed content
_SIZES_UP_TO = 20_000  # number of files; reading the size of a file takes longer than reading its name

_reported: set[tuple[str, str]] = set()

logger = logging.getLogger("super_selfish")


class FileSource(ImageSource):
    """Images in files below one folder.

    Args:
        root: Folder that relative paths start from; empty for the working directory.
        paths: Paths of the files.
        max_pixels: Maximum number of pixels of an image.
        groups: Class folders, if the paths are sorted and each image lies in one.
    """

    kind = "files"
    thread_safe = True
    _cover: tuple[int, int] | None = None
    _alpha: AlphaRule = DROP_ALPHA
    _keys: npt.NDArray[np.int64] | None = None

    def __init__(self, root: str, paths: Paths, max_pixels: int, groups: Groups | None = None) -> None:
        self.root = root
        self.paths = paths
        self.max_pixels = max_pixels
        self._groups = groups
        self._warned = set()  # shared by copies
        self.class_names = groups.names if groups else None

    def __len__(self) -> int:
        """The number of files."""
        return len(self.paths)

    def path(self, index: int) -> str:
        """Return the path of file ``index``; undecodable bytes become surrogate escapes."""
        return os.path.join(self.root, os.fsdecode(self.paths[index]))  # noqa: PTH118  (an empty root)

    def read(self, index: int) -> Image:
        """Decode file ``index``."""
        return self.load(index).image

    def item(self, index: int) -> tuple[Image, int | None]:
        """Return the image and label of file ``index``."""
        image, label, _ = self.load(index)
        return image, label

    def load(self, index: int) -> Loaded:
        """Decode file ``index``, with the mask of pixels that it declares as no data."""
        found = image_files.load(self.path(index), self.max_pixels, cover=self._cover, alpha=self._alpha)
        return self._loaded(index, found)

    def examine(self, index: int) -> tuple[Loaded, list[str], tuple[str, ...]]:
        """Decode file ``index``, and collect the messages of the decoder and notes; not thread-safe."""
        found, messages = image_files.examine(self.path(index), self.max_pixels, self._cover, self._alpha)
        return self._loaded(index, found._replace(notes=())), messages, found.notes

    def header(self, index: int) -> Header:
        """Return the shape and dtype of file ``index``, from its header."""
        found = image_files.contents(self.path(index), self.max_pixels, alpha=self._alpha)
        self._warn_of(self._printable(index), found.header.channels, found.alpha, found.left_out, found.notes)
        return found.header

    def with_alpha(self, rule: AlphaRule) -> FileSource:
        """Return the same files with another rule for alpha channels."""
        other = copy.copy(self)
        other._alpha = rule
        return other

    def _loaded(self, index: int, found: Decoded) -> Loaded:
        if found.alpha or found.left_out or found.notes:
            channels = found.image.shape[2]
            self._warn_of(self._printable(index), channels, found.alpha, found.left_out, found.notes)
        return Loaded(found.image, self.label(index), found.missing)

    def _printable(self, index: int) -> str:
        return printable(self.name(index))

    def covering(self, resolution: tuple[int, int]) -> FileSource:
        """Return the same files; JPEG files are decoded at reduced scale if that still covers ``resolution``."""
        other = copy.copy(self)
        other._cover = resolution
        return other

    def name(self, index: int) -> str:
        """Return the path of file ``index``: relative to the folder, or as given in the list or table."""
        return os.fsdecode(self.paths[index])

    def label(self, index: int) -> int | None:
        """Return the label of file ``index`` from its class folder or the table; None if it has none."""
        if self._groups is None or self._labels is not None:
            return super().label(index)
        return self._groups.numbers[bisect.bisect_right(self._groups.starts, index) - 1]

    def fingerprint(self) -> dict[str, int | str]:
        """Return a hash of names and sizes, or of names only for more than 20,000 files (see ``"content"``).

        Names are relative to the common parent folder of all files; the hash does not change if this folder is moved.
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
        """Return a hash of each file's name, relative to the common parent folder of all files."""
        if self._keys is None:
            paths = list(self.paths)
            shared = 0 if self.root else _shared_folder(paths)
            hashes = b"".join(hashlib.blake2b(path[shared:], digest_size=8).digest() for path in paths)
            self._keys = np.frombuffer(hashes, np.int64)
        return self._keys

    def stamp(self) -> str:
        """Return a hash of the names, sizes and modification times of all files, and of parts of some files."""
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
    """Return the length in bytes of the common parent folder of all paths, including the slash."""
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
    """Open all images below a folder; its subfolders are classes if almost every image lies in one.

    A few images beside class folders are left out; see :func:`super_selfish.datasets.folders.layout_of`.

    Raises:
        DataError: If the folder contains no images.
    """
    index = index_folder(root)
    if not len(index.images):
        raise DataError(
            f"The folder `{printable(root)}` contains no images.",
            expected=f"files with an extension of {', '.join(EXTENSIONS)}, at any depth",
            received=describe_left_out(index.others).rstrip(".") or "no files, or only hidden ones",
            fix="Pass the folder that contains your images, or convert them to one of these formats.",
        )
    layout = layout_of(index.images)
    source = FileSource(root, layout.images, max_pixels, class_folders(layout.images))
    source.left_out, source.remarks = index.others, layout.remarks
    return source


def report_left_out(source: ImageSource) -> None:
    """Log once per process which files of a folder are not read; as a warning if some may be images."""
    text = describe_left_out(source.left_out)
    if not text or not isinstance(source, FileSource) or rank() != 0 or (source.root, text) in _reported:
        return
    _reported.add((source.root, text))
    level = logging.WARNING if may_be_missed(source.left_out) else logging.INFO
    logger.log(level, "`%s`: %s", printable(source.root), text)


def report_remarks(source: ImageSource, data: str) -> None:
    """Log the remarks on a source as warnings, once per process.

    Args:
        source: Opened images.
        data: Path that they were opened from.
    """
    for remark in source.remarks if rank() == 0 else ():
        if (data, remark) not in _reported:
            _reported.add((data, remark))
            logger.warning("`%s`: %s", printable(data), remark)


def open_paths(paths: Sequence[str | os.PathLike[str]], max_pixels: int) -> FileSource:
    """Open the listed files, in the given order."""
    return FileSource("", Paths.of([os.fsencode(with_slashes("", path)) for path in paths]), max_pixels)


def with_slashes(root: str, path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Replace backslashes in a Windows path by slashes, unless a file with backslashes in its name exists."""
    if os.sep != "/" or not isinstance(path, str) or "\\" not in path or os.path.exists(os.path.join(root, path)):  # noqa: PTH110, PTH118
        return path
    return PureWindowsPath(path).as_posix()
