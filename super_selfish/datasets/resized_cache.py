"""Disk cache of preprocessed images: a memory-mapped file with one row per image.

The name of a cache file is a hash of everything that determines its pixels, so that other or changed image files and
other sizes use another cache file. The file starts with eight bytes per image: 0, or a checksum that is written after
the row. A process verifies each row when it first reads it. Several threads and processes can therefore write to a file
at the same time, and be killed at any time; incomplete rows are read from the image files again. The cache is not
needed to load or resume a training.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import shutil
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL

from super_selfish.datasets.folder_cache import cache_folder
from super_selfish.errors import ConfigurationError
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.image_files import printable
from super_selfish.suggestions import did_you_mean
from super_selfish.version import __version__

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows)
    fcntl = None  # type: ignore[assignment]

LIMIT = "SUPER_SELFISH_CACHE_BYTES"
_MADE_BY = (1, __version__, functional.OPENCV, PIL.__version__)  # version of the layout, and of the libraries used
_FILLED = 1 << 32
_SUFFIX = ".images"

logger = logging.getLogger("super_selfish")


def chosen_folder(cache: object) -> Path | None:
    """Return the cache folder for a value of ``cache=``, or None.

    Raises:
        ConfigurationError: If ``cache`` is neither None, nor ``"resized"``, nor a path.
    """
    if cache is None:
        return None
    if cache == "resized":
        return cache_folder().with_name("resized")
    is_path = isinstance(cache, os.PathLike) or (
        isinstance(cache, str) and (Path(cache).name != cache or Path(cache).is_dir())
    )
    if not is_path:
        raise ConfigurationError(
            "`cache` is unknown.",
            expected='None, "resized", or the path of a folder',
            received=f"cache={cache!r}",
            fix=did_you_mean(cache, ("resized",)) or f"Pass './{cache}' for a folder of that name."
            if isinstance(cache, str)
            else None,
        )
    return Path(os.fspath(cache)).expanduser()  # type: ignore[call-overload]


class ResizedCache:
    """Cache file of images of one size. Copies in other processes share the file.

    Args:
        path: Path of the file, which is created on first use.
        count: Number of images.
        shape: Height, width and channels of each image.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, int, int]) -> None:
        self.path = path
        self.count = count
        self.shape = shape
        self.row = int(np.prod(shape))
        self.first = -(-8 * count // mmap.PAGESIZE) * mmap.PAGESIZE
        self._handle: int | None = None
        self._given_up = self._warned_deep = False
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Size of the full file in bytes."""
        return self.first + self.count * self.row

    def get(self, index: int) -> Image | None:
        """Return a copy of image ``index``; None if it is not cached, or incomplete."""
        if not self._opened() or not 0 <= index < self.count:
            return None
        sum_of_row = int(self._sums[index])
        if sum_of_row < _FILLED:
            return None
        image: Image = self._rows[index].copy()
        if not self._checked[index]:
            if _FILLED + zlib.crc32(image.data) != sum_of_row:
                return None
            self._checked[index] = True
        return image

    def put(self, index: int, image: Image) -> None:
        """Cache an image; log once if it cannot be cached."""
        if image.dtype != np.uint8 and not self._warned_deep:
            self._warned_deep = True
            logger.warning("`cache` does not support images of more than 8 bits. Convert the files to 8 bits.")
        if image.dtype != np.uint8 or image.shape != self.shape or self._given_up or not self._opened():
            return
        try:
            handle, place = self._handle, self.first + index * self.row
            written = os.pwrite(handle, image.data, place)  # type: ignore[arg-type]  # a full disk would kill a process that writes to the map
            if written == self.row:
                os.pwrite(handle, (_FILLED + zlib.crc32(image.data)).to_bytes(8, "little"), 8 * index)  # type: ignore[arg-type]
        except OSError as error:
            self._give_up(error)

    def _opened(self) -> bool:
        if self._handle is None and not self._given_up:
            with self._lock:
                if self._handle is None:
                    self._open()
        return self._handle is not None

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH)  # until closed; a locked file is not removed to free space
                if os.fstat(handle).st_size != self.size:
                    os.ftruncate(handle, self.size)  # a sparse file: uses no disk space yet
                os.utime(handle)
                mapped = mmap.mmap(handle, self.size, access=mmap.ACCESS_READ)
            except BaseException:
                os.close(handle)
                raise
        except (OSError, ValueError) as error:
            self._give_up(error)
            return
        self._sums: npt.NDArray[Any] = np.frombuffer(mapped, "<u8", self.count)
        self._rows = np.frombuffer(mapped, np.uint8, self.count * self.row, self.first).reshape(-1, *self.shape)
        self._checked = np.zeros(self.count, np.bool_)
        self._handle = handle

    def _give_up(self, error: Exception) -> None:
        with contextlib.suppress(Exception):
            reason = getattr(error, "strerror", None) or error
            if not self._given_up:
                logger.warning("No more images are cached in `%s`: %s.", printable(self.path), reason)
        self._given_up = True

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "count": self.count, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)  # type: ignore[arg-type]


def open_cache(folder: Path, content: str, count: int, fields: dict[str, Any]) -> ResizedCache | None:
    """Open the cache of a data set; log a warning and return None if caching is not possible.

    Args:
        folder: Folder of cache files.
        content: Hash that changes when any image file changes.
        count: Number of images.
        fields: Fields of the preprocessing, with ``resolution`` and ``channels``.
    """
    if fcntl is None or not hasattr(os, "pwrite"):
        logger.warning("`cache` has no effect on this system, because it requires file locks.")
        return None
    shaping = {name: value for name, value in fields.items() if name not in ("mean", "std")}
    key = json.dumps([_MADE_BY, content, count, shaping], sort_keys=True)
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + _SUFFIX
    height, width = fields["resolution"]
    cache = ResizedCache(folder / name, count, (height, width, fields["channels"]))
    try:
        room = _make_room(cache)
    except OSError as error:
        logger.warning("Images are not cached in `%s`: %s.", printable(folder), error.strerror or error)
        return None
    if room is not None:
        logger.warning(
            "Images are not cached in `%s`: they require %.1f GB, and the size limit of this folder is %.1f GB. Pass "
            "another folder as `cache=`, or set the limit in bytes with the environment variable %s.",
            *(printable(folder), cache.size / 1e9, room / 1e9, LIMIT),
        )
        return None
    return cache


def _make_room(cache: ResizedCache) -> int | None:
    """Remove the least recently used cache files that are not open; return the limit if it is still too low."""
    folder = cache.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    found = {path: path.stat() for path in folder.glob(f"*{_SUFFIX}")}
    taken = {path: status.st_blocks * 512 for path, status in found.items()}
    limit = _limit(shutil.disk_usage(folder).free + sum(taken.values()))
    if cache.size > limit:
        return limit
    total = sum(taken.values()) - taken.pop(cache.path, 0) + cache.size
    for path in sorted(taken, key=lambda path: found[path].st_mtime_ns):
        if total <= limit:
            break
        if _remove(path):
            total -= taken[path]
    return None if total <= limit else limit


def _limit(available: int) -> int:
    given = os.environ.get(LIMIT)
    if not given:
        return available // 2
    if not given.isdigit():
        raise ConfigurationError(f"{LIMIT} is not a number of bytes.", expected="an integer", received=repr(given))
    return int(given)


def _remove(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)
    except OSError:  # in use, or no permission
        return False
    return True
