"""The weights file ``NAME.safetensors`` with its manifest, and ``NAME.json``, a human-readable copy of the manifest.

The manifest (class, settings, preprocessing, versions, history) is stored in the header of the safetensors file,
together with the sha256 of all tensors. One rename therefore replaces weights and manifest, and bit flips are detected.
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
from super_selfish.files import RETRAIN, SUFFIX, base_path, keep_previous, with_suffix, write_text, write_with
from super_selfish.storage.checkpoint import StoredCheckpoint, check_format
from super_selfish.storage.checkpoint_folder import CheckpointFolder
from super_selfish.suggestions import did_you_mean

WEIGHTS_FORMAT = 1
_KEY = "super_selfish"
_PREVIOUS = ".prev"
_FIX = "No file was changed. Restore it from a backup, or train with resume=True to write it again from a checkpoint."
_MAX_MANIFEST = 64 << 20  # characters


@dataclass
class WeightsFile:
    """The content of a weights file.

    Attributes:
        path: Path of the file.
        tensors: Tensors by name, on the CPU. They are memory-mapped, and read when they are used.
        manifest: JSON values; empty for a plain state_dict.
    """

    path: Path
    tensors: dict[str, Tensor]
    manifest: dict[str, Any]


def write_weights(
    name: str | os.PathLike[str], tensors: dict[str, Tensor], manifest: dict[str, Any], *, keep: bool = False
) -> Path:
    """Write the weights file and the copy of its manifest, each atomically.

    Args:
        name: Path without suffix.
        tensors: Tensors by name.
        manifest: JSON values.
        keep: Keep the existing files as ``*.prev``, unless the existing ``*.prev`` was trained for more steps.

    Returns:
        Path of the weights file.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    base = base_path(name)
    weights, readable = with_suffix(base, SUFFIX), with_suffix(base, ".json")
    copies = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}  # no shared storage
    text = json.dumps({"format": WEIGHTS_FORMAT, **manifest, "sha256": _digest(copies)}, indent=1, allow_nan=True)
    if keep and trained_steps(weights) >= trained_steps(with_suffix(weights, _PREVIOUS)):
        keep_previous(weights)
        keep_previous(readable)
    write_text(readable, text + "\n")  # first: it is never read, so it may be newer than the weights
    write_with(weights, lambda path: save_file(copies, path, metadata={_KEY: text, "format": "pt"}))
    return weights


def trained_steps(path: Path) -> int:
    """Number of training steps of a weights file; 0 if there is no file, -1 if it cannot be read."""
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            steps = json.loads((file.metadata() or {}).get(_KEY, "{}")).get("training", {}).get("steps", 0)
    except (SafetensorError, OSError, ValueError, AttributeError):
        return -1
    return steps if isinstance(steps, int) else 0


def read_newest(name: str | os.PathLike[str]) -> WeightsFile:
    """Read the weights file of a training or, if there is none, the weights in its newest checkpoint.

    Raises:
        CheckpointError: If there is neither, or it is damaged.
    """
    base = base_path(name)
    if not with_suffix(base, SUFFIX).is_file() and not with_suffix(base, ".pt").is_file():
        found = CheckpointFolder(base).newest_valid()
        if found is not None:
            return weights_in(found)
    return read_weights(name)


def weights_in(checkpoint: StoredCheckpoint) -> WeightsFile:
    """The weights and the history of a checkpoint."""
    manifest = checkpoint.manifest
    if "history" in checkpoint.parts:  # earlier checkpoints have it in the manifest
        manifest = {**manifest, "history": json.loads(bytes(checkpoint.read("history")["text"].numpy()))}
    return WeightsFile(checkpoint.path, checkpoint.read("model"), manifest)


def read_weights(name: str | os.PathLike[str]) -> WeightsFile:
    """Read and verify a weights file. ``NAME.prev`` is the file that the last training replaced.

    Raises:
        CheckpointError: If there is no file, or it cannot be opened.
        CheckpointCorrupt: If the file is damaged.
        CheckpointMismatch: If the file was written by a newer release.
    """
    text = os.fspath(name)
    previous = _PREVIOUS if text.endswith(_PREVIOUS) else ""
    base = base_path(text.removesuffix(_PREVIOUS))
    path, plain = with_suffix(base, SUFFIX + previous), with_suffix(base, ".pt")
    if path.is_file():
        return verified(path)
    if plain.is_file():
        return WeightsFile(plain, _read_plain(plain), {})
    stored = sorted(
        other.name.removesuffix(SUFFIX) for other in path.parent.glob(f"*{SUFFIX}") if not _is_export(other)
    )
    names = {each: repr(str(path.parent / each)) for each in stored}
    available = f"Available: {', '.join(names.values())}." if names else f"There are no weights in `{path.parent}`."
    raise CheckpointError(
        f"There is no `{path}`.",
        expected="the name of a training without suffix, such as store/base",
        received=repr(text),
        fix=did_you_mean(base.name, names) or available,
    )


def _is_export(path: Path) -> bool:
    """Whether a file is an exported backbone by its name; trainings have a copy of their manifest beside them."""
    return path.name.endswith(f"_backbone{SUFFIX}") and not path.with_suffix(".json").is_file()


def verified(path: Path) -> WeightsFile:
    """Read a weights file and verify its sha256.

    Raises:
        CheckpointError: If the file cannot be opened.
        CheckpointCorrupt: If the file is damaged.
        CheckpointMismatch: If the file was written by a newer release.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise CheckpointCorrupt(f"`{path}` is damaged: {error}.", fix=_FIX) from error
    except OSError as error:
        raise CheckpointError(f"`{path}` cannot be read: {error.strerror or error}.") from error
    if text is None:
        return WeightsFile(path, tensors, {})
    try:
        manifest: Any = json.loads(text) if len(text) <= _MAX_MANIFEST else None
    except (ValueError, RecursionError) as error:
        raise CheckpointCorrupt(f"`{path}` is damaged: its manifest is not JSON.", fix=_FIX) from error
    check_format(manifest, WEIGHTS_FORMAT, path)
    if manifest.get("sha256") != _digest(tensors):
        raise CheckpointCorrupt(f"`{path}` is damaged: its tensors do not match their sha256.", fix=_FIX)
    return WeightsFile(path, tensors, manifest)


def read_saved(path: Path) -> Any:
    """Read a file written by ``torch.save``, without executing code from it.

    Raises:
        CheckpointError: If the torch version cannot read it safely.
        CheckpointCorrupt: If the file contains objects other than tensors and plain values.
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
    except Exception as error:  # torch raises errors of many types; each means that this is not a plain state_dict
        raise CheckpointCorrupt(f"`{path}` is not a plain state_dict: {type(error).__name__}.", fix=RETRAIN) from error


def _read_plain(path: Path) -> dict[str, Tensor]:
    state = read_saved(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        expected = "a dict of tensors by name"
        raise CheckpointMismatch(f"`{path}` is not a plain state_dict.", expected=expected, fix=RETRAIN)
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _digest(tensors: dict[str, Tensor]) -> str:
    """The sha256 of names, dtypes, shapes and values, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()
