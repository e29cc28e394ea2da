"""The folder ``NAME.ckpt`` with the checkpoints of a training.

Every ``step-000000012000/`` in it is complete: it gets this name by one rename, after all files are flushed to disk.
``LATEST`` is informational. A training resumes from the newest step whose files match the sha256 in ``manifest.json``.

A folder X is replaced by three renames: the complete new folder becomes ``X.new``, X is moved away, and ``X.new``
becomes X. Readers also look for ``X.new``, so a kill in between loses neither. ``.tmp-*`` and ``.trash-*`` are never
read.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError

from super_selfish.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointMismatch,
    ConfigurationError,
    check_choice,
)
from super_selfish.files import sync_folder, with_suffix, write_text
from super_selfish.storage.checkpoint import StoredCheckpoint, check_parts, step_of, write_files

_NEW = ".new"
_STEP = re.compile(r"step-\d{12,18}(?:\.new)?")
_LEFTOVER = re.compile(r"\.(?:tmp|trash)-.+-([1-9]\d{0,8})-([0-9a-f]{8})-[0-9a-f]{8}")
_LATEST = re.compile(r"\.LATEST\..*\.tmp")
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_ABANDONED = 24 * 3600.0  # seconds after which leftovers of other computers are removed

logger = logging.getLogger("super_selfish")


class CheckpointFolder:
    """All checkpoints of one training.

    Args:
        base: Path without suffix, as returned by `super_selfish.files.base_path`.

    Attributes:
        path: The folder ``NAME.ckpt``.
        previous: The folder ``NAME.ckpt.prev``, which keeps the checkpoints of an older training.
    """

    def __init__(self, base: Path) -> None:
        self.path = with_suffix(base, ".ckpt")
        self.previous = with_suffix(self.path, ".prev")
        self._new = with_suffix(self.path, _NEW)
        self._damaged: set[Path] = set()
        self._written = False

    def steps(self) -> list[int]:
        """Steps of the checkpoints, the newest first. Checkpoints may be damaged."""
        return list(dict.fromkeys(step_of(path) for path in self.checkpoint_paths()))

    def newest_valid(self, verify: Literal["full", "size"] = "full") -> StoredCheckpoint | None:
        """The newest undamaged checkpoint, or None if there are no checkpoints. Files are not modified.

        Args:
            verify: ``"full"`` verifies the sha256 of each file; ``"size"`` only the sizes, which is fast.

        Raises:
            CheckpointCorrupt: If all checkpoints are damaged.
            CheckpointMismatch: If the newest checkpoint was written by a newer release.
            ConfigurationError: If ``verify`` is unknown.
        """
        check_choice("verify", verify, ("full", "size"))
        while True:
            stored, reasons = self.checkpoint_paths(), []
            for path in stored:
                try:
                    return StoredCheckpoint(path, full=verify == "full")
                except CheckpointMismatch:
                    raise
                except OSError as error:  # includes CheckpointCorrupt
                    if path.exists():  # otherwise, a running training replaced it
                        reasons.append(str(error))
                        self._damaged.add(path)
                        logger.warning("Skipping a damaged checkpoint. %s", error)
            if stored == self.checkpoint_paths():
                break
        if not stored:
            return None
        hint = f" Checkpoints of an older training are in `{self.previous}`." if self.previous.is_dir() else ""
        raise CheckpointCorrupt(
            f"All checkpoints in `{self.path}` are damaged. {' '.join(reasons)}",
            fix=f"Restore the folder from a backup, or start over. No file was changed.{hint}",
        )

    def write(
        self, step: int, parts: Mapping[str, Any], manifest: Mapping[str, Any], keep: int = 2, *, fresh: bool = False
    ) -> Path:
        """Write a checkpoint, then remove old ones.

        Args:
            step: Number of training steps.
            parts: Trees by name, as accepted by `super_selfish.storage.codec.encode`.
            manifest: JSON values that describe the checkpoint.
            keep: Number of undamaged checkpoints to keep, at least 1.
            fresh: Whether the training was not resumed from this folder. If so, the folder of the older training is
                moved to ``NAME.ckpt.prev`` when the first checkpoint is complete.

        Returns:
            Folder of the checkpoint.

        Raises:
            CheckpointError: If the checkpoint cannot be written. Earlier checkpoints are not affected.
            ConfigurationError: If an argument is invalid.
            TypeError: If a value in a part or in the manifest cannot be stored.
        """
        _check_arguments(step, parts, keep)
        try:
            self._finish_replacements()
            fresh = fresh and not self._written and bool(self.checkpoint_paths())
            root = self._new if fresh else self.path
            before = None if fresh else max((other for other in self.steps() if other < step), default=None)
            target = self._commit(root, step, parts, {**manifest, "step": step, "previous": before})
            if fresh:
                self._set_aside()
                target = self.path / target.name
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"`{self.path}` could not be written: {str(getattr(error, 'strerror', None) or error).rstrip('.')}.",
                fix="Earlier checkpoints are unchanged. Free disk space, or choose another `name`.",
            ) from error
        self._damaged.discard(target)
        try:  # the checkpoint is complete: training continues if the following fails
            write_text(self.path / "LATEST", target.name + "\n")
            self._remove_old(step, keep)
        except OSError as error:
            logger.warning(
                "Checkpoint `%s` was written, but `%s` could not be cleaned up: %s", target.name, self.path, error
            )
        return target

    def clean(self, after: int | None = None) -> None:
        """Complete interrupted replacements and remove temporary files of killed trainings, at the start of a training.

        Files of running processes are not modified. Checkpoints of later steps than ``after`` are removed too.

        Raises:
            CheckpointError: If the folder cannot be modified.
        """
        try:
            self._finish_replacements()
            for path in self.checkpoint_paths():
                if after is not None and step_of(path) > after:
                    path.rename(_scratch(self.path, "trash", path.name))
            _sweep(self.path)
        except OSError as error:
            raise CheckpointError(f"`{self.path}` cannot be cleaned up: {error.strerror or error}.") from error

    def checkpoint_paths(self) -> list[Path]:
        """Folders of checkpoints, the newest first. A replacement precedes the folder that it replaces."""
        for root in (self.path, self._new, self.path):  # twice, because a replacement may complete in between
            if found := _stored_in(root):
                return found
        return []

    def _commit(self, root: Path, step: int, parts: Mapping[str, Any], manifest: dict[str, Any]) -> Path:
        target = root / f"step-{step:012d}"
        complete = with_suffix(target, _NEW)
        with _removed_on_failure(_scratch(root, "tmp", str(step))) as temporary:
            write_files(temporary, parts, manifest)
            sync_folder(temporary)
            temporary.rename(complete if target.exists() else target)
            self._written = True
        sync_folder(root)
        sync_folder(root.parent)
        if complete.exists():
            _move_into_place(complete, target, aside=_scratch(root, "trash", target.name))
        return target

    def _set_aside(self) -> None:
        """Rename ``NAME.ckpt`` to ``NAME.ckpt.prev``, and ``NAME.ckpt.new`` to ``NAME.ckpt``."""
        aside = self.previous if _stored_in(self.path) else _scratch(self._new, "trash", "empty")
        if aside.exists():
            aside.rename(_scratch(self._new, "trash", "prev"))
            sync_folder(self.path.parent)
        _move_into_place(self._new, self.path, aside=aside)
        self._damaged.clear()

    def _finish_replacements(self) -> None:
        """Complete replacements that were interrupted by a kill. No undamaged checkpoint is lost."""
        if any(_is_valid(path, full=True) for path in _stored_in(self._new)) or not self.path.exists():
            if self._new.is_dir():
                self._set_aside()
        else:
            _sweep(self._new)
            with contextlib.suppress(OSError):
                self._new.rmdir()
        for path in _stored_in(self.path):
            target = path.with_suffix("")
            if path.suffix == _NEW and target.exists() and not _is_valid(path, full=True):
                path.rename(_scratch(self.path, "trash", path.name))
            elif path.suffix == _NEW:
                _move_into_place(path, target, aside=_scratch(self.path, "trash", target.name))

    def _remove_old(self, step: int, keep: int) -> None:
        """Remove checkpoints older than the ``keep`` newest undamaged ones, counted from ``step`` down."""
        stored = self.checkpoint_paths()
        valid = [path for path in stored if step_of(path) <= step and path not in self._damaged and _is_valid(path)]
        for path in stored:
            if len(valid) >= keep and step_of(path) < step_of(valid[keep - 1]):
                path.rename(_scratch(self.path, "trash", path.name))
        _sweep(self.path)


def _check_arguments(step: int, parts: Mapping[str, Any], keep: int) -> None:
    if not 0 <= step < 10**18 or keep < 1:
        raise ConfigurationError(
            "`step` or `keep` is out of range.",
            expected="a step of at least 0, and keep of at least 1",
            received=f"step={step}, keep={keep}",
        )
    check_parts(parts)


@contextlib.contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[Path]:
    try:
        temporary.mkdir(parents=True)
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            temporary.parent.rmdir()  # only if it is empty
        raise


def _move_into_place(new: Path, current: Path, *, aside: Path) -> None:
    if current.exists():
        current.rename(aside)
        sync_folder(current.parent)
    new.rename(current)
    sync_folder(current.parent)


def _scratch(root: Path, kind: str, label: str) -> Path:
    return root / f".{kind}-{label}-{os.getpid()}-{_HOST}-{secrets.token_hex(4)}"


def _sweep(root: Path) -> None:
    """Remove temporary files of this and of terminated processes; log a warning if that fails."""
    for path in root.iterdir() if root.is_dir() else ():
        found = _LEFTOVER.fullmatch(path.name)
        if not (_is_abandoned(path, int(found[1]), found[2]) if found else _LATEST.fullmatch(path.name)):
            continue
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            logger.warning("The temporary folder `%s` cannot be removed: %s.", path, error.strerror or error)


def _is_abandoned(path: Path, process: int, host: str) -> bool:
    if host == _HOST and process == os.getpid():
        return True
    if host == _HOST and os.name != "nt":  # on Windows, os.kill would terminate the process
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # the process is running, as another user
            pass
    return time.time() - path.lstat().st_mtime > _ABANDONED


def _stored_in(root: Path) -> list[Path]:
    try:
        found = [path for path in root.iterdir() if _STEP.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"`{root}` cannot be read: {error.strerror or error}.") from error
    return sorted(found, key=lambda path: (-step_of(path), path.suffix != _NEW))


def _is_valid(path: Path, *, full: bool = False) -> bool:
    try:
        StoredCheckpoint(path, full=full)
    except OSError:
        return False
    return True
