"""How a supervisor becomes a file and a file a supervisor."""

from __future__ import annotations

import inspect
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing
from super_selfish.engine.core.identity import as_json, describe, registered_class
from super_selfish.errors import CheckpointCorrupt, CheckpointMismatch
from super_selfish.loading.loader import Cursor
from super_selfish.models.averages import momentum_copy
from super_selfish.models.combined import load_exactly
from super_selfish.storage.readable import read_any
from super_selfish.storage.weights_file import Artefact, write_artefact
from super_selfish.version import __version__

if TYPE_CHECKING:
    from super_selfish.engine.supervisor import Supervisor

logger = logging.getLogger("super_selfish")

_MODEL = "model."
NETWORKS = ("backbone", "predictor", "discriminator", "backbone_ab", "predictor_ab", "predictor_g")
"""What a file cannot be restored without if the user built it."""


def public_state(supervisor: Supervisor) -> dict[str, Tensor]:
    """All tensors under their public names: ``backbone.*``, ``predictor.*`` and whatever else there is."""
    return {key.removeprefix(_MODEL): value for key, value in supervisor.state_dict().items()}


def save(supervisor: Supervisor, name: str | os.PathLike[str], *, keep: bool = False) -> Path:
    """Write the artefact; with ``keep`` what stood there stays as ``*.prev``."""
    return write_artefact(name, public_state(supervisor), manifest(supervisor), keep=keep)


def manifest(supervisor: Supervisor) -> dict[str, Any]:
    """Everything needed to rebuild the supervisor, and where its weights come from."""
    given = supervisor._setup.given
    cursor = supervisor.cursor
    settings = supervisor.settings
    return {
        "supervisor": supervisor.algorithm(),
        "class": type(supervisor).__qualname__,
        "arguments": as_json(supervisor.hyperparameters()),
        "networks": {key: describe(value) for key, value in given.items()},
        "preprocessing": supervisor.preprocessing.as_json(),
        "feature_shape": as_json(supervisor.feature_shape),
        "training": {
            "epochs": cursor.epoch,
            "batch": cursor.batch,
            "steps": cursor.step,
            "samples": cursor.samples,
            "settings": None if settings is None else settings.as_json(),
        },
        "run": supervisor.run_id,
        "dataset": fingerprint(supervisor),
        "skipped": dict(list(supervisor.skipped.items())[:100]),
        "history": as_json(supervisor.history),
        "versions": {
            "super_selfish": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def fingerprint(supervisor: Supervisor) -> dict[str, int | str] | None:
    """What the images are recognised by: of a user's own data set, its length."""
    setup, dataset = supervisor._setup, supervisor.dataset
    if setup.fingerprint is None and setup.images is not None:
        setup.fingerprint = setup.images.fingerprint()
    elif setup.fingerprint is None and hasattr(dataset, "__len__"):
        setup.fingerprint = {"length": len(dataset)}
    return setup.fingerprint


def restore(
    name: str | os.PathLike[str], classes: Mapping[str, type[Supervisor]], given: Mapping[str, Any]
) -> Supervisor:
    """Build the supervisor that a file describes and load it; see :func:`super_selfish.load`."""
    artefact = read_any(name)
    stored = artefact.manifest
    cls = classes.get(str(stored.get("supervisor")))
    if stored.get("supervisor") in ("label", "supervisor"):
        raise CheckpointMismatch(
            f"`{artefact.path}` holds networks that only you can build.",
            fix="Build them: LabelSupervisor(CombinedNet(backbone, head)).load(name).",
        )
    if cls is None:
        raise CheckpointMismatch(
            f"`{artefact.path}` does not say which algorithm it is of.",
            expected=f"one of {', '.join(classes)}",
            received=repr(stored.get("supervisor")),
            fix="Build the supervisor yourself and call its load(name).",
        )
    arguments, networks = stored.get("arguments"), stored.get("networks")
    if not isinstance(arguments, dict) or not isinstance(networks, dict):
        raise CheckpointCorrupt(f"`{artefact.path}` is damaged: its manifest has no arguments.")
    allowed = set(inspect.signature(cls.__init__).parameters) - {"self", "dataset", "images", *networks}
    own = {key: value for key, value in networks.items() if isinstance(value, str)}
    for key, value in networks.items():
        if isinstance(value, dict) and key not in given and key in NETWORKS:
            raise CheckpointMismatch(
                f"`{artefact.path}` was trained with a {key} of your own, which only you can build.",
                expected=str(value.get("own")),
                received="nothing",
                fix=f"Pass it: super_selfish.load(name, {key}=...).",
            )
    tell_what_is_missing(artefact, given)
    preprocessing = Preprocessing.from_json(stored.get("preprocessing"))
    sizes = {key: getattr(preprocessing, key) for key in ("resolution", "channels", "max_pixels")}
    plain = {key: value for key, value in arguments.items() if key in allowed}
    with torch.random.fork_rng(devices=[]):
        supervisor = cls(**{**plain, **sizes, **own, **given})
    adopt(supervisor, artefact)
    if stored.get("class") not in (None, cls.__qualname__):
        logger.warning(
            "`%s` was trained by %s, a class of your own: this is the %s it derives from. "
            "To train on, build yours and call its load(name).",
            artefact.path,
            stored["class"],
            cls.__qualname__,
        )
    return supervisor.eval()


def tell_what_is_missing(artefact: Artefact, given: Mapping[str, Any]) -> None:
    """Warn of views, criteria and the like of the user's own, where a file is going to be trained on without them."""
    own = {key for key, value in artefact.manifest["networks"].items() if isinstance(value, dict | list)}
    missing = sorted(own - {*given, *NETWORKS})
    if missing and given.get("dataset") is not None:
        logger.warning("`%s` was trained with %s of your own: pass them too.", artefact.path, " and ".join(missing))


def load(supervisor: Supervisor, name: str | os.PathLike[str]) -> None:
    """Read an artefact into a supervisor; nothing of it changes unless everything fits."""
    adopt(supervisor, read_any(name))


def adopt(supervisor: Supervisor, artefact: Artefact) -> None:
    """Take weights, preprocessing and history from an artefact, all or nothing."""
    before = supervisor.average
    try:
        match_average(supervisor, artefact)
        _adopt(supervisor, artefact)
    except BaseException:
        supervisor.average = before
        raise


def match_average(supervisor: Supervisor, artefact: Artefact) -> None:
    """Give a supervisor an average of its weights if the file has one, and none if it has none."""
    stored = any(key.startswith("average.") for key in artefact.tensors)
    if stored and supervisor.average is None:
        supervisor.average = momentum_copy(supervisor.model)
    elif not stored:
        supervisor.average = None


def _adopt(supervisor: Supervisor, artefact: Artefact) -> None:
    if not artefact.manifest:
        load_exactly(supervisor, private_names(supervisor, artefact.tensors), str(artefact.path))
        return
    check_same(supervisor, artefact)
    stored = Preprocessing.from_json(artefact.manifest.get("preprocessing"))
    cursor, history = read_progress(artefact)
    target = supervisor
    if resized(stored, supervisor.preprocessing) and "model" not in parameters(supervisor):
        target = rebuilt(supervisor, stored)
        match_average(target, artefact)
    load_exactly(target, private_names(target, artefact.tensors), str(artefact.path))
    if target is not supervisor:
        for key, child in target.named_children():
            setattr(supervisor, key, child)
        supervisor.feature_shape, supervisor.seen_size = target.feature_shape, target.seen_size
        supervisor._setup.make = target._setup.make
    supervisor.preprocessing = supervisor._setup.preprocessing = stored
    images, make = supervisor._setup.images, supervisor._setup.make
    if isinstance(images, ImageDataset):
        images.preprocessing = stored
        if target is not supervisor and make is not None:
            supervisor.dataset = make(images)
    supervisor.cursor, supervisor.history = cursor, history
    if supervisor.dataset is not None:
        supervisor.of_these_images = artefact.manifest.get("dataset") in (None, as_json(fingerprint(supervisor)))
    supervisor.run_id = str(artefact.manifest.get("run") or supervisor.run_id)
    supervisor.stored = {key: artefact.manifest.get(key) for key in ("training", "versions", "sha256")}


def parameters(supervisor: Supervisor) -> Mapping[str, inspect.Parameter]:
    """Of the constructor: one that takes a ``model`` does not size its networks by the images."""
    return inspect.signature(registered_class(type(supervisor)).__init__).parameters


def resized(stored: Preprocessing, present: Preprocessing) -> bool:
    """Whether networks sized for one are wrong for the other."""
    return (stored.resolution, stored.channels) != (present.resolution, present.channels)


def rebuilt(supervisor: Supervisor, stored: Preprocessing) -> Supervisor:
    """A twin of a supervisor whose networks fit the stored preprocessing."""
    options = set(supervisor._setup.options)
    arguments: dict[str, Any] = {
        key: value for key, value in supervisor.hyperparameters().items() if key not in options
    }
    arguments |= {"resolution": stored.resolution, "channels": stored.channels, **supervisor._setup.given}
    with torch.random.fork_rng(devices=[]):
        twin: Supervisor = registered_class(type(supervisor))(**arguments)
    return twin.to(supervisor.device)


def private_names(supervisor: Supervisor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Public names as ``state_dict`` has them."""
    own = set(supervisor.state_dict())
    return {_MODEL + key if _MODEL + key in own or key not in own else key: value for key, value in tensors.items()}


def check_same(supervisor: Supervisor, artefact: Artefact) -> None:
    """Compare class and hyperparameters with the manifest.

    Raises:
        CheckpointMismatch: With everything that differs.
    """
    stored = artefact.manifest
    if stored.get("supervisor") != supervisor.algorithm():
        raise CheckpointMismatch(
            f"`{artefact.path}` was trained by another algorithm.",
            expected=supervisor.algorithm(),
            received=repr(stored.get("supervisor")),
            fix="super_selfish.load(name) finds the right class.",
        )
    here = as_json(supervisor.hyperparameters())
    there = stored.get("arguments")
    if not isinstance(there, dict):
        raise CheckpointCorrupt(f"`{artefact.path}` is damaged: its manifest has no arguments.")
    options = set(supervisor._setup.options)
    differing = [
        f"{key} is {here[key]!r} here and {there.get(key)!r} in the file"
        for key in here
        if key not in options and here[key] != there.get(key)
    ]
    preprocessing = artefact.manifest.get("preprocessing") or {}
    present = supervisor.preprocessing.as_json()
    stated = {"normalize": ("mean", "std")}
    differing += [
        f"{key} is {present[key]!r} here and {preprocessing.get(key)!r} in the file"
        for option in sorted(options - {"max_pixels"})
        if supervisor._setup.options.get(option) not in ("auto", "dataset")
        for key in stated.get(option, (option,))
        if present[key] != preprocessing.get(key)
    ]
    if differing:
        raise CheckpointMismatch(
            f"`{artefact.path}` was trained with other settings: {'; '.join(differing)}.",
            fix="Build the supervisor with the settings of the file, or use super_selfish.load(name).",
        )


def read_progress(artefact: Artefact) -> tuple[Cursor, list[dict[str, Any]]]:
    """Cursor and history from a manifest.

    Raises:
        CheckpointCorrupt: If they are not what they should be.
    """
    training, history = artefact.manifest.get("training"), artefact.manifest.get("history")
    keys = ("epochs", "batch", "steps", "samples")
    found = [training.get(key) for key in keys] if isinstance(training, dict) else []
    numbers = [number for number in found if isinstance(number, int) and number >= 0]
    if len(numbers) != len(keys) or not isinstance(history, list):
        raise CheckpointCorrupt(f"`{artefact.path}` is damaged: its manifest has no record of the training.")
    return Cursor(*numbers), [dict(entry) for entry in history if isinstance(entry, dict)]
