"""One stored step of a training: its files, how they are written, and how damage to them is noticed.

Each part has its tensors in ``PART.safetensors``; all the rest is in ``trees.json``. ``manifest.json`` says what the
checkpoint is, and names size and sha256 of each file; its last field is the sha256 of the other fields.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from super_selfish.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch, ConfigurationError
from super_selfish.files import SUFFIX, sha256_of
from super_selfish.storage.codec import decode, encode

FORMAT = 1
_MANIFEST, _TREES = "manifest.json", "trees.json"
_JSON_LIMIT = 64 << 20
_PART = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class StoredCheckpoint:
    """One complete step on the disk.

    Args:
        path: Its folder.
        full: Compare the content of each file with its sha256, not only its size.

    Attributes:
        path: Its folder.
        step: How many updates had been made.
        manifest: What it says of itself.

    Raises:
        CheckpointCorrupt: If it is damaged; the message names the file.
        CheckpointMismatch: If it is from a newer release.
    """

    def __init__(self, path: Path, *, full: bool = True) -> None:
        self.path = path
        self.manifest = _read_manifest(path / _MANIFEST)
        self.step = step_of(path)
        if self.manifest.get("step") != self.step:
            raise CheckpointCorrupt(f"`{path / _MANIFEST}` is damaged: it is of another step.")
        for name, expected in _files(self.manifest, path).items():
            _check_file(path / name, expected, full=full)

    @cached_property
    def _skeletons(self) -> dict[str, Any]:
        trees = _read_json(self.path / _TREES)
        if not isinstance(trees, dict):
            raise CheckpointCorrupt(f"`{self.path / _TREES}` is damaged: it holds no parts.")
        return trees

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what can be read."""
        return tuple(self._skeletons)

    def read(self, part: str) -> Any:
        """The tree of one part, with tensors on the CPU that do not hold on to the file.

        Raises:
            CheckpointMismatch: If there is no such part.
            CheckpointCorrupt: If it is damaged.
        """
        if part not in self._skeletons:
            raise CheckpointMismatch(f"`{self.path}` has no part {part!r}.", expected=f"one of {', '.join(self.parts)}")
        path, tensors = self.path / (part + SUFFIX), {}
        try:
            if part + SUFFIX in self.manifest["files"]:  # these names have been checked
                tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
            return decode(self._skeletons[part], tensors)
        except (SafetensorError, OSError) as error:
            raise CheckpointCorrupt(f"`{path}` is damaged: {error}.") from error


def step_of(path: Path) -> int:
    """The step in the name of a folder, ``step-000000012000`` or, for a replacement, ``step-000000012000.new``."""
    return int(path.name.removeprefix("step-").removesuffix(".new"))


def check_parts(parts: Mapping[str, Any]) -> None:
    """Raise a ConfigurationError if a part's name can be no file's name."""
    if wrong := [part for part in parts if not _PART.fullmatch(part)]:
        raise ConfigurationError(
            "The name of a part is also the name of a file.", expected="a-z, 0-9, _ and -", received=repr(wrong[0])
        )


def write_stored(folder: Path, parts: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Write all files into an empty folder, and flush each to the disk; one part is copied to memory at a time.

    Raises:
        CheckpointError: If what is no tensor takes more than 64 MiB.
        TypeError: If something in a part or in the manifest cannot be stored.
    """
    started = time.monotonic()
    plain = json.loads(json.dumps(dict(manifest)))  # as it will be read: keys are text, tuples are lists
    mode = stat.S_IMODE(folder.stat().st_mode) & 0o666  # what the umask gives; safetensors takes 0600
    skeletons: dict[str, Any] = {}
    with ThreadPoolExecutor(max_workers=2) as pool:  # one part is flushed and hashed while the next is written
        flushed: dict[str, Future[dict[str, Any]]] = {}
        for part, tree in parts.items():
            skeletons[part], tensors = encode(tree, part)
            if tensors:
                path = folder / (part + SUFFIX)
                save_file(tensors, path, metadata={"format": "pt"})
                path.chmod(mode)
                flushed[path.name] = pool.submit(_flush, path)
        files = {_TREES: _write_json(folder / _TREES, skeletons)}
        files = {name: future.result() for name, future in flushed.items()} | files
    full = {**plain, "format": FORMAT, "files": files, "seconds": round(time.monotonic() - started, 3)}
    full.pop("sha256", None)  # it is to be the last
    _write_json(folder / _MANIFEST, {**full, "sha256": _digest(full)}, indent=1)


def _write_json(path: Path, content: dict[str, Any], indent: int | None = None) -> dict[str, Any]:
    text = json.dumps(content, indent=indent)
    if len(text) > _JSON_LIMIT:
        raise CheckpointError(
            f"`{path.name}` would be larger than {_JSON_LIMIT >> 20} MiB.", fix="Keep long lists as arrays or tensors."
        )
    path.write_text(text, encoding="ascii")
    return _flush(path)


def _flush(path: Path) -> dict[str, Any]:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> Any:
    if _size(path) > _JSON_LIMIT:
        raise CheckpointCorrupt(f"`{path}` is damaged: it is larger than {_JSON_LIMIT >> 20} MiB.")
    try:
        return json.loads(path.read_text(encoding="ascii"))
    except (ValueError, RecursionError) as error:
        raise CheckpointCorrupt(f"`{path}` is damaged: it is no JSON.") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = _read_json(path)
    rest = {key: value for key, value in manifest.items() if key != "sha256"} if isinstance(manifest, dict) else {}
    if not rest or manifest.get("sha256") != _digest(rest):
        raise CheckpointCorrupt(f"`{path}` is damaged: it does not match its sha256.")
    check_format(manifest, FORMAT, path)
    return rest


def check_format(manifest: Any, newest: int, path: Path) -> None:
    """Compare the format in a manifest with the newest that this release reads.

    Raises:
        CheckpointCorrupt: If there is none.
        CheckpointMismatch: If it is from a newer release.
    """
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise CheckpointCorrupt(f"`{path}` is damaged: its manifest has no format.")
    if manifest["format"] > newest:
        raise CheckpointMismatch(
            f"`{path}` was written by a newer release.",
            expected=f"format {newest}",
            received=f"format {manifest['format']}",
            fix="Upgrade super-selfish.",
        )


def _files(manifest: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """What the manifest says of each file; a name cannot lead out of the folder."""
    files = manifest.get("files")
    if not isinstance(files, dict) or _TREES not in files:
        raise CheckpointCorrupt(f"`{folder / _MANIFEST}` is damaged: it names no files.")
    for name, expected in files.items():
        known = name == _TREES or (name.endswith(SUFFIX) and _PART.fullmatch(name.removesuffix(SUFFIX)))
        if not known or not isinstance(expected, dict):
            raise CheckpointCorrupt(f"`{folder / _MANIFEST}` is damaged: {name[:80]!r} is no file of a checkpoint.")
    return files


def _check_file(path: Path, expected: dict[str, Any], *, full: bool) -> None:
    if _size(path) != expected.get("bytes"):
        raise CheckpointCorrupt(f"`{path}` is damaged: it has {_size(path)} bytes, not {expected.get('bytes')}.")
    if full and sha256_of(path) != expected.get("sha256"):
        raise CheckpointCorrupt(f"`{path}` is damaged: it does not match its sha256.")


def _size(path: Path) -> int:
    try:
        status = path.lstat()
    except OSError as error:
        raise CheckpointCorrupt(f"`{path}` is missing: {error.strerror or error}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointCorrupt(f"`{path}` is damaged: it is no plain file.")
    return status.st_size
