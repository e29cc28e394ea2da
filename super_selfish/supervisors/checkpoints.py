"""The whole state of a training, written between steps, and a training that continues from it."""

from __future__ import annotations

import logging
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.errors import CheckpointError, CheckpointMismatch, DatasetChanged
from super_selfish.supervisors import persistence
from super_selfish.supervisors.identity import describe
from super_selfish.training.artefact import Artefact
from super_selfish.training.callbacks import Keeper
from super_selfish.training.checkpoint import CheckpointFolder, StoredCheckpoint
from super_selfish.training.codec import encode
from super_selfish.training.run import Run
from super_selfish.training.settings import Settings, interval
from super_selfish.training.signals import was_restarted

if TYPE_CHECKING:
    from super_selfish.supervisors.base import Supervisor

logger = logging.getLogger("super_selfish")

_SHOWN = 3  # names
_BEFORE = {"precision": "32", "compile": False}  # what checkpoints that do not say so were trained with
_FREE = {"epochs"}  # settings that may change when a training continues


class Checkpoints(Keeper):
    """Writes ``NAME.ckpt`` when it is time, between two steps.

    Args:
        supervisor: What is trained.
        base: The path without suffix.
        settings: Of the run.
        scheduler: Of the learning rate.
        resumed: What the run continues from.
    """

    def __init__(
        self, supervisor: Supervisor, base: Path, settings: Settings, scheduler: Any, resumed: StoredCheckpoint | None
    ) -> None:
        self.supervisor = supervisor
        self.scheduler = scheduler
        self.settings = settings
        self.folder = CheckpointFolder(base)
        self.steps, self.seconds = interval(settings.checkpoint_every)
        self.begun_at = supervisor.cursor.epoch if resumed is None else int(resumed.read("run")["begun_at"])
        self.written = supervisor.cursor.step
        self.moment = time.monotonic()
        self.fresh = resumed is None and not self._continues()
        self.tried = False

    @property
    def wanted(self) -> bool:
        """Whether anything is ever written."""
        return self.settings.checkpoint_every != 0

    def _continues(self) -> bool:
        """Whether the newest checkpoint is of this supervisor's own past."""
        steps = self.folder.steps()
        if not steps:
            return True
        if steps[0] > self.supervisor.cursor.step:
            return False
        try:
            newest = self.folder.newest_valid("size")
        except CheckpointError:  # none is whole: that is no reason not to train
            return False
        return newest is not None and newest.manifest.get("run") == self.supervisor.run_id

    def on_train_begin(self, run: Run) -> None:  # noqa: ARG002 - the protocol's
        """Tidy up, and say what becomes of an older training."""
        if not self.wanted:
            return
        self.folder.clean()
        if self.fresh:
            self.supervisor.run_id = secrets.token_hex(8)
            logger.warning(
                "`%s` holds an older training: it becomes `%s` after the first step of this one. "
                'To continue it instead, call supervise(..., resume="auto").',
                self.folder.path,
                self.folder.previous,
            )

    def on_step_end(self, run: Run) -> None:
        """Write if it is time, unless the epoch has ended, which is not closed yet."""
        first = self.wanted and not self.tried
        if first:  # what cannot be stored is found after one step, not after hours
            self.tried = True
            encode(self.parts(run), "state")
        if not run.epoch_ended and (self._due(run) or (first and self.fresh)):  # nobody shall continue the older one
            self.write(run)

    def on_epoch_end(self, run: Run) -> None:
        """Write if it is time."""
        if self.settings.checkpoint_every is None or self._due(run):
            self.write(run)

    def _due(self, run: Run) -> bool:
        if self.steps:
            return run.cursor.step % self.steps == 0
        return self.seconds > 0 and time.monotonic() - self.moment >= self.seconds

    def write(self, run: Run) -> None:
        """Store the state as it is, unless it is stored already; a full disk is a warning."""
        if not self.wanted or self.written == run.cursor.step:
            return
        manifest = persistence.manifest(self.supervisor)
        try:
            self.folder.write(run.cursor.step, self.parts(run), manifest, self.settings.keep, fresh=self.fresh)
        except CheckpointError as error:
            logger.warning("Training goes on without a checkpoint of step %d. %s", run.cursor.step, error)
            return
        finally:
            self.moment = time.monotonic()
        self.written = run.cursor.step

    def parts(self, run: Run) -> dict[str, Any]:
        """Everything that the next step depends on, by name."""
        losses = None if run.losses is None else run.losses.detach()
        keys = present_keys(self.supervisor)
        return {
            "model": persistence.public_state(self.supervisor),
            "optimizer": run.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if hasattr(self.scheduler, "state_dict") else None,
            "run": {
                "kinds": [type(run.optimizer).__name__, type(self.scheduler).__name__],
                "pieces": run.loader.pieces,
                "begun_at": self.begun_at,
                "losses": losses,
                "count": run.count,
                "skipped": dict(run.loader.skipped),
                "precision": run.precision.state_dict(),
                "skipped_updates": run.guard.skipped,
            },
            "tracked": {name: thing.state_dict() for name, thing in self.supervisor.tracked.items()},
            "images": {"keys": None if keys is None else torch.from_numpy(keys.copy())},
        }


def find(base: Path, settings: Settings) -> StoredCheckpoint | None:
    """The checkpoint that ``resume`` asks to continue from; None: begin anew.

    A job that SLURM or torchrun has started again continues in any case.

    Raises:
        CheckpointError: If there has to be one and is none, or all are damaged.
    """
    if settings.resume is False and not was_restarted():
        return None
    found = CheckpointFolder(base).newest_valid()
    if found is None and settings.resume is True:
        folder = CheckpointFolder(base)
        hint = f" An older training is in `{folder.previous}`." if folder.previous.is_dir() else ""
        raise CheckpointError(
            f"There is no training to continue in `{folder.path}`.",
            received="resume=True",
            fix=f'resume="auto" begins anew where there is none.{hint}',
        )
    return found


def adopt(supervisor: Supervisor, found: StoredCheckpoint, settings: Settings) -> None:
    """Take weights, cursor and history from a checkpoint, all or nothing.

    Raises:
        CheckpointMismatch: If it was trained with other settings or images.
    """
    check_settings(supervisor, found, settings)
    changed = persistence.fingerprint(supervisor) != found.manifest.get("dataset")
    before = stored_keys(found)
    if changed and not settings.allow_dataset_change:
        raise DatasetChanged(
            f"`{found.path}` was trained on other images{difference(supervisor, before)}.",
            expected=f"{found.manifest.get('dataset')}",
            received=f"{persistence.fingerprint(supervisor)}",
            fix="Continue with the same images, or with these by allow_dataset_change=True, or begin anew.",
        )
    persistence.adopt(supervisor, Artefact(found.path, found.read("model"), found.manifest))
    if changed:
        logger.warning("Training goes on with other images%s.", difference(supervisor, before))
        supervisor._follow_images(before, present_keys(supervisor))
        if supervisor.cursor.batch:  # the order of the epoch was another
            supervisor.cursor.epoch, supervisor.cursor.batch = supervisor.cursor.epoch + 1, 0


def present_keys(supervisor: Supervisor) -> npt.NDArray[np.int64] | None:
    """The keys of the supervisor's images, if they have names."""
    images = supervisor._setup.images
    return None if images is None else images.keys()


def stored_keys(found: StoredCheckpoint) -> npt.NDArray[np.int64] | None:
    """The keys of the images that a checkpoint was trained on, if it has them."""
    keys = found.read("images")["keys"] if "images" in found.parts else None
    return keys.numpy() if isinstance(keys, torch.Tensor) else None


def difference(supervisor: Supervisor, before: npt.NDArray[np.int64] | None) -> str:
    """How the images differ from those before, in words; empty if nothing is known of them."""
    now, images = present_keys(supervisor), supervisor._setup.images
    if before is None or now is None or images is None:
        return ""
    new = np.flatnonzero(~np.isin(now, before))
    gone = int((~np.isin(before, now)).sum())
    named = ", ".join(images.name(int(index)) for index in new[:_SHOWN])
    if not len(new) and not gone:
        return ": the same names, with other contents"
    return f": {len(new)} are new{f' ({named})' if named else ''}, {gone} are gone"


def check_settings(supervisor: Supervisor, found: StoredCheckpoint, settings: Settings) -> None:
    """Compare what shapes the result with what the checkpoint was trained with.

    Raises:
        CheckpointMismatch: With everything that differs.
    """
    training = found.manifest.get("training")
    stored = training.get("settings") if isinstance(training, dict) else None
    there: dict[str, Any] = stored if isinstance(stored, dict) else {}
    here = settings.as_json()
    differing = [
        f"{key} is {here[key]!r} here and {there.get(key)!r} in the checkpoint"
        for key in here
        if key not in _FREE and here[key] != there.get(key, _BEFORE.get(key))
    ]
    networks = found.manifest.get("networks")
    differing += [
        f"{key} is {described!r} here and {networks[key]!r} in the checkpoint"
        for key, value in supervisor._setup.given.items()
        if isinstance(networks, dict) and key in networks and (described := describe(value)) != networks[key]
    ]
    if differing:
        raise CheckpointMismatch(
            f"`{found.path}` cannot be continued: {'; '.join(differing)}.",
            fix="Continue with the settings of the checkpoint, or begin anew with resume=False.",
        )


def lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give state that was read the memory layout of its parameters: the order of sums depends on it."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def restore(supervisor: Supervisor, found: StoredCheckpoint, run: Run, scheduler: Any) -> None:
    """Give optimizer, schedule, counts and tracked things the state that they had."""
    state = found.read("run")
    kinds = [type(run.optimizer).__name__, type(scheduler).__name__]
    if kinds != state["kinds"]:
        raise CheckpointMismatch(
            f"`{found.path}` was trained by another optimizer or schedule.",
            expected=" with ".join(state["kinds"]),
            received=" with ".join(kinds),
            fix="Continue with those that it was trained with, or begin anew with resume=False.",
        )
    run.loader.pieces = int(state["pieces"])  # as many as then: batch norm sees each alone
    try:
        run.optimizer.load_state_dict(found.read("optimizer"))
        lay_out(run.optimizer)
        if hasattr(scheduler, "load_state_dict"):
            scheduler.load_state_dict(found.read("scheduler"))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointMismatch(
            f"`{found.path}` has the state of another optimizer or schedule: {error}.",
            fix="Continue with those that it was trained with.",
        ) from error
    losses = state["losses"]
    run.losses = losses.to(supervisor.device) if isinstance(losses, torch.Tensor) else None
    run.count = float(state["count"])
    run.precision.load_state_dict(state.get("precision", {}))
    run.guard.skipped = int(state.get("skipped_updates", 0))
    run.loader.skipped.update({int(index): str(reason) for index, reason in state["skipped"].items()})
    tracked = found.read("tracked")
    if set(tracked) != set(supervisor.tracked):
        raise CheckpointMismatch(
            f"`{found.path}` has the state of other tracked things.",
            expected=", ".join(sorted(supervisor.tracked)) or "none",
            received=", ".join(sorted(tracked)) or "none",
        )
    for name, thing in supervisor.tracked.items():
        thing.load_state_dict(tracked[name])
