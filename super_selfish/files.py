"""Atomic file writes: a reader sees the old content or the new, never a part.

Every write goes to a temporary file in the same folder, is flushed to disk and renamed over the old file; then the
rename is flushed.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from super_selfish.errors import CheckpointError, ConfigurationError

SUFFIX = ".safetensors"
RETRAIN = "A .pt file of the release of 2020 cannot be read by this one: train again, and the new file says how."

logger = logging.getLogger("super_selfish")


def _umask_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk; a no-op where folders cannot be opened (Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Context manager: a temporary path that replaces ``target`` if the block succeeds.

    Raises:
        CheckpointError: If the folder cannot be written, or the disk is full. The old file is then untouched.
    """
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(_umask_mode())  # safetensors and mkstemp give 0600, whatever the umask says
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
        temporary = None
        sync_folder(target.parent)
    except OSError as error:
        raise CheckpointError(
            f"`{target}` could not be written: {error.strerror or error}.",
            fix="Anything that was there before is unchanged. Choose another `name`, or make room on the disk.",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Replace a text file atomically."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_with(target: Path, write: Callable[[Path], object]) -> None:
    """Replace a file atomically by the one that ``write(path)`` writes."""
    with replacing(target) as temporary:
        write(temporary)


def keep_previous(target: Path) -> Path | None:
    """Keep the present content of ``target`` as ``<target>.prev``; ``target`` is never missing.

    Failure is only a warning, because new weights are about to be written.
    """
    if not target.is_file():
        return None
    previous = target.with_name(target.name + ".prev")
    temporary = target.with_name(f".{previous.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        try:
            os.link(target, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(target, temporary)
        temporary.replace(previous)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        logger.warning("`%s` could not be kept as `%s`: %s.", target, previous, error.strerror or error)
        return None
    return previous


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def base_path(name: str | os.PathLike[str]) -> Path:
    """The path that all files of one training share: ``store/base`` for ``store/base.safetensors``.

    Raises:
        ConfigurationError: If the name is empty, holds a NUL, or ends in a separator.
    """
    text = os.fspath(name)
    stem = Path(text).name.removesuffix(SUFFIX) if isinstance(text, str) else ""
    if not isinstance(text, str) or not stem.strip(" .") or "\0" in text or text.endswith(("/", os.sep)):
        raise ConfigurationError(
            "`name` is not the name of a file.",
            expected='a path such as "store/base", to which .safetensors and .json are appended',
            received=repr(name),
        )
    return Path(text.removesuffix(SUFFIX)).expanduser()


def with_suffix(base: Path, suffix: str) -> Path:
    """``store/v1.2`` and ``.json`` give ``store/v1.2.json`` (the dot of a version is no suffix)."""
    return base.with_name(base.name + suffix)


def check_writable(base: Path) -> None:
    """Check before training that files of this name can be written.

    Raises:
        ConfigurationError: If they cannot, with the reason.
    """
    remedy = "Pass a `name` in a folder that you may write, such as name='store/base'."
    for suffix in (SUFFIX, ".json"):
        if with_suffix(base, suffix).is_dir():
            raise ConfigurationError(
                f"`name` cannot be written: {with_suffix(base, suffix)} is a folder.",
                received=repr(str(base)),
                fix=remedy,
            )
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        longest = f".{base.name}.interrupted{SUFFIX}.prev."
        with tempfile.NamedTemporaryFile(prefix=longest, suffix=".tmp", dir=base.parent) as probe:
            probe.write(b"x")
    except OSError as error:
        raise ConfigurationError(
            f"`name` cannot be written: {error.strerror or error}.", received=repr(str(base)), fix=remedy
        ) from error
