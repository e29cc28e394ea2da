"""Inspection and verification of the files of a training."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from super_selfish.errors import CheckpointError, validate_keywords
from super_selfish.files import SUFFIX, base_path, with_suffix
from super_selfish.storage.checkpoint import StoredCheckpoint, step_of
from super_selfish.storage.checkpoint_folder import CheckpointFolder
from super_selfish.storage.weights_file import verified


@dataclass(frozen=True)
class Stored:
    """A weights file or a checkpoint.

    Attributes:
        path: The weights file, or the folder of the checkpoint.
        bytes: Size in bytes.
        damage: Why it cannot be used; empty if it is undamaged.
        manifest: The manifest; empty if it is damaged.
    """

    path: Path
    bytes: int
    damage: str
    manifest: dict[str, Any] = field(repr=False)

    @property
    def is_complete(self) -> bool:
        """Whether all content matches its hashes."""
        return not self.damage

    @property
    def steps(self) -> int:
        """Number of training steps."""
        training = self.manifest.get("training")
        return int(training.get("steps", 0)) if isinstance(training, dict) else 0


@dataclass(frozen=True)
class Inspection:
    """The files of a training.

    Attributes:
        weights: The weights file ``NAME.safetensors``; None if there is none.
        checkpoints: The checkpoints in ``NAME.ckpt``, the newest first.
    """

    weights: Stored | None
    checkpoints: tuple[Stored, ...]

    @property
    def is_valid(self) -> bool:
        """Whether the weights file and the newest checkpoint are undamaged, if they exist."""
        return all(each.is_complete for each in (self.weights, *self.checkpoints[:1]) if each is not None)

    def __str__(self) -> str:
        lines = []
        for each in (self.weights, *self.checkpoints):
            if each is not None:
                supervisor = each.manifest.get("supervisor", "?")
                steps = f"{each.steps} step{'' if each.steps == 1 else 's'}"
                content = f"{supervisor}, {steps}, {each.bytes / 1e6:.1f} MB"
                lines.append(f"{'valid  ' if each.is_complete else 'CORRUPT'} {each.path}: {each.damage or content}")
        return "\n".join(lines)


@validate_keywords()
def inspect(name: str | os.PathLike[str] = "store/base") -> Inspection:
    """Verify all files of a training. Files are not modified, and tensors are not copied to memory.

    Args:
        name: Name of the training, as passed to ``supervise`` or ``save``.

    Returns:
        The weights file and the checkpoints, each with its size in bytes, number of training steps and damage.
        ``print`` shows one line per file; ``is_valid`` is False if the weights or the newest checkpoint are corrupt.

    Raises:
        CheckpointError: If there are no files with this name.
    """
    base = base_path(name)
    found = weights_at(base)
    steps = tuple(_checkpoint(path) for path in CheckpointFolder(base).checkpoint_paths())
    if found is None and not steps:
        raise CheckpointError(
            f"There is neither `{with_suffix(base, SUFFIX)}` nor a checkpoint in `{with_suffix(base, '.ckpt')}`.",
            expected="the name of a training without suffix, such as store/base",
            received=repr(os.fspath(name)),
        )
    return Inspection(found, steps)


def weights_at(base: Path) -> Stored | None:
    """Verify the weights file of a training; None if there is none."""
    path = with_suffix(base, SUFFIX)
    if not path.exists():
        return None
    size = path.stat().st_size if path.is_file() else 0
    try:
        return Stored(path, size, "", verified(path).manifest)
    except CheckpointError as error:
        return Stored(path, size, str(error), {})


def _checkpoint(path: Path) -> Stored:
    size = sum(file.stat().st_size for file in path.glob("*") if file.is_file())
    try:
        return Stored(path, size, "", StoredCheckpoint(path, full=True).manifest)
    except OSError as error:
        return Stored(path, size, str(error), {"training": {"steps": step_of(path)}})
