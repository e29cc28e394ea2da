"""One run a name: two that write the same files would spoil each other's."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from super_selfish.engine.core.callback import Callback
from super_selfish.errors import CheckpointError
from super_selfish.files import with_suffix

if TYPE_CHECKING:
    from super_selfish.engine.loop.run import Run

logger = logging.getLogger("super_selfish")

BEAT = 30.0
"""Seconds between signs of life."""

SILENT = 600.0
"""Seconds without one after which a run on another computer is held to be dead."""

_LARGEST = 4096  # bytes
_WRITING = 5.0  # seconds that the writing of a lock may take


class RunLock(Callback):
    """Within the block the file ``NAME.lock`` says that a run writes under this name.

    A lock whose process is gone is taken over: on this computer at once, also if another process has its number now
    (where nobody tells when processes began, after :data:`SILENT` seconds); of another computer after that time without
    a sign of life, or at once if it is of an earlier start of the same SLURM job.

    Args:
        base: The path without suffix.

    Raises:
        CheckpointError: On entering, if another run has the lock, or the file cannot be written.
    """

    _held: set[Path] = set()  # noqa: RUF012 - of this process, for all locks

    def __init__(self, base: Path) -> None:
        self.path = with_suffix(base, ".lock").absolute()
        self._beat = 0.0

    def __enter__(self) -> Self:
        for _ in range(8):  # two may find the same dead lock
            if self._created():
                self._held.add(self.path)
                self._beat = time.monotonic()
                return self
            owner = _read(self.path)
            if owner is not None:
                if self._lives(owner):
                    who = f"process {owner['pid']} on {owner['host']}" if owner else "it is just beginning"
                    raise CheckpointError(
                        f"Another training writes under this name: {who}.",
                        fix=f"Choose another `name`, or wait. If that training is gone, delete `{self.path}`.",
                    )
                if self._set_aside(owner):
                    logger.warning("A training under this name has died; its lock is taken over.")
        raise CheckpointError(f"`{self.path}` cannot be taken.", fix="Delete it if no training uses this name.")

    def __exit__(self, *_: object) -> None:
        self._held.discard(self.path)
        owner = _read(self.path)
        if owner is not None and _is_ours(owner):
            self._remove()

    def on_step_end(self, run: Run) -> None:  # noqa: ARG002 - the protocol's
        """Give a sign of life now and then."""
        if time.monotonic() - self._beat >= BEAT:
            self._beat = time.monotonic()
            with contextlib.suppress(OSError):  # somebody may have deleted it
                os.utime(self.path)

    def _created(self) -> bool:
        """Whether the lock is ours now; it appears with its content, so that nobody reads half of it."""
        own = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            own.write_text(json.dumps(_ourselves()), encoding="ascii")
            try:
                os.link(own, self.path)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                with self.path.open("x", encoding="ascii") as stream:
                    stream.write(own.read_text(encoding="ascii"))
        except FileExistsError:
            return False
        except OSError as error:
            raise CheckpointError(f"`{self.path}` could not be written: {error.strerror or error}.") from error
        finally:
            own.unlink(missing_ok=True)
        return True

    def _set_aside(self, owner: dict[str, Any]) -> bool:
        """Remove the lock if it is still the one that was read; another that has come in between goes back."""
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}.dead")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return False
        try:
            if _read(aside) == owner:
                return True
            with contextlib.suppress(OSError):
                os.link(aside, self.path)
            return False
        finally:
            aside.unlink(missing_ok=True)

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def _lives(self, owner: dict[str, Any]) -> bool:
        if not owner:
            return self._age() < _WRITING
        if owner.get("host") == socket.gethostname():
            if owner.get("pid") == os.getpid():
                return self.path in self._held
            known = bool(owner.get("begun"))  # when it began; else another process may have its number now
            return _is_running(owner.get("pid"), owner.get("begun")) and (known or self._age() < SILENT)
        ours = _ourselves()
        if owner.get("job") and owner.get("job") == ours["job"] and owner.get("restart") != ours["restart"]:
            return False  # it was put back into the queue
        return self._age() < SILENT

    def _age(self) -> float:
        """Seconds since the last sign of life."""
        try:
            return time.time() - self.path.stat().st_mtime
        except OSError:
            return math.inf


def _ourselves() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "begun": _begun(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
    }


def _is_ours(owner: dict[str, Any]) -> bool:
    return (owner.get("pid"), owner.get("host")) == (os.getpid(), socket.gethostname())


def _read(path: Path) -> dict[str, Any] | None:
    """Who has the lock; None if nobody has; an empty answer if the file is damaged."""
    try:
        with path.open("rb") as stream:
            found = json.loads(stream.read(_LARGEST))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and {"pid", "host"} <= set(found) else {}


def _is_running(process: object, begun: object) -> bool:
    if not isinstance(process, int) or isinstance(process, bool) or process < 1:
        return False
    if os.name != "nt":  # there, os.kill would kill
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
    now = _begun(process)
    return not (begun and now) or begun == now


def _begun(process: int) -> str:
    """When a process began, in a form that can only be compared; empty where nobody tells."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
