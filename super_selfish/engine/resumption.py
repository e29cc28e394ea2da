"""Resuming a training from a checkpoint."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.distributed import world
from super_selfish.distributed.tensors import gather_objects
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.identity import custom_names, describe
from super_selfish.engine.core.non_networks import differing_constants, fixed_tensors_in
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.loading import check_shares
from super_selfish.engine.loop.run import Run
from super_selfish.engine.loop.signals import was_restarted
from super_selfish.engine.optim.constants import Constants, constructed, differences
from super_selfish.engine.optim.optimizers import flat
from super_selfish.engine.optim.schedules import Schedule, refresh_schedules
from super_selfish.engine.persistence import Persistence
from super_selfish.errors import CheckpointError, CheckpointMismatch, DatasetChanged, SuperSelfishError
from super_selfish.images.image_files import printable
from super_selfish.models.averages import MomentumSchedule
from super_selfish.renamed import with_present_names
from super_selfish.storage.checkpoint import StoredCheckpoint
from super_selfish.storage.checkpoint_folder import CheckpointFolder
from super_selfish.storage.former_backbones import check_backbones, stored_networks
from super_selfish.storage.weights_file import weights_in

logger = logging.getLogger("super_selfish")

_SHOWN = 3  # maximum number of file names in a message
_UNSTORED_SETTINGS = {"precision": "32", "compile": False}  # settings of checkpoints that do not store them
_DERIVED_SETTINGS = {"lr", "optimizer", "lr_scheduler", "clip_grad", "polyak"}  # a recipe sets those not passed
_CHANGEABLE_SETTINGS = {"epochs"}  # settings that may differ on resume


def find(base: Path, settings: Settings) -> StoredCheckpoint | None:
    """Return the checkpoint to resume from; None: start over.

    A job that SLURM or torchrun restarted is always resumed.

    Raises:
        CheckpointError: If ``resume=True`` and there is no checkpoint, or all are damaged.
    """
    if settings.resume is False and not any(gather_objects(was_restarted())):  # torchrun counts restarts per machine
        return None
    found = CheckpointFolder(base).newest_valid()
    if found is None and settings.resume is True:
        folder = CheckpointFolder(base)
        hint = f" An older training is in `{folder.previous}`." if folder.previous.is_dir() else ""
        raise CheckpointError(
            f"There is no training to continue in `{folder.path}`.",
            received="resume=True",
            fix=f'Pass resume="auto" to start over if there is no checkpoint.{hint}',
        )
    return found


class Resumption:
    """Restores a supervisor and its run from a checkpoint.

    Args:
        supervisor: The supervisor.
        found: The checkpoint.
        settings: Settings of the resumed run.
    """

    def __init__(self, supervisor: SupervisorBase, found: StoredCheckpoint, settings: Settings) -> None:
        self.supervisor = supervisor
        self.checkpoint = found
        self.settings = settings

    @property
    def start_epoch(self) -> int:
        """The epoch at which the resumed training began."""
        with self._reporting_mismatch():
            return int(self.checkpoint.read("run")["begun_at"])

    @contextlib.contextmanager
    def _reporting_mismatch(self) -> Iterator[None]:
        """Context manager: report invalid checkpoint content as a ``CheckpointMismatch``."""
        try:
            yield
        except SuperSelfishError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise CheckpointMismatch(
                f"`{self.checkpoint.path}` cannot be restored: {type(error).__name__}: {error}.",
                fix="Resume with the original optimizer, schedule and tracked objects, or start over.",
            ) from error

    def adopt(self) -> None:
        """Load weights, progress and history from the checkpoint, all or nothing.

        Raises:
            CheckpointMismatch: If the checkpoint was trained with other settings.
            DatasetChanged: If the checkpoint was trained on other images.
        """
        with self._reporting_mismatch():
            self._check_settings()
            self._adopt()

    def _adopt(self) -> None:
        supervisor, found = self.supervisor, self.checkpoint
        changed = self._dataset_changed()
        before = self._stored_keys()
        if changed and not self.settings.allow_dataset_change:
            raise DatasetChanged(
                f"`{found.path}` was trained on other images{self._difference(before)}.",
                expected=f"{found.manifest.get('dataset')}",
                received=f"{supervisor.fingerprint()}",
                fix="Use the same images, pass allow_dataset_change=True, or start over.",
            )
        Persistence(supervisor).adopt(weights_in(found), complete=True)
        if changed:
            logger.warning("Training continues with other images%s.", self._difference(before))
            supervisor._follow_images(before, present_keys(supervisor))
            if supervisor._train_state.batch:  # the order of the images in this epoch has changed
                supervisor._train_state.epoch, supervisor._train_state.batch = supervisor._train_state.epoch + 1, 0

    def _dataset_changed(self) -> bool:
        return self.supervisor.fingerprint() != self.checkpoint.manifest.get("dataset")

    def _stored_keys(self) -> npt.NDArray[np.int64] | None:
        """Return the keys of the images of the checkpoint; None: not stored."""
        keys = self.checkpoint.read("images")["keys"] if "images" in self.checkpoint.parts else None
        return keys.numpy() if isinstance(keys, torch.Tensor) else None

    def _difference(self, before: npt.NDArray[np.int64] | None) -> str:
        """Describe how the images changed; empty if the checkpoint has no keys."""
        now, images = present_keys(self.supervisor), self.supervisor.image_dataset
        if before is None or now is None or images is None:
            return ""
        new = np.flatnonzero(~np.isin(now, before))
        gone = int((~np.isin(before, now)).sum())
        named = ", ".join(printable(images.name(int(index))) for index in new[:_SHOWN])
        if not len(new) and not gone:
            return ": the same names, with other contents"
        return f": {len(new)} are new{f' ({named})' if named else ''}, {gone} are gone"

    def _stored_settings(self) -> dict[str, Any]:
        """Return the settings of the run that wrote the checkpoint."""
        training = self.checkpoint.manifest.get("training")
        stored = training.get("settings") if isinstance(training, dict) else None
        return stored if isinstance(stored, dict) else {}

    def _check_settings(self) -> None:
        """Check that settings that affect the result are those of the checkpoint.

        Raises:
            CheckpointMismatch: If they differ; the message lists all differences.
        """
        here, there = self.settings.as_json(), self._stored_settings()
        changed = [
            key
            for key in here
            if key not in _CHANGEABLE_SETTINGS and here[key] != there.get(key, _UNSTORED_SETTINGS.get(key))
        ]
        passed = [key for key in changed if key not in _DERIVED_SETTINGS or key in self.settings.explicit]
        differing = [
            f"{key} is {here[key]!r} here and {there.get(key)!r} in the checkpoint" for key in passed or changed
        ]
        manifest, uses_map = self.checkpoint.manifest, self.supervisor.uses_map
        check_backbones(self.supervisor.user_arguments, manifest, self.checkpoint.path, uses_map=uses_map)
        networks = with_present_names(stored_networks(manifest, uses_map=uses_map))
        differing += [
            f"{key} is {described!r} here and {networks[key]!r} in the checkpoint"
            for key, value in self.supervisor.user_arguments.items()
            if isinstance(networks, dict) and key in networks and (described := describe(value)) != networks[key]
        ]
        if fixed_tensors_in(manifest):
            differing += differing_constants(self.supervisor, self.checkpoint.read("model"), manifest)
        differing += self._changed(self.supervisor._constants)
        if differing:
            raise CheckpointMismatch(
                f"`{self.checkpoint.path}` cannot be resumed: {'; '.join(differing)}.",
                fix="Resume with the settings of the checkpoint, or start over with resume=False.",
            )

    def _changed(self, constants: dict[str, Constants]) -> list[str]:
        """Describe constants that are not those of the checkpoint."""
        written_by = (self.checkpoint.manifest.get("versions") or {}).get("python", "").split(".")[:2]
        same_python = written_by == platform.python_version().split(".")[:2]
        return differences(constants, self.checkpoint.read("run").get("constants"), same_python=same_python)

    def restore(self, run: Run, scheduler: Any) -> None:
        """Restore optimizer, schedule, counters and tracked objects.

        Raises:
            CheckpointMismatch: If their classes or names differ from those of the checkpoint.
        """
        with self._reporting_mismatch():
            self._restore(run, scheduler)

    def _restore(self, run: Run, scheduler: Any) -> None:
        found, supervisor = self.checkpoint, self.supervisor
        kinds = [kind(run.optimizers), kind(flat(scheduler))]
        state = found.read("run")
        if kinds != state["kinds"]:
            raise CheckpointMismatch(
                f"`{found.path}` was trained by another optimizer or schedule.",
                expected=" with ".join(state["kinds"]),
                received=" with ".join(kinds),
                fix="Resume with the original ones, or start over with resume=False.",
            )
        if changed := self._changed(constructed(run.optimizers, flat(scheduler))):
            raise CheckpointMismatch(
                f"`{found.path}` cannot be resumed: {'; '.join(changed)}.",
                fix="Resume with the settings of the checkpoint, or start over with resume=False.",
            )
        run.loader.micro_batches = int(state["pieces"])  # unchanged, because batch norm sees each micro-batch alone
        check_shares(run.loader.batch_size, run.loader.micro_batches, world())
        load_states(run.optimizers, found.read("optimizer"))
        for optimizer in run.optimizers:
            lay_out(optimizer)
        load_states(flat(scheduler), found.read("scheduler"))
        if self._stored_settings().get("epochs") != self.settings.epochs:
            refresh_schedules(scheduler)  # the length of the run has changed
        losses = state["losses"]
        run.losses.total = losses.to(supervisor.device) if isinstance(losses, torch.Tensor) else None
        run.losses.count = float(state["count"])
        run.losses.logs = {name: (total, count) for name, (total, count) in state.get("logs", {}).items()}
        run.precision.load_state_dict(state.get("precision", {}))
        if self._is_own_class() and not self._dataset_changed():  # a stage may have recreated networks
            Persistence(supervisor).reload(weights_in(found))
        run.guard.skipped = int(state.get("skipped_updates", 0))
        run.loader.skipped.update({int(index): str(reason) for index, reason in state["skipped"].items()})
        self._restore_tracked()
        if self._dataset_changed():
            self._follow_epochs(scheduler, int(state["begun_at"]))

    def _is_own_class(self) -> bool:
        """Whether a user-defined class wrote the checkpoint, and the supervisor is an instance of it."""
        return self.checkpoint.manifest.get("class") in custom_names(type(self.supervisor))

    def _restore_tracked(self) -> None:
        tracked, own = self.checkpoint.read("tracked"), self.supervisor._tracked
        later = set(tracked) - set(own) if self._is_own_class() else set()  # a stage may track them later
        if set(tracked) - later != set(own):
            raise CheckpointMismatch(
                f"`{self.checkpoint.path}` has the state of other tracked objects.",
                expected=", ".join(sorted(own)) or "none",
                received=", ".join(sorted(tracked)) or "none",
            )
        for name, thing in own.items():
            thing.load_state_dict(tracked[name])
        self.supervisor._deferred.pending_tracked = {name: tracked[name] for name in later}

    def _follow_epochs(self, scheduler: Any, start_epoch: int) -> None:
        """Move the library's schedules to the current epoch: changed images change the number of steps per epoch."""
        settings = self.settings
        if not settings.epochs:
            return
        share = min(1.0, (self.supervisor._train_state.epoch - start_epoch) / settings.epochs)
        if isinstance(settings.lr_scheduler, Schedule) and settings.scheduler_interval == "step":
            settings.lr_scheduler.go_to(share, scheduler)
        for thing in self.supervisor._tracked.values():
            if isinstance(thing, MomentumSchedule):
                thing.go_to(share)


def present_keys(supervisor: SupervisorBase) -> npt.NDArray[np.int64] | None:
    """Return the keys of the supervisor's images; None if they have no names."""
    images = supervisor.image_dataset
    return None if images is None else images.keys()


def kind(things: Sequence[Any]) -> str:
    """Return the class names of optimizers or schedules."""
    return ", ".join(type(each).__name__ for each in things)


def states(things: Sequence[Any]) -> Any:
    """Return the state of an optimizer or schedule, or a list of several states; None without ``state_dict()``."""
    made = [each.state_dict() if hasattr(each, "state_dict") else None for each in things]
    return made[0] if len(made) == 1 else made


def load_states(things: Sequence[Any], stored: Any) -> None:
    """Load the result of :func:`states` into optimizers or schedules."""
    for each, state in zip(things, [stored] if len(things) == 1 else stored, strict=True):
        if hasattr(each, "load_state_dict"):
            each.load_state_dict(state)


def lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Convert loaded state to the memory layout of its parameters, which affects the order of summation."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
