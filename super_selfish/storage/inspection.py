"""What is stored under a name, and whether it is whole: by its hashes, without loading a tensor."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from super_selfish.errors import CheckpointCorrupt, CheckpointError
from super_selfish.files import SUFFIX, base_path, with_suffix
from super_selfish.storage.checkpoint import CheckpointFolder
from super_selfish.storage.stored import StoredCheckpoint, step_of
from super_selfish.storage.weights_file import manifest_in

_HEADER_LIMIT = 128 << 20  # bytes
_BLOCK = 1 << 20
_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """One thing that is stored.

    Attributes:
        path: A file of weights, or the folder of a checkpoint.
        bytes: Its size.
        damage: What is wrong with it; empty if it is whole.
        manifest: What it says of itself; empty where that cannot be read.
    """

    path: Path
    bytes: int
    damage: str
    manifest: dict[str, Any] = field(repr=False)

    @property
    def whole(self) -> bool:
        """Whether all of it matches its hashes."""
        return not self.damage

    @property
    def steps(self) -> int:
        """Updates of the weights that it has seen."""
        training = self.manifest.get("training")
        return int(training.get("steps", 0)) if isinstance(training, dict) else 0


@dataclass(frozen=True)
class Inspection:
    """What is stored under a name.

    Attributes:
        weights: ``NAME.safetensors``, or None.
        checkpoints: Steps in ``NAME.ckpt``, the newest first.
    """

    weights: Stored | None
    checkpoints: tuple[Stored, ...]

    @property
    def sound(self) -> bool:
        """Whether the weights and the newest checkpoint, as far as they exist, are whole."""
        return all(each.whole for each in (self.weights, *self.checkpoints[:1]) if each is not None)

    def __str__(self) -> str:
        lines = []
        for each in (self.weights, *self.checkpoints):
            if each is not None:
                supervisor = each.manifest.get("supervisor", "?")
                said = f"{supervisor}, {each.steps} steps, {each.bytes / 1e6:.1f} MB"
                lines.append(f"{'whole  ' if each.whole else 'DAMAGED'} {each.path}: {each.damage or said}")
        return "\n".join(lines)


def inspect(name: str | os.PathLike[str] = "store/base") -> Inspection:
    """Look at everything that is stored under a name; nothing is changed, and no tensor is loaded.

    Args:
        name: As given to ``supervise`` or ``save``.

    Raises:
        CheckpointError: If there is nothing.
    """
    base = base_path(name)
    found = weights_at(base)
    steps = tuple(_checkpoint(path) for path in CheckpointFolder(base).stored())
    if found is None and not steps:
        raise CheckpointError(
            f"There is neither `{with_suffix(base, SUFFIX)}` nor a checkpoint in `{with_suffix(base, '.ckpt')}`.",
            expected="the `name` that training was given, without suffix",
            received=repr(os.fspath(name)),
        )
    return Inspection(found, steps)


def weights_at(base: Path) -> Stored | None:
    """The weights of a training, looked at; None: there are none."""
    path = with_suffix(base, SUFFIX)
    return _weights(path) if path.exists() else None


def _weights(path: Path) -> Stored:
    manifest: dict[str, Any] = {}
    try:
        with path.open("rb") as stream:
            header = _header(stream, path)
            metadata = header.pop("__metadata__", None)
            manifest = manifest_in(metadata if isinstance(metadata, dict) else {}, path)
            if manifest and manifest.get("sha256") != _digest(stream, header):
                raise CheckpointCorrupt("its tensors do not match their checksum")
        return Stored(path, path.stat().st_size, "", manifest)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        size = path.stat().st_size if path.is_file() else 0
        return Stored(path, size, str(error) or type(error).__name__, manifest)


def _checkpoint(path: Path) -> Stored:
    size = sum(file.stat().st_size for file in path.glob("*") if file.is_file())
    try:
        return Stored(path, size, "", StoredCheckpoint(path, full=True).manifest)
    except OSError as error:
        return Stored(path, size, str(error), {"training": {"steps": step_of(path)}})


def _header(stream: BinaryIO, path: Path) -> dict[str, Any]:
    """The JSON that a safetensors file begins with; the stream then stands at the first tensor."""
    (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))
    if length > min(_HEADER_LIMIT, path.stat().st_size):
        raise CheckpointCorrupt(f"`{path}` is damaged: it has no header.")
    header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise CheckpointCorrupt(f"`{path}` is damaged: its header is no list of tensors.")
    return header


def _digest(stream: BinaryIO, header: dict[str, Any]) -> str:
    """As :func:`super_selfish.storage.weights_file.digest`, read in blocks from the file."""
    total, start = hashlib.sha256(), stream.tell()
    for name in sorted(header):
        told = header[name]
        shape = tuple(int(size) for size in told["shape"])
        total.update(f"{name}|torch.{_TYPES[told['dtype']]}|{shape}|".encode())
        begin, end = (int(offset) for offset in told["data_offsets"])
        stream.seek(start + begin)
        left = end - begin
        while left > 0 and (block := stream.read(min(_BLOCK, left))):
            total.update(block)
            left -= len(block)
        if left:
            raise CheckpointCorrupt("it is cut short")
    return total.hexdigest()
