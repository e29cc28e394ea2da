"""Cached file lists of large folders.

A cached index is valid as long as the modification time of every folder in it is unchanged: creating, removing or
renaming a file changes the modification time of its folder. A cache file is a magic line, a JSON header and raw bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from super_selfish.datasets.folders import Index, Paths, scan
from super_selfish.errors import CheckpointError
from super_selfish.files import replacing
from super_selfish.images.formats import EXTENSIONS
from super_selfish.images.image_files import printable

CACHED_FROM = 10_000
_MAGIC = b"super_selfish index 2\n"
_RACY_NS = 2_000_000_000  # in ns; file systems with coarse clocks (FAT: 2 s) give two changes the same time

logger = logging.getLogger("super_selfish")


def cache_folder() -> Path:
    """Return the folder for indexes: SUPER_SELFISH_CACHE, else super_selfish below XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("SUPER_SELFISH_CACHE"):
        return Path(chosen) / "index"
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "super_selfish" / "index"
    return Path(os.path.expanduser("~")) / ".cache" / "super_selfish" / "index"  # noqa: PTH111  (never raises)


def index_folder(root: str) -> Index:
    """List the images of a folder, from the cache if nothing has changed, else by a scan.

    Raises:
        DataError: If a folder cannot be read.
    """
    absolute = os.path.realpath(root)
    target = cache_folder() / f"{hashlib.sha256(os.fsencode(absolute)).hexdigest()[:32]}.index"
    cached = _load(target, absolute)
    if cached is not None:
        return cached
    index = scan(root)
    if len(index.images) > CACHED_FROM and int(index.changed.max()) < index.started_ns - _RACY_NS:
        _save(target, absolute, index)
    return index


def _save(target: Path, root: str, index: Index) -> None:
    parts = [
        index.images.blob,
        index.images.offsets.tobytes(),
        index.folders.blob,
        index.folders.offsets.tobytes(),
        index.changed.tobytes(),
    ]
    header = {
        "root": root,
        "extensions": EXTENSIONS,
        "sizes": [len(part) for part in parts],
        "sha256": _digest(parts),
        "others": index.others,
        "started_ns": index.started_ns,
    }
    try:
        with replacing(target) as temporary, temporary.open("wb") as stream:
            stream.write(_MAGIC + json.dumps(header).encode("ascii") + b"\n")
            stream.writelines(parts)
    except (CheckpointError, OSError) as error:
        logger.info("The file list of `%s` is not cached: %s", printable(root), error)


def _digest(parts: list[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _load(target: Path, root: str) -> Index | None:
    try:
        with target.open("rb") as stream:
            if stream.readline() != _MAGIC:
                return None
            header: dict[str, Any] = json.loads(stream.readline())
            if header["root"] != root or tuple(header["extensions"]) != EXTENSIONS:
                return None
            parts = [stream.read(size) for size in header["sizes"]]
        if _digest(parts) != header["sha256"]:
            return None
        blob, offsets, folder_blob, folder_offsets, changed = parts
        images = Paths(blob, np.frombuffer(offsets, np.int64))
        folders = Paths(folder_blob, np.frombuffer(folder_offsets, np.int64))
        times = np.frombuffer(changed, np.int64)
        if not _unchanged(root, folders, times):
            return None
        return Index(images, folders, times, header["others"], header["started_ns"])
    except (OSError, ValueError, KeyError, TypeError):  # missing, unreadable or damaged: scan the folder
        return None


def _unchanged(root: str, folders: Paths, times: np.ndarray[Any, np.dtype[np.int64]]) -> bool:
    base = os.fsencode(root)
    try:
        return all(
            os.stat(os.path.join(base, folder) if folder else base).st_mtime_ns == time  # noqa: PTH116, PTH118
            for folder, time in zip(folders, times.tolist(), strict=True)
        )
    except OSError:
        return False
