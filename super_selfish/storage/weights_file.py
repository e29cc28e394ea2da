"""The public artefact: ``NAME.safetensors``, which says itself what it is, and ``NAME.json`` for people.

The manifest (class, settings, preprocessing, versions, history) stands in the header of the safetensors file, together
with a sha256 of all tensors. One rename therefore replaces weights and manifest at once, and a flipped bit is noticed.
``NAME.json`` repeats the manifest in readable form; nothing is read from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from super_selfish.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch
from super_selfish.files import SUFFIX, base_path, keep_previous, with_suffix, write_text, write_with

FORMAT = 1
_KEY = "super_selfish"
_PREVIOUS = ".prev"
_MEND = "Nothing was changed. Restore it from a copy; training with resume=True writes it anew from its checkpoints."
_MANIFEST_LIMIT = 64 << 20


@dataclass
class Artefact:
    """What a file of weights holds.

    Attributes:
        path: The file.
        tensors: By name, on the CPU.
        manifest: What the file says of itself; empty for a plain state_dict.
    """

    path: Path
    tensors: dict[str, Tensor]
    manifest: dict[str, Any]


def digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, types, shapes and contents, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()


def write_artefact(
    name: str | os.PathLike[str], tensors: dict[str, Tensor], manifest: dict[str, Any], *, keep: bool = False
) -> Path:
    """Write both files, each whole or not at all.

    Args:
        name: The path without suffix.
        tensors: By name.
        manifest: JSON values.
        keep: Keep what stands there as ``*.prev``, unless what is kept there has seen more updates.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    base = base_path(name)
    weights, readable = with_suffix(base, SUFFIX), with_suffix(base, ".json")
    own = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}  # no shared storage
    full = {"format": FORMAT, **manifest, "sha256": digest(own)}
    text = json.dumps(full, indent=1, allow_nan=True)
    if keep and stored_steps(weights) >= stored_steps(weights, ".prev"):
        keep_previous(weights)
        keep_previous(readable)
    write_text(readable, text + "\n")  # first: nothing is read from it, so it may run ahead of the weights
    write_with(weights, lambda path: save_file(own, path, metadata={_KEY: text, "format": "pt"}))
    return weights


def stored_steps(weights: Path, suffix: str = "") -> int:
    """How many updates a file of weights has seen; 0 if it is none, -1 if it cannot be read."""
    path = weights.with_name(weights.name + suffix)
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            steps = json.loads((file.metadata() or {}).get(_KEY, "{}")).get("training", {}).get("steps", 0)
    except (SafetensorError, OSError, ValueError, AttributeError):
        return -1
    return steps if isinstance(steps, int) else 0


def read_artefact(name: str | os.PathLike[str]) -> Artefact:
    """Read and verify a file of weights; ``NAME.prev`` is what the last training replaced.

    Raises:
        CheckpointError: If there is none, or it cannot be opened.
        CheckpointCorrupt: If it is damaged.
        CheckpointMismatch: If it is from a newer release.
    """
    text = os.fspath(name)
    previous = _PREVIOUS if text.endswith(_PREVIOUS) else ""
    base = base_path(text.removesuffix(_PREVIOUS))
    path = with_suffix(base, SUFFIX + previous)
    if not path.is_file():
        plain = with_suffix(base, ".pt")
        if plain.is_file():
            return Artefact(plain, _read_plain(plain), {})
        raise CheckpointError(
            f"There is no `{path}`.",
            expected="the `name` that training was given, without suffix",
            received=repr(os.fspath(name)),
            fix=f"In that folder: {_neighbours(path)}.",
        )
    try:
        with safe_open(path, framework="pt") as file:
            manifest_text = (file.metadata() or {}).get(_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise CheckpointCorrupt(f"`{path}` is damaged: {error}.", fix=_MEND) from error
    except OSError as error:
        raise CheckpointError(f"`{path}` cannot be read: {error.strerror or error}.") from error
    manifest = {} if manifest_text is None else _parse(manifest_text, path)
    if manifest and manifest.get("sha256") != digest(tensors):
        raise CheckpointCorrupt(
            f"`{path}` is damaged: its tensors do not match their checksum.",
            fix=_MEND,
        )
    return Artefact(path, tensors, manifest)


def manifest_in(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    """What a file says of itself, from the metadata in its header; empty for a plain state_dict.

    Raises:
        CheckpointCorrupt: If it is damaged.
        CheckpointMismatch: If it is from a newer release.
    """
    text = metadata.get(_KEY)
    return {} if text is None else _parse(text, path)


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(text) if len(text) <= _MANIFEST_LIMIT else None
    except (ValueError, RecursionError) as error:
        raise CheckpointCorrupt(f"`{path}` is damaged: its manifest is not JSON.") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise CheckpointCorrupt(f"`{path}` is damaged: its manifest has no format.")
    if manifest["format"] > FORMAT:
        raise CheckpointMismatch(
            f"`{path}` was written by a newer release.",
            expected=f"format {FORMAT}",
            received=f"format {manifest['format']}",
            fix="Upgrade super-selfish.",
        )
    return manifest


def read_saved(path: Path) -> Any:
    """What ``torch.save`` wrote, read without running code.

    Raises:
        CheckpointError: If torch is too old to do that.
        CheckpointCorrupt: If it holds more than tensors and plain values.
    """
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 10):
        raise CheckpointError(
            f"`{path}` is a pickle, which torch {torch.__version__} cannot read safely.",
            expected="torch 2.10 or newer",
            fix="Upgrade torch, or convert the file to safetensors.",
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; each means that this is no plain state_dict
        raise CheckpointCorrupt(f"`{path}` is no plain state_dict: {type(error).__name__}.") from error


def _read_plain(path: Path) -> dict[str, Tensor]:
    state = read_saved(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointMismatch(f"`{path}` is no plain state_dict.", expected="a dict of tensors by name")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f"nothing, {path.parent} does not exist"
    names = sorted(other.name.removesuffix(SUFFIX) for other in path.parent.glob(f"*{SUFFIX}"))
    return ", ".join(names[:8]) if names else "no weights"
