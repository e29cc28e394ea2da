"""Preprocessed images of files, kept on a local disk: a row each in one file that is mapped into memory.

A file is named by a hash of everything that shapes its pixels, so that other files, changed files and another size
lead to another one. It begins with eight bytes for each image: 0, or a checksum that is written after the row. A row is
checked when a process first reads it. So several threads and processes may fill a file at once, and be killed at any
time: what is not whole is read from its image again. Nothing here is needed to load or to continue a training.
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
_MADE_BY = (1, __version__, functional.OPENCV, PIL.__version__)  # the layout, and who makes the pixels
_FILLED = 1 << 32
_SUFFIX = ".images"

logger = logging.getLogger("super_selfish")


def chosen_folder(cache: object) -> Path | None:
    """Where a ``cache=`` option wants the images, or None.

    Raises:
        ConfigurationError: If it is neither None, ``"resized"`` nor a path.
    """
    if cache is None:
        return None
    if cache == "resized":
        return cache_folder().with_name("resized")
    is_path = isinstance(cache, os.PathLike) or (
        isinstance(cache, str) and (os.sep in cache or "/" in cache or os.path.isdir(cache))  # noqa: PTH112
    )
    if not is_path:
        raise ConfigurationError(
            "`cache` is unknown.",
            expected='None, "resized", or the path of a folder',
            received=f"cache={cache!r}",
            fix=did_you_mean(cache, ("resized",)) or f"Write './{cache}' if a folder of that name is meant."
            if isinstance(cache, str)
            else None,
        )
    return Path(os.fspath(cache)).expanduser()  # type: ignore[call-overload]


class ResizedCache:
    """One file of images of one size; a copy for each process, which all write to the same file.

    Args:
        path: Of the file, which is made when it is first used.
        count: How many images there are.
        shape: Of each: height, width, channels.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, int, int]) -> None:
        self.path = path
        self.count = count
        self.shape = shape
        self.row = int(np.prod(shape))
        self.first = -(-8 * count // mmap.PAGESIZE) * mmap.PAGESIZE
        self._handle: int | None = None
        self._given_up = self._told_deep = False
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of the file when it is full."""
        return self.first + self.count * self.row

    def get(self, index: int) -> Image | None:
        """Image ``index`` in memory of its own, if it is there and whole."""
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
        """Keep an image; what cannot be kept is told once."""
        if image.dtype != np.uint8 and not self._told_deep:
            self._told_deep = True
            logger.warning("Images of more than 8 bits are not kept by `cache`: convert their files to keep them.")
        if image.dtype != np.uint8 or image.shape != self.shape or self._given_up or not self._opened():
            return
        try:
            handle, place = self._handle, self.first + index * self.row
            written = os.pwrite(handle, image.data, place)  # type: ignore[arg-type]  # not by the map: a full disk kills
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
                fcntl.flock(handle, fcntl.LOCK_SH)  # until it is closed: such a file is not removed for others
                if os.fstat(handle).st_size != self.size:
                    os.ftruncate(handle, self.size)  # takes no room yet
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
                logger.warning("No more images are kept in `%s`: %s.", printable(self.path), reason)
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
    """The cache of some images, or None with a message where there can be none.

    Args:
        folder: Where caches are.
        content: What the images are recognised by: changes when any of their files does.
        count: How many there are.
        fields: Of the preprocessing, with ``resolution`` and ``channels``.
    """
    if fcntl is None or not hasattr(os, "pwrite"):
        logger.warning("`cache` does nothing on this system: it needs file locks.")
        return None
    shaping = {name: value for name, value in fields.items() if name not in ("mean", "std")}
    key = json.dumps([_MADE_BY, content, count, shaping], sort_keys=True)
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + _SUFFIX
    height, width = fields["resolution"]
    cache = ResizedCache(folder / name, count, (height, width, fields["channels"]))
    try:
        room = _make_room(cache)
    except OSError as error:
        logger.warning("Images are not kept in `%s`: %s.", printable(folder), error.strerror or error)
        return None
    if room is not None:
        logger.warning(
            "Images are not kept in `%s`: they need %.1f GB, and the limit of all that is kept there is %.1f GB. "
            "Choose another folder by `cache=`, or a limit in bytes by the environment variable %s.",
            *(printable(folder), cache.size / 1e9, room / 1e9, LIMIT),
        )
        return None
    return cache


def _make_room(cache: ResizedCache) -> int | None:
    """Remove files that were not used for longest and that nobody has open; the limit if it is too low all the same."""
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
        raise ConfigurationError(f"{LIMIT} is no number of bytes.", expected="an integer", received=repr(given))
    return int(given)


def _remove(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)
    except OSError:  # in use, or not ours
        return False
    return True
