"""A training that continues from a checkpoint."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.distributed import world
from super_selfish.distributed.tensors import all_of
from super_selfish.engine import persistence
from super_selfish.engine.core.identity import describe
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.loading import check_shares
from super_selfish.engine.loop.run import Run
from super_selfish.engine.loop.signals import was_restarted
from super_selfish.engine.optim.schedules import Schedule, refresh_schedules
from super_selfish.errors import CheckpointError, CheckpointMismatch, DatasetChanged, SuperSelfishError
from super_selfish.models.averages import MomentumSchedule
from super_selfish.storage.checkpoint import CheckpointFolder, StoredCheckpoint
from super_selfish.storage.weights_file import Artefact

if TYPE_CHECKING:
    from super_selfish.engine.supervisor import Supervisor

logger = logging.getLogger("super_selfish")

_SHOWN = 3  # names
_BEFORE = {"precision": "32", "compile": False}  # what checkpoints that do not say so were trained with
_FREE = {"epochs"}  # settings that may change when a training continues


@contextlib.contextmanager
def understood(found: StoredCheckpoint) -> Iterator[None]:
    """Refuse a checkpoint whose hashes are right, but whose words make no sense here."""
    try:
        yield
    except SuperSelfishError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointMismatch(
            f"`{found.path}` cannot be understood: {type(error).__name__}: {error}.",
            fix="Continue with the optimizer, schedule and tracked things that it was trained with, or begin anew.",
        ) from error


def begun_at(found: StoredCheckpoint) -> int:
    """The epoch at which the training began that is continued."""
    with understood(found):
        return int(found.read("run")["begun_at"])


def find(base: Path, settings: Settings) -> StoredCheckpoint | None:
    """The checkpoint that ``resume`` asks to continue from; None: begin anew.

    A job that SLURM or torchrun has started again continues in any case.

    Raises:
        CheckpointError: If there has to be one and is none, or all are damaged.
    """
    if settings.resume is False and not any(all_of(was_restarted())):  # torchrun counts on each machine for itself
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
    with understood(found):
        _adopt(supervisor, found, settings)


def _adopt(supervisor: Supervisor, found: StoredCheckpoint, settings: Settings) -> None:
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


def stored_settings(found: StoredCheckpoint) -> dict[str, Any]:
    """The settings of the run that wrote a checkpoint."""
    training = found.manifest.get("training")
    stored = training.get("settings") if isinstance(training, dict) else None
    return stored if isinstance(stored, dict) else {}


def check_settings(supervisor: Supervisor, found: StoredCheckpoint, settings: Settings) -> None:
    """Compare what shapes the result with what the checkpoint was trained with.

    Raises:
        CheckpointMismatch: With everything that differs.
    """
    there = stored_settings(found)
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
    with understood(found):
        _restore(supervisor, found, run, scheduler)


def _restore(supervisor: Supervisor, found: StoredCheckpoint, run: Run, scheduler: Any) -> None:
    kinds = [type(run.optimizer).__name__, type(scheduler).__name__]
    state = found.read("run")
    if kinds != state["kinds"]:
        raise CheckpointMismatch(
            f"`{found.path}` was trained by another optimizer or schedule.",
            expected=" with ".join(state["kinds"]),
            received=" with ".join(kinds),
            fix="Continue with those that it was trained with, or begin anew with resume=False.",
        )
    run.loader.pieces = int(state["pieces"])  # as many as then: batch norm sees each alone
    check_shares(run.loader.batch_size, run.loader.pieces, world())
    run.optimizer.load_state_dict(found.read("optimizer"))
    lay_out(run.optimizer)
    if hasattr(scheduler, "load_state_dict"):
        scheduler.load_state_dict(found.read("scheduler"))
    if stored_settings(found).get("epochs") != getattr(supervisor.settings, "epochs", None):
        refresh_schedules(scheduler)  # the length of the run is another one
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
    if persistence.fingerprint(supervisor) != found.manifest.get("dataset"):
        follow_epochs(supervisor, scheduler, int(state["begun_at"]))


def follow_epochs(supervisor: Supervisor, scheduler: Any, begun_at: int) -> None:
    """Place the library's own schedules by epochs: with other images, an epoch has another number of updates."""
    settings = supervisor.settings
    if settings is None or not settings.epochs:
        return
    share = min(1.0, (supervisor.cursor.epoch - begun_at) / settings.epochs)
    if isinstance(settings.lr_scheduler, Schedule) and settings.scheduler_interval == "step":
        settings.lr_scheduler.go_to(share, scheduler)
    for thing in supervisor.tracked.values():
        if isinstance(thing, MomentumSchedule):
            thing.go_to(share)
