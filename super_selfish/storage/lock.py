"""A lock on the name of a training, so that two trainings cannot write the same files."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout
from typing_extensions import Self

from super_selfish.errors import CheckpointError
from super_selfish.files import with_suffix

logger = logging.getLogger("super_selfish")

HEARTBEAT = 30.0
"""Interval between two heartbeats, in s."""

TIMEOUT = 600.0
"""Time without a heartbeat after which a training on another computer counts as terminated, in s."""

_MAX_BYTES = 4096


class RunLock:
    """Context manager that holds the lock of a training.

    ``NAME.lock`` contains the owner, and ``.NAME.lock`` is locked by the operating system. The system releases the lock
    of a terminated process, so a killed training on this computer is detected immediately. Other computers may not see
    the system lock. There, a training counts as terminated after :data:`TIMEOUT` seconds without a heartbeat, or if it
    is an earlier start of the same SLURM job.

    Args:
        base: Path without suffix.

    Raises:
        CheckpointError: On entering, if another training holds the lock, or the file cannot be written.
    """

    def __init__(self, base: Path) -> None:
        self.path = with_suffix(base, ".lock").absolute()
        self._system_lock = FileLock(self.path.with_name(f".{self.path.name}"), timeout=0)
        self._last_beat = 0.0

    def __enter__(self) -> Self:
        try:
            self._system_lock.acquire()
        except Timeout:
            self._raise_in_use(_owner_of(self.path) or {})
        except (OSError, NotImplementedError) as error:  # the file system does not support locks: use the heartbeat
            logger.debug("`%s` cannot be locked: %s", self._system_lock.lock_file, error)
        try:
            self._write()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        owner = _owner_of(self.path) or {}
        if (owner.get("pid"), owner.get("host")) == (os.getpid(), socket.gethostname()):  # False in a forked process
            self.path.unlink(missing_ok=True)
        self._release()

    def heartbeat(self) -> None:
        """Update the modification time of the file, at most once per :data:`HEARTBEAT` seconds."""
        if time.monotonic() - self._last_beat >= HEARTBEAT:
            self._last_beat = time.monotonic()
            with contextlib.suppress(OSError):  # the file may have been deleted
                os.utime(self.path)

    def _write(self) -> None:
        """Write the owner of the lock."""
        owner = _owner_of(self.path)
        if owner is not None and self._is_alive(owner):
            self._raise_in_use(owner)
        try:
            with self.path.open(
                "x" if owner is None else "w", encoding="ascii"
            ) as stream:  # x: fails if another computer created it
                stream.write(json.dumps(_this_process()))
        except FileExistsError:
            self._raise_in_use({})
        except OSError as error:
            if owner is None:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            raise CheckpointError(f"`{self.path}` could not be written: {error.strerror or error}.") from error
        self._last_beat = time.monotonic()
        if owner is not None:
            logger.warning("The previous training with this name has died. Taking over its lock.")

    def _raise_in_use(self, owner: dict[str, Any]) -> NoReturn:
        raise CheckpointError(
            f"Another training uses this name: process {owner.get('pid', '?')} on {owner.get('host', '?')}.",
            fix=f"Choose another `name`, or wait. If that training has terminated, delete `{self.path}`.",
        )

    def _release(self) -> None:
        if self._system_lock.is_locked:
            with contextlib.suppress(OSError):  # on Windows, an open file cannot be removed
                Path(self._system_lock.lock_file).unlink(missing_ok=True)
            self._system_lock.release()

    def _is_alive(self, owner: dict[str, Any]) -> bool:
        here = _this_process()
        if self._system_lock.is_locked and owner.get("host") == here["host"]:
            return False  # otherwise it would hold the system lock
        if owner.get("job") and owner.get("job") == here["job"] and owner.get("restart") != here["restart"]:
            return False  # the job was requeued
        with contextlib.suppress(OSError):
            return time.time() - self.path.stat().st_mtime < TIMEOUT
        return False


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
    }


def _owner_of(path: Path) -> dict[str, Any] | None:
    """The owner of the lock: None if there is none, empty if the file is damaged."""
    try:
        with path.open("rb") as stream:
            found = json.loads(stream.read(_MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
