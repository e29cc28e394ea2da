"""Reading and writing of a checkpoint: the files of a training step, with checksums.

The tensors of each part are in ``PART.safetensors``; all other values are in ``trees.json``. ``manifest.json``
describes the checkpoint, with size and sha256 of each file. Its last field is the sha256 of its other fields.
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

CHECKPOINT_FORMAT = 1
_MANIFEST, _TREES = "manifest.json", "trees.json"
_JSON_LIMIT = 64 << 20
_PART = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class StoredCheckpoint:
    """A complete checkpoint on disk.

    Args:
        path: Folder of the checkpoint.
        full: Verify the sha256 of each file, not only its size.

    Attributes:
        path: Folder of the checkpoint.
        step: Number of training steps.
        manifest: JSON values that describe the checkpoint.

    Raises:
        CheckpointCorrupt: If the checkpoint is damaged; the message names the file.
        CheckpointMismatch: If the checkpoint was written by a newer release.
    """

    def __init__(self, path: Path, *, full: bool = True) -> None:
        self.path = path
        self.manifest = _read_manifest(path / _MANIFEST)
        self.step = step_of(path)
        if self.manifest.get("step") != self.step:
            raise CheckpointCorrupt(f"`{path / _MANIFEST}` is damaged: it belongs to another step.")
        for name, expected in _files(self.manifest, path).items():
            file = path / name
            if (size := _size(file)) != expected.get("bytes"):
                raise CheckpointCorrupt(f"`{file}` is damaged: it has {size} bytes instead of {expected.get('bytes')}.")
            if full and sha256_of(file) != expected.get("sha256"):
                raise CheckpointCorrupt(f"`{file}` is damaged: it does not match its sha256.")

    @cached_property
    def _skeletons(self) -> dict[str, Any]:
        trees = _read_json(self.path / _TREES)
        if not isinstance(trees, dict):
            raise CheckpointCorrupt(f"`{self.path / _TREES}` is damaged: it contains no parts.")
        return trees

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts."""
        return tuple(self._skeletons)

    def read(self, part: str) -> Any:
        """Read the tree of a part, with copies of its tensors on the CPU.

        Args:
            part: Name of the part.

        Raises:
            CheckpointMismatch: If there is no part with this name.
            CheckpointCorrupt: If the part is damaged.
        """
        if part not in self._skeletons:
            raise CheckpointMismatch(f"`{self.path}` has no part {part!r}.", expected=f"one of {', '.join(self.parts)}")
        path, tensors = self.path / (part + SUFFIX), {}
        try:
            if part + SUFFIX in self.manifest["files"]:  # verified names, which cannot leave the folder
                tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
            return decode(self._skeletons[part], tensors)
        except (SafetensorError, OSError) as error:
            raise CheckpointCorrupt(f"`{path}` is damaged: {error}.") from error


def step_of(path: Path) -> int:
    """The step in a folder name: ``step-000000012000`` or, for a replacement, ``step-000000012000.new``."""
    return int(path.name.removeprefix("step-").removesuffix(".new"))


def check_parts(parts: Mapping[str, Any]) -> None:
    """Raise a ConfigurationError if the name of a part is not a valid file name."""
    if invalid := [part for part in parts if not _PART.fullmatch(part)]:
        raise ConfigurationError(
            "The name of a part is not a valid file name.",
            expected="the characters a-z, 0-9, _ and -",
            received=repr(invalid[0]),
        )


def check_format(manifest: Any, newest: int, path: Path) -> None:
    """Check that this release can read the format of a manifest.

    Raises:
        CheckpointCorrupt: If the manifest has no format.
        CheckpointMismatch: If the format is from a newer release.
    """
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise CheckpointCorrupt(f"`{path}` is damaged: its manifest has no format.")
    if manifest["format"] > newest:
        raise CheckpointMismatch(
            f"`{path}` was written by a newer release.",
            expected=f"format {newest} or older",
            received=f"format {manifest['format']}",
            fix="Upgrade super-selfish.",
        )


def write_files(folder: Path, parts: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Write all files into an empty folder and flush each to disk. One part at a time is copied to memory.

    Raises:
        CheckpointError: If values other than tensors take more than 64 MiB.
        TypeError: If a value in a part or in the manifest cannot be stored.
    """
    started = time.monotonic()
    content = json.loads(json.dumps(dict(manifest)))  # as it will be read: str keys, lists instead of tuples
    mode = stat.S_IMODE(folder.stat().st_mode) & 0o666  # follows the umask; safetensors uses 0600
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
    content |= {"format": CHECKPOINT_FORMAT, "files": files, "seconds": round(time.monotonic() - started, 3)}
    content.pop("sha256", None)  # must be the last field
    _write_json(folder / _MANIFEST, {**content, "sha256": _digest(content)}, indent=1)


def _write_json(path: Path, content: dict[str, Any], indent: int | None = None) -> dict[str, Any]:
    text = json.dumps(content, indent=indent)
    if len(text) > _JSON_LIMIT:
        raise CheckpointError(
            f"`{path.name}` would be larger than {_JSON_LIMIT >> 20} MiB.", fix="Store long lists as arrays or tensors."
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
        raise CheckpointCorrupt(f"`{path}` is damaged: it is not valid JSON.") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = _read_json(path)
    rest = {key: value for key, value in manifest.items() if key != "sha256"} if isinstance(manifest, dict) else {}
    if not rest or manifest.get("sha256") != _digest(rest):
        raise CheckpointCorrupt(f"`{path}` is damaged: it does not match its sha256.")
    check_format(rest, CHECKPOINT_FORMAT, path)
    return rest


def _files(manifest: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of each file, from the manifest. Names cannot refer to files outside of the folder."""
    files = manifest.get("files")
    if not isinstance(files, dict) or _TREES not in files:
        raise CheckpointCorrupt(f"`{folder / _MANIFEST}` is damaged: it lists no files.")
    for name, expected in files.items():
        known = name == _TREES or (name.endswith(SUFFIX) and _PART.fullmatch(name.removesuffix(SUFFIX)))
        if not known or not isinstance(expected, dict):
            raise CheckpointCorrupt(f"`{folder / _MANIFEST}` is damaged: {name[:80]!r} is not a file of a checkpoint.")
    return files


def _size(path: Path) -> int:
    try:
        status = path.lstat()
    except OSError as error:
        raise CheckpointCorrupt(f"`{path}` is missing: {error.strerror or error}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointCorrupt(f"`{path}` is damaged: it is not a regular file.")
    return status.st_size
