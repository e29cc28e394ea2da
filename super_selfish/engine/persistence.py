"""How a supervisor becomes a weights file, and a weights file a supervisor."""

from __future__ import annotations

import inspect
import json
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import columns_of
from super_selfish.engine.core.followers import Followers
from super_selfish.engine.core.identity import as_json, describe
from super_selfish.errors import CheckpointCorrupt, CheckpointMismatch, ConfigurationError
from super_selfish.loading.loader import TrainState
from super_selfish.models.averages import momentum_copy
from super_selfish.models.combined import load_exactly
from super_selfish.storage.weights_file import WeightsFile, read_newest, write_weights
from super_selfish.version import __version__

logger = logging.getLogger("super_selfish")

_MODEL = "model."
AnySupervisor = TypeVar("AnySupervisor", bound=SupervisorBase)


class Persistence:
    """Writes a supervisor to a weights file, and reads one into it.

    Args:
        supervisor: The supervisor.
    """

    def __init__(self, supervisor: SupervisorBase) -> None:
        self.supervisor = supervisor

    def tensors(self) -> dict[str, Tensor]:
        """All tensors under their public names: ``backbone.*``, ``predictor.*`` and whatever else there is."""
        return {key.removeprefix(_MODEL): value for key, value in self.supervisor.state_dict().items()}

    def manifest(self) -> dict[str, Any]:
        """Everything needed to rebuild the supervisor, and where its weights come from."""
        supervisor, train_state = self.supervisor, self.supervisor.train_state
        settings = supervisor.settings
        return {
            "supervisor": supervisor.algorithm(),
            "class": type(supervisor).__qualname__,
            "arguments": as_json(supervisor.hyperparameters()),
            "networks": {key: describe(value) for key, value in supervisor.user_arguments.items()},
            "preprocessing": supervisor.preprocessing.as_json(),
            "feature_shape": as_json(supervisor.feature_shape),
            "training": {
                "epochs": train_state.epoch,
                "batch": train_state.batch,
                "steps": train_state.step,
                "samples": train_state.samples,
                "settings": None if settings is None else settings.as_json(),
            },
            "run": supervisor.run_id,
            "dataset": supervisor.fingerprint(),
            "skipped": dict(list(supervisor.skipped.items())[:100]),
            "history": as_json(supervisor.history),
            "columns": as_json(columns_of(supervisor.history, supervisor.stored.get("columns"))),
            "versions": {
                "super_selfish": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    def check(self) -> None:
        """Make sure, before training, that the supervisor can be stored.

        Raises:
            ConfigurationError: If two tensors would have the same name, or an argument has no JSON form.
        """
        supervisor = self.supervisor
        if len(self.tensors()) < len(supervisor.state_dict()):
            names = [name for name, _ in supervisor.named_children() if name in ("backbone", "predictor")]
            raise ConfigurationError(
                "Two parts of the supervisor would have the same name in the file.",
                expected="no attribute called backbone or predictor beside those of `model`",
                received=", ".join(names),
            )
        try:
            json.dumps(self.manifest())
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"The settings cannot be stored: {error}.",
                expected="numbers, strings, lists and tuples as plain arguments",
                received=repr(supervisor),
            ) from error

    def save(self, name: str | os.PathLike[str], *, keep: bool = False) -> Path:
        """Write the file; with ``keep`` what stood there stays as ``*.prev``."""
        return write_weights(name, self.tensors(), self.manifest(), keep=keep)

    def load(self, name: str | os.PathLike[str]) -> None:
        """Read a file; nothing of the supervisor changes unless everything fits."""
        self.adopt(read_newest(name))

    def adopt(self, stored: WeightsFile) -> None:
        """Take weights, preprocessing and history from a file that was read, all or nothing."""
        before = self.supervisor.average
        try:
            match_average(self.supervisor, stored)
            self._adopt(stored)
        except BaseException:
            self.supervisor.average = before
            raise
        Followers(self.supervisor).record()

    def _adopt(self, stored: WeightsFile) -> None:
        supervisor = self.supervisor
        if not stored.manifest:
            load_exactly(supervisor, private_names(supervisor, stored.tensors), str(stored.path))
            return
        self._check_same(stored)
        preprocessing = Preprocessing.from_json(stored.manifest.get("preprocessing"))
        train_state, history = read_progress(stored)
        present = supervisor.preprocessing
        resized = (preprocessing.resolution, preprocessing.channels) != (present.resolution, present.channels)
        twin = supervisor.rebuilt_for(preprocessing) if resized and not supervisor.takes_model() else None
        target = supervisor if twin is None else twin
        match_average(target, stored)
        load_exactly(target, private_names(target, stored.tensors), str(stored.path))
        supervisor.use_preprocessing(preprocessing, twin)
        supervisor.train_state, supervisor.history = train_state, history
        if supervisor.dataset is not None:
            supervisor.is_same_dataset = stored.manifest.get("dataset") in (None, as_json(supervisor.fingerprint()))
        supervisor.run_id = str(stored.manifest.get("run") or supervisor.run_id)
        supervisor.stored = {key: stored.manifest.get(key) for key in ("training", "versions", "columns", "sha256")}

    def _check_same(self, stored: WeightsFile) -> None:
        """Compare class and hyperparameters with the manifest.

        Raises:
            CheckpointMismatch: With everything that differs.
        """
        supervisor, manifest = self.supervisor, stored.manifest
        if manifest.get("supervisor") != supervisor.algorithm():
            raise CheckpointMismatch(
                f"`{stored.path}` was trained by another algorithm.",
                expected=supervisor.algorithm(),
                received=repr(manifest.get("supervisor")),
                fix="super_selfish.load(name) finds the right class.",
            )
        here = as_json(supervisor.hyperparameters())
        there = manifest.get("arguments")
        if not isinstance(there, dict):
            raise CheckpointCorrupt(f"`{stored.path}` is damaged: its manifest has no arguments.")
        options: dict[str, Any] = dict(supervisor.image_options)
        differing = [
            f"{key} is {here[key]!r} here and {there.get(key)!r} in the file"
            for key in here
            if key not in options and here[key] != there.get(key)
        ]
        preprocessing = manifest.get("preprocessing") or {}
        present = supervisor.preprocessing.as_json()
        fields = {"normalize": ("mean", "std")}
        differing += [
            f"{key} is {present[key]!r} here and {preprocessing.get(key)!r} in the file"
            for option in sorted(set(options) - {"max_pixels"})
            if options.get(option) not in ("auto", "dataset")
            for key in fields.get(option, (option,))
            if present[key] != preprocessing.get(key)
        ]
        if differing:
            raise CheckpointMismatch(
                f"`{stored.path}` was trained with other settings: {'; '.join(differing)}.",
                fix="Build the supervisor with the settings of the file, or use super_selfish.load(name).",
            )


def restore(
    name: str | os.PathLike[str], classes: Mapping[str, type[AnySupervisor]], given: Mapping[str, Any]
) -> AnySupervisor:
    """Build the supervisor that a file describes and load it; see :func:`super_selfish.load`."""
    stored = read_newest(name)
    manifest = stored.manifest
    cls = classes.get(str(manifest.get("supervisor")))
    if manifest.get("supervisor") in ("label", "supervisor"):
        raise CheckpointMismatch(
            f"`{stored.path}` holds networks that only you can build.",
            fix="Build them: LabelSupervisor(CombinedNet(backbone, head)).load(name).",
        )
    if cls is None:
        raise CheckpointMismatch(
            f"`{stored.path}` does not say which algorithm it is of.",
            expected=f"one of {', '.join(classes)}",
            received=repr(manifest.get("supervisor")),
            fix="Build the supervisor yourself and call its load(name).",
        )
    supervisor = build(cls, stored, given)
    Persistence(supervisor).adopt(stored)
    if manifest.get("class") not in (None, cls.__qualname__):
        logger.warning(
            "`%s` was trained by %s, a custom class: this is the %s it derives from. "
            "To continue training, build yours and call its load(name).",
            stored.path,
            manifest["class"],
            cls.__qualname__,
        )
    return supervisor.eval()


def build(cls: type[AnySupervisor], stored: WeightsFile, given: Mapping[str, Any]) -> AnySupervisor:
    """A supervisor with the arguments of a file.

    Raises:
        CheckpointMismatch: If it needs a network that only the user can build.
    """
    arguments, networks = stored.manifest.get("arguments"), stored.manifest.get("networks")
    if not isinstance(arguments, dict) or not isinstance(networks, dict):
        raise CheckpointCorrupt(f"`{stored.path}` is damaged: its manifest has no arguments.")
    allowed = set(inspect.signature(cls.__init__).parameters) - {"self", "dataset", "images", *networks}
    named = {key: value for key, value in networks.items() if isinstance(value, str)}
    custom = {key: value for key, value in networks.items() if isinstance(value, dict | list) and key not in given}
    for key, value in custom.items():
        if isinstance(value, dict) and key in cls.network_arguments:
            raise CheckpointMismatch(
                f"`{stored.path}` was trained with a custom {key}, which only you can build.",
                expected=str(value.get("own")),
                received="nothing",
                fix=f"Pass it: super_selfish.load(name, {key}=...).",
            )
    missing = sorted(set(custom) - set(cls.network_arguments))
    if missing and given.get("dataset") is not None:  # it is going to be trained
        logger.warning("`%s` was trained with custom %s: pass them too.", stored.path, " and ".join(missing))
    preprocessing = Preprocessing.from_json(stored.manifest.get("preprocessing"))
    sizes = {key: getattr(preprocessing, key) for key in ("resolution", "channels", "max_pixels")}
    plain = {key: value for key, value in arguments.items() if key in allowed}
    with torch.random.fork_rng(devices=[]):
        return cls(**{**plain, **sizes, **named, **given})


def match_average(supervisor: SupervisorBase, stored: WeightsFile) -> None:
    """Give a supervisor an average of its weights if the file has one, and none if it has none."""
    has_average = any(key.startswith("average.") for key in stored.tensors)
    if has_average and supervisor.average is None:
        supervisor.average = momentum_copy(supervisor.model)
    elif not has_average:
        supervisor.average = None


def private_names(supervisor: SupervisorBase, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Public names as ``state_dict`` has them."""
    own = set(supervisor.state_dict())
    return {_MODEL + key if _MODEL + key in own or key not in own else key: value for key, value in tensors.items()}


def read_progress(stored: WeightsFile) -> tuple[TrainState, list[dict[str, Any]]]:
    """Training progress and history from a manifest.

    Raises:
        CheckpointCorrupt: If they are not what they should be.
    """
    training, history = stored.manifest.get("training"), stored.manifest.get("history")
    keys = ("epochs", "batch", "steps", "samples")
    found = [training.get(key) for key in keys] if isinstance(training, dict) else []
    numbers = [number for number in found if isinstance(number, int) and number >= 0]
    if len(numbers) != len(keys) or not isinstance(history, list):
        raise CheckpointCorrupt(f"`{stored.path}` is damaged: its manifest has no record of the training.")
    return TrainState(*numbers), [dict(entry) for entry in history if isinstance(entry, dict)]
