"""Saving supervisors to weights files, and loading them."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.engine.core import non_networks
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import columns_of
from super_selfish.engine.core.deferred import DeferredState, copy_fitting
from super_selfish.engine.core.followers import Followers
from super_selfish.engine.core.identity import as_json, custom_names, describe
from super_selfish.engine.core.starting_weights import published_record
from super_selfish.errors import CheckpointCorrupt, CheckpointMismatch, ConfigurationError
from super_selfish.files import RETRAIN
from super_selfish.loading.loader import TrainState
from super_selfish.models.averages import momentum_copy
from super_selfish.models.combined import load_exactly, tensors_of
from super_selfish.storage.former_backbones import check_backbones
from super_selfish.storage.origins import origins_of
from super_selfish.storage.weights_file import WeightsFile, read_newest, write_weights
from super_selfish.version import __version__

logger = logging.getLogger("super_selfish")
_MODEL = "model."


class Persistence:
    """Saves a supervisor to a weights file, and loads a weights file into it.

    Args:
        supervisor: The supervisor.
    """

    def __init__(self, supervisor: SupervisorBase) -> None:
        self.supervisor = supervisor

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by their public names, such as ``backbone.*`` and ``predictor.*``."""
        found = self.supervisor._deferred.pending | tensors_of(self.supervisor)
        return {key.removeprefix(_MODEL): value for key, value in found.items()}

    def manifest(self, history: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Return the metadata needed to rebuild the supervisor, and the record of its training."""
        history = self.supervisor._history if history is None else history
        supervisor, train_state = self.supervisor, self.supervisor._train_state
        settings, origins = supervisor._settings, origins_of(supervisor.model) if supervisor.takes_model() else None
        return {
            "supervisor": supervisor.algorithm(),
            "class": type(supervisor).__qualname__,
            "arguments": as_json(supervisor.hyperparameters()),
            "names_outside_model": sorted(names_outside_model(supervisor)),
            "non_networks": sorted(non_networks.non_networks(supervisor)),
            "fixed_tensors": sorted(non_networks.fixed_tensors(supervisor)),
            "deferred_tensors": supervisor._deferred.created_tensors(supervisor),
            "networks": {key: describe(value) for key, value in supervisor.user_arguments.items()},
            **({} if origins is None else {"origins": origins}),
            "preprocessing": supervisor.preprocessing.as_json(),
            "classes": as_json(supervisor.model.classes),
            "feature_shape": as_json(supervisor.feature_shape),
            "published_weights": published_record(supervisor._setup.weights, supervisor._stored),
            "training": {
                "epochs": train_state.epoch,
                "batch": train_state.batch,
                "steps": train_state.step,
                "samples": train_state.samples,
                "settings": None if settings is None else settings.as_json(),
            },
            "run": supervisor._run_id,
            "dataset": supervisor.fingerprint(),
            "skipped": dict(list(supervisor._skipped.items())[:100]),
            "history": as_json(list(history)),
            "columns": as_json(columns_of(history, supervisor._stored.get("columns"))),
            "versions": {
                "super_selfish": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    def check(self) -> None:
        """Check before training that the supervisor can be saved.

        Raises:
            ConfigurationError: If two tensors would have the same name, or an argument is not JSON-serialisable.
        """
        supervisor = self.supervisor
        if len(self.tensors()) < len(supervisor.state_dict()):
            names = [name for name, _ in supervisor.named_children() if name in ("backbone", "predictor")]
            raise ConfigurationError(
                "Two attributes of the supervisor would have the same name in the file.",
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
        """Write the weights file. With ``keep``, an existing file is renamed to ``*.prev``."""
        left_out = non_networks.fixed_tensors(self.supervisor) | non_networks.shared_tensors(self.supervisor)
        tensors = {key: value for key, value in self.tensors().items() if key not in left_out}
        return write_weights(name, tensors, self.manifest(), keep=keep)

    def load(self, name: str | os.PathLike[str]) -> None:
        """Load a weights file. If it does not match, the supervisor is unchanged."""
        self.adopt(read_newest(name))

    def adopt(self, stored: WeightsFile, *, complete: bool = False) -> None:
        """Load weights, preprocessing and history from an opened file, all or nothing.

        Args:
            stored: The file.
            complete: Also load the whole state of criteria and metrics, and require that it fits.
        """
        supervisor = self.supervisor
        non_networks.record_initial_state(supervisor)
        before = supervisor.average, supervisor.model.classes, supervisor.dataset
        try:
            match_average(supervisor, stored)
            self._adopt(stored, complete)
        except BaseException:
            supervisor.average, supervisor.model.classes, supervisor.dataset = before
            raise
        Followers(self.supervisor).record()

    def reload(self, stored: WeightsFile) -> None:
        """Load weights again, into networks and buffers that a stage may have recreated since :meth:`adopt`."""
        supervisor = self.supervisor
        tensors = private_names(supervisor, stored)
        copied = copy_fitting(supervisor, tensors)
        for key in copied:
            supervisor._deferred.pending.pop(key, None)

    def _adopt(self, stored: WeightsFile, complete: bool) -> None:
        supervisor = self.supervisor
        if not stored.manifest:
            self._load_plain(stored)
            return
        self._check_same(stored)
        preprocessing = Preprocessing.from_json(stored.manifest.get("preprocessing"))
        train_state, history = read_progress(stored)
        present = supervisor.preprocessing
        resized = (preprocessing.resolution, preprocessing.channels) != (present.resolution, present.channels)
        twin = supervisor.rebuilt_for(preprocessing) if resized and not supervisor.takes_model() else None
        target = supervisor if twin is None else twin
        match_average(target, stored)
        supervisor.use_classes(stored.manifest.get("classes"))
        self._load_tensors(target, stored, complete)
        supervisor.use_preprocessing(preprocessing, twin)
        supervisor._train_state, supervisor._history = train_state, history
        if supervisor.dataset is not None:
            supervisor.is_same_dataset = stored.manifest.get("dataset") in (None, as_json(supervisor.fingerprint()))
        supervisor._run_id = str(stored.manifest.get("run") or supervisor._run_id)
        kept = ("training", "versions", "columns", "sha256", "published_weights")
        supervisor._stored = {key: stored.manifest.get(key) for key in kept}

    def _load_plain(self, stored: WeightsFile) -> None:
        """Load a plain ``state_dict``, which has no metadata."""
        supervisor = self.supervisor
        try:
            tensors = non_networks.networks_of(supervisor, private_names(supervisor, stored), {}, str(stored.path))
            load_exactly(supervisor, tensors, str(stored.path))
        except CheckpointMismatch as error:
            if stored.path.suffix != ".pt":
                raise
            raise CheckpointMismatch(
                f"`{stored.path}` does not match the networks, and has no record of its training.", fix=RETRAIN
            ) from error

    def _load_tensors(self, target: SupervisorBase, stored: WeightsFile, complete: bool) -> None:
        """Load the networks of the library into ``target``, and other state of a custom class into the supervisor."""
        supervisor, created = self.supervisor, stored.manifest.get("deferred_tensors")
        tensors = private_names(supervisor, stored)
        pending = DeferredState()
        if isinstance(created, dict) and stored.manifest.get("class") in custom_names(type(supervisor)):
            tensors = pending.defer(supervisor, tensors, created)
        if not complete:
            tensors = non_networks.networks_of(supervisor, tensors, stored.manifest, str(stored.path))
        if target is supervisor:
            load_exactly(target, tensors, str(stored.path))
        else:
            outside = names_outside_model(supervisor) - names_outside_model(target)
            own = {key: value for key, value in tensors.items() if key.split(".")[0] in outside}
            load_exactly(target, {key: value for key, value in tensors.items() if key not in own}, str(stored.path))
            load_exactly(supervisor, own, str(stored.path), outside)
        supervisor._deferred.copy_from(pending)
        supervisor._deferred.register_placeholders(supervisor)

    def _check_same(self, stored: WeightsFile) -> None:
        """Check that class and hyperparameters are those of the manifest.

        Raises:
            CheckpointMismatch: If they differ; the message lists all differences.
        """
        supervisor, manifest = self.supervisor, stored.manifest
        if manifest.get("supervisor") != supervisor.algorithm():
            raise CheckpointMismatch(
                f"`{stored.path}` was trained by another algorithm.",
                expected=supervisor.algorithm(),
                received=repr(manifest.get("supervisor")),
                fix="Choose another `name`, or use super_selfish.load(name), which finds the right class.",
            )
        check_backbones(supervisor.user_arguments, manifest, stored.path, uses_map=supervisor.uses_map)
        here, there = as_json(supervisor.hyperparameters()), stored_arguments(supervisor, manifest)
        if not isinstance(there, dict):
            raise CheckpointCorrupt(f"`{stored.path}` is damaged: its manifest has no arguments.")
        options: dict[str, Any] = dict(supervisor.image_options)
        known = [key for key in here if key in there or key not in supervisor.own_arguments]  # 0.1.0 has no own ones
        differing = [
            f"{key} is {here[key]!r} here and {there.get(key)!r} in the file"
            for key in known
            if key not in options and here[key] != there.get(key)
        ]
        preprocessing = manifest.get("preprocessing") or {}
        present = supervisor.preprocessing.as_json()
        fields = {"normalize": ("mean", "std")}
        differing += [
            f"{key} is {present[key]!r} here and {preprocessing.get(key)!r} in the file"
            for option in sorted(set(options) - {"max_pixels"})
            if options.get(option) not in ("auto", "all", "dataset")
            for key in fields.get(option, (option,))
            if present[key] != preprocessing.get(key)
        ]
        if differing:
            raise CheckpointMismatch(
                f"`{stored.path}` was trained with other settings: {'; '.join(differing)}.",
                fix="Build the supervisor with the settings of the file, or use super_selfish.load(name).",
            )


def stored_arguments(algorithm: SupervisorBase | type[SupervisorBase], manifest: Mapping[str, Any]) -> Any:
    """Return the constructor arguments of a manifest by their present names, with former defaults for missing ones."""
    arguments = manifest.get("arguments")
    renamed = algorithm.renamed_arguments
    if not isinstance(arguments, dict):
        return arguments
    if not set(renamed.values()) & set(arguments):
        arguments = {renamed.get(name, name): value for name, value in arguments.items()}
    return {**algorithm.former_defaults, **arguments}


def match_average(supervisor: SupervisorBase, stored: WeightsFile) -> None:
    """Create or remove the average of a supervisor to match the file."""
    has_average = any(key.startswith("average.") for key in stored.tensors)
    if has_average and supervisor.average is None:
        supervisor.average = momentum_copy(supervisor.model)
    elif not has_average:
        supervisor.average = None


def private_names(supervisor: SupervisorBase, stored: WeightsFile) -> dict[str, Tensor]:
    """Return the tensors of a file by their names in ``state_dict``."""
    own, outside = set(supervisor.state_dict()), stored_names_outside_model(stored)

    def is_outside(key: str) -> bool:
        return key.split(".")[0] in outside or (key in own and _MODEL + key not in own)

    return {key if is_outside(key) else _MODEL + key: value for key, value in stored.tensors.items()}


def names_outside_model(supervisor: SupervisorBase) -> set[str]:
    """Return the names of modules, parameters and buffers that are not part of ``model``."""
    return {key.split(".")[0] for key in supervisor.state_dict()} - {_MODEL.rstrip(".")}


def stored_names_outside_model(stored: WeightsFile) -> set[str]:
    """Return the :func:`names_outside_model` of the saved supervisor; empty if the file has no record of them."""
    names = stored.manifest.get("names_outside_model")
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def read_progress(stored: WeightsFile) -> tuple[TrainState, list[dict[str, Any]]]:
    """Return training progress and history of a manifest.

    Raises:
        CheckpointCorrupt: If they are missing or invalid.
    """
    training, history = stored.manifest.get("training"), stored.manifest.get("history")
    keys = ("epochs", "batch", "steps", "samples")
    found = [training.get(key) for key in keys] if isinstance(training, dict) else []
    numbers = [number for number in found if isinstance(number, int) and number >= 0]
    if len(numbers) != len(keys) or not isinstance(history, list):
        raise CheckpointCorrupt(f"`{stored.path}` is damaged: its manifest has no record of the training.")
    return TrainState(*numbers), [dict(entry) for entry in history if isinstance(entry, dict)]
