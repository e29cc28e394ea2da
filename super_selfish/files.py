"""Atomic file writes: a reader sees the old content or the new, never a part.

Every write goes to a temporary file in the same folder, is flushed to disk and renamed over the old file; then the
rename is flushed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from super_selfish.errors import CheckpointError, ConfigurationError

SUFFIX = ".safetensors"
FIGURES = ".super-selfish"
"""File that lists the figures that the library wrote into a folder, by name and hash; they are not read as images."""
RETRAIN = "Weights of the release of 2020 (.pt) cannot be loaded. Train again with this release."

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
        CheckpointError: If the folder is not writable, or the disk is full. The old file is not modified.
    """
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(_umask_mode())  # safetensors and mkstemp use 0600 regardless of the umask
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
        temporary = None
        sync_folder(target.parent)
    except OSError as error:
        raise CheckpointError(
            f"`{target}` could not be written: {error.strerror or error}.",
            fix="Existing files are unchanged. Choose another `name`, or free disk space.",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def append(target: Path, content: bytes) -> None:
    """Append to a file, and flush it to disk.

    Raises:
        CheckpointError: If the file cannot be written. It may then end in a part of ``content``.
    """
    try:
        with target.open("ab", buffering=0) as stream:
            stream.write(content)
            os.fsync(stream.fileno())
    except OSError as error:
        raise CheckpointError(
            f"`{target}` could not be written: {error.strerror or error}.", fix="Free disk space."
        ) from error


def write_text(target: Path, text: str) -> None:
    """Replace a text file atomically."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_with(target: Path, write: Callable[[Path], object]) -> None:
    """Replace a file atomically by the output of ``write(path)``."""
    with replacing(target) as temporary:
        write(temporary)


def write_figure(target: Path, write: Callable[[Path], object]) -> None:
    """Replace a figure atomically, and list it in its folder, so that it is not taken for data.

    Raises:
        CheckpointError: If the folder cannot be written, or the disk is full.
    """
    write_with(target, write)
    listed = written_figures(target.parent) | {target.name: sha256_of(target)}
    present = {name: digest for name, digest in sorted(listed.items()) if (target.parent / name).exists()}
    write_text(target.parent / FIGURES, json.dumps(present, indent=1) + "\n")


def written_figures(folder: Path) -> dict[str, str]:
    """The figures that the library wrote into a folder: sha256 by name. A damaged list is reported, and empty."""
    try:
        found = json.loads((folder / FIGURES).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("`%s` cannot be read: %s. Remove it.", folder / FIGURES, error)
        return {}
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}


def keep_previous(target: Path) -> Path | None:
    """Copy ``target`` to ``<target>.prev``, by a hard link if possible. ``target`` exists at any time.

    On failure, a warning is logged, because saving new weights is more important.

    Returns:
        Path of the copy; None if there is no file, or on failure.
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
    """The common path of the files of a training: ``store/base`` for ``store/base.safetensors``.

    Raises:
        ConfigurationError: If the name is empty, contains a NUL or bytes that are not UTF-8, or ends in a separator.
    """
    text = os.fspath(name)
    if isinstance(text, str) and text.encode("utf-8", "replace").decode("utf-8") != text:
        raise ConfigurationError(
            "`name` is not valid UTF-8: files of weights could be written under it, but not be read.",
            expected="a path in UTF-8, such as one relative to the working folder",
            received=ascii(text),
        )
    stem = Path(text).name.removesuffix(SUFFIX) if isinstance(text, str) else ""
    if not isinstance(text, str) or not stem.strip(" .") or "\0" in text or text.endswith(("/", os.sep)):
        raise ConfigurationError(
            "`name` is not the name of a file.",
            expected='a path such as "store/base", to which .safetensors and .json are appended',
            received=repr(name),
        )
    return Path(text.removesuffix(SUFFIX)).expanduser()


def with_suffix(base: Path, suffix: str) -> Path:
    """Append a suffix: ``store/v1.2`` and ``.json`` give ``store/v1.2.json``. Existing dots are kept."""
    return base.with_name(base.name + suffix)


def check_writable(base: Path, argument: str = "name") -> None:
    """Check, before time is spent on their content, that files with a name can be written.

    Args:
        base: Path without suffix.
        argument: Name of the argument, for error messages.

    Raises:
        ConfigurationError: If they cannot be written; the message states the reason.
    """
    fix = f"Pass a `{argument}` in a writable folder" + (", such as name='store/base'." if argument == "name" else ".")
    for suffix in (SUFFIX, ".json"):
        if with_suffix(base, suffix).is_dir():
            raise ConfigurationError(
                f"`{argument}` cannot be written: {with_suffix(base, suffix)} is a folder.",
                received=repr(str(base)),
                fix=fix,
            )
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        longest = f".{base.name}.interrupted{SUFFIX}.prev."
        with tempfile.NamedTemporaryFile(prefix=longest, suffix=".tmp", dir=base.parent) as probe:
            probe.write(b"x")
    except OSError as error:
        raise ConfigurationError(
            f"`{argument}` cannot be written: {error.strerror or error}.", received=repr(str(base)), fix=fix
        ) from error
