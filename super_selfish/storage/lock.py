"""A lock on the name of a training, so that two trainings never write the same files."""

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
"""Seconds between two heartbeats."""

TIMEOUT = 600.0
"""Seconds without a heartbeat after which a training on another computer counts as dead."""

_MAX_BYTES = 4096


class RunLock:
    """While a training writes under a name, ``NAME.lock`` says which, and ``.NAME.lock`` is locked by the system.

    The operating system releases the lock of a process that ends in any way: on this computer, a training that was
    killed is recognised at once. Another computer may not see that lock. There, a training is dead after
    :data:`TIMEOUT` seconds without a heartbeat, or if it is an earlier start of the same SLURM job.

    Args:
        base: The path without suffix.

    Raises:
        CheckpointError: On entering, if another training holds the lock, or the file cannot be written.
    """

    def __init__(self, base: Path) -> None:
        self.path = with_suffix(base, ".lock").absolute()
        self._system = FileLock(self.path.with_name(f".{self.path.name}"), timeout=0)
        self._last_beat = 0.0

    def __enter__(self) -> Self:
        try:
            self._system.acquire()
        except Timeout:
            self._refuse(_owner_of(self.path) or {})
        except (OSError, NotImplementedError) as error:  # a file system without locks: the heartbeat decides
            logger.debug("`%s` cannot be locked: %s", self._system.lock_file, error)
        try:
            self._write()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        owner = _owner_of(self.path) or {}
        if (owner.get("pid"), owner.get("host")) == (os.getpid(), socket.gethostname()):  # else in a forked process
            self.path.unlink(missing_ok=True)
        self._release()

    def heartbeat(self) -> None:
        """Give a heartbeat if the last is :data:`HEARTBEAT` seconds ago."""
        if time.monotonic() - self._last_beat >= HEARTBEAT:
            self._last_beat = time.monotonic()
            with contextlib.suppress(OSError):  # somebody may have deleted it
                os.utime(self.path)

    def _write(self) -> None:
        """Write who holds the lock."""
        owner = _owner_of(self.path)
        if owner is not None and self._is_alive(owner):
            self._refuse(owner)
        try:
            with self.path.open("x" if owner is None else "w", encoding="ascii") as stream:  # x: at most one computer
                stream.write(json.dumps(_this_process()))
        except FileExistsError:
            self._refuse({})
        except OSError as error:
            if owner is None:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            raise CheckpointError(f"`{self.path}` could not be written: {error.strerror or error}.") from error
        self._last_beat = time.monotonic()
        if owner is not None:
            logger.warning("A training under this name has died; its lock is taken over.")

    def _refuse(self, owner: dict[str, Any]) -> NoReturn:
        raise CheckpointError(
            f"Another training writes under this name: process {owner.get('pid', '?')} on {owner.get('host', '?')}.",
            fix=f"Choose another `name`, or wait. If that training is gone, delete `{self.path}`.",
        )

    def _release(self) -> None:
        if self._system.is_locked:
            with contextlib.suppress(OSError):  # an open file cannot be removed on Windows
                Path(self._system.lock_file).unlink(missing_ok=True)
            self._system.release()

    def _is_alive(self, owner: dict[str, Any]) -> bool:
        here = _this_process()
        if self._system.is_locked and owner.get("host") == here["host"]:
            return False  # else it would have the lock of the system
        if owner.get("job") and owner.get("job") == here["job"] and owner.get("restart") != here["restart"]:
            return False  # it was put back into the queue
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
    """Who holds the lock: None if nobody does, empty if the file is damaged."""
    try:
        with path.open("rb") as stream:
            found = json.loads(stream.read(_MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
