"""Loading of saved supervisors."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import nn

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.identity import full_signature
from super_selfish.engine.core.non_networks import CRITERIA
from super_selfish.engine.label import LabelSupervisor
from super_selfish.engine.persistence import (
    Persistence,
    names_outside_model,
    stored_arguments,
    stored_names_outside_model,
)
from super_selfish.errors import CheckpointCorrupt, CheckpointMismatch, validate_keywords
from super_selfish.files import RETRAIN
from super_selfish.models.backbones import Output
from super_selfish.models.combined import CombinedNet
from super_selfish.storage.former_backbones import stored_networks
from super_selfish.storage.origins import build_layers
from super_selfish.storage.weights_file import WeightsFile, read_newest
from super_selfish.supervisors import Supervisor, all_supervisors

logger = logging.getLogger("super_selfish")

AnySupervisor = TypeVar("AnySupervisor", bound=SupervisorBase)

CONSTRUCTOR_ARGUMENTS = frozenset(name for cls in all_supervisors().values() for name in full_signature(cls).parameters)
"""Names of the constructor arguments of all algorithms."""


@validate_keywords(["name", *sorted(CONSTRUCTOR_ARGUMENTS)])
def load(name: str | os.PathLike[str] = "store/base", **given: Any) -> Supervisor:
    """Load a trained supervisor: class, networks, weights, preprocessing and history.

    The supervisor is on the CPU until it is moved or trained.

    Args:
        name: Name of the training, as passed to ``supervise`` or ``save``.
        **given: User-supplied networks of the supervisor, such as ``backbone=MyNet()``, and ``dataset`` to resume
            training.

    Raises:
        CheckpointError: If there is no file with this name, or it is damaged.
        CheckpointMismatch: If the weights do not match the networks, or a user-supplied network is missing.
    """
    return restore(name, all_supervisors(), given)


def restore(
    name: str | os.PathLike[str], classes: Mapping[str, type[AnySupervisor]], given: Mapping[str, Any]
) -> AnySupervisor:
    """Build the supervisor of a weights file and load it; see :func:`super_selfish.load`."""
    stored = read_newest(name)
    manifest = stored.manifest
    cls = classes.get(str(manifest.get("supervisor")))
    if manifest.get("supervisor") == "label" and isinstance(manifest.get("origins"), dict):
        return cast(AnySupervisor, restore_labelled(stored, given))
    if manifest.get("supervisor") in ("label", "supervisor"):
        own = manifest.get("class") or "Supervisor"
        what = "user-supplied networks" if own in ("Supervisor", "LabelSupervisor") else f"the custom class {own}"
        raise CheckpointMismatch(
            f"`{stored.path}` holds {what}, which cannot be rebuilt automatically.",
            fix=f"Build it in Python and load the weights: {own}(...).load(name). Features of its "
            "get_backbone() are scored by knn and linear_probe in super_selfish.evaluation.",
        )
    if cls is None:
        raise CheckpointMismatch(
            f"`{stored.path}` does not name a known algorithm.",
            expected=f"one of {', '.join(classes)}",
            received=repr(manifest.get("supervisor")),
            fix=RETRAIN if stored.path.suffix == ".pt" else "Build the supervisor yourself and call its load(name).",
        )
    manifest = {**manifest, "networks": stored_networks(manifest, uses_map=cls.uses_map)}
    stored = dataclasses.replace(stored, manifest=manifest)
    supervisor = build(cls, stored, given)
    Persistence(supervisor).adopt(without_surplus(supervisor, stored))
    if manifest.get("class") not in (None, cls.__qualname__):
        logger.warning(
            "`%s` was trained by the custom class %s and is loaded as its base class %s. "
            "To continue training, build the custom class and call its load(name).",
            stored.path,
            manifest["class"],
            cls.__qualname__,
        )
    return supervisor.eval()


def build(cls: type[AnySupervisor], stored: WeightsFile, given: Mapping[str, Any]) -> AnySupervisor:
    """Build a supervisor with the arguments of a file.

    Raises:
        CheckpointMismatch: If a user-supplied network is missing.
    """
    arguments, networks = stored_arguments(cls, stored.manifest), stored.manifest.get("networks")
    if not isinstance(arguments, dict) or not isinstance(networks, dict):
        raise CheckpointCorrupt(f"`{stored.path}` is damaged: its manifest has no arguments.")
    allowed = set(inspect.signature(cls.__init__).parameters) - {"self", "dataset", "images", *networks}
    named = {key: value for key, value in networks.items() if isinstance(value, str)}
    custom = {key: value for key, value in networks.items() if isinstance(value, dict | list) and key not in given}
    for key, value in custom.items():
        if isinstance(value, dict) and key in cls.network_arguments:
            raise CheckpointMismatch(
                f"`{stored.path}` was trained with a custom {key}, which cannot be rebuilt automatically.",
                expected=str(value.get("own")),
                received="nothing",
                fix=f"Pass it: super_selfish.load(name, {key}=...).",
            )
    warn_of_missing(stored, sorted(set(custom) - set(cls.network_arguments)), given)
    preprocessing = Preprocessing.from_json(stored.manifest.get("preprocessing"))
    sizes = {key: getattr(preprocessing, key) for key in ("resolution", "channels", "max_pixels")}
    plain = {key: value for key, value in arguments.items() if key in allowed}
    with torch.random.fork_rng(devices=[]):
        return cls(**{**plain, **sizes, **named, **given})


def warn_of_missing(stored: WeightsFile, missing: Sequence[str], given: Mapping[str, Any]) -> None:
    """Log the custom arguments that continuing the training needs, if a data set was passed."""
    if missing and given.get("dataset") is not None:
        logger.warning(
            "`%s` was trained with custom %s. Pass them to super_selfish.load to continue training.",
            stored.path,
            " and ".join(missing),
        )


def restore_labelled(stored: WeightsFile, given: Mapping[str, Any]) -> LabelSupervisor:
    """Build a ``LabelSupervisor`` with the backbone and the head that a file describes, and load its weights.

    Raises:
        CheckpointCorrupt: If the description is damaged.
        CheckpointMismatch: If the backbone is a custom one and is not passed, or another one is passed.
    """
    origins, manifest = stored.manifest["origins"], stored.manifest
    given = dict(given)
    try:
        backbone = given.pop("backbone", None) or original_backbone(stored)
        model = CombinedNet(backbone, build_layers(origins["predictor"]), of_map=origins["of_map"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointCorrupt(f"`{stored.path}` is damaged: its networks cannot be built ({error}).") from error
    preprocessing = Preprocessing.from_json(manifest.get("preprocessing"))
    sizes: dict[str, Any] = {key: getattr(preprocessing, key) for key in ("resolution", "channels", "max_pixels")}
    has_criterion = isinstance((manifest.get("networks") or {}).get("loss"), dict) and "loss" not in given
    warn_of_missing(stored, ["loss"] if has_criterion else [], given)
    finetune = bool(manifest.get("arguments", {}).get("finetune"))
    supervisor = LabelSupervisor(model, **{"finetune": finetune, **sizes, **given})
    Persistence(supervisor).adopt(stored)
    object.__setattr__(backbone, "preprocessing", supervisor.preprocessing)  # used by `test` and `extract_features`
    return supervisor.eval()


def original_backbone(stored: WeightsFile) -> nn.Module:
    """Build the backbone of a classifier by the training that it was taken from.

    Raises:
        CheckpointMismatch: If it is a custom one.
    """
    origin = stored.manifest["origins"]["backbone"]
    if origin is None:
        raise CheckpointMismatch(
            f"`{stored.path}` was trained with a custom backbone, which cannot be rebuilt automatically.",
            fix="Pass it: super_selfish.load(name, backbone=...).",
        )
    source, output = dataclasses.replace(stored, manifest=dict(origin)), cast(Output | None, origin["output"])
    return build(all_supervisors()[origin["supervisor"]], source, {}).get_backbone(output=output)


def without_surplus(supervisor: SupervisorBase, stored: WeightsFile) -> WeightsFile:
    """Remove the modules that a custom class added to its base class, and log a warning with their names."""
    criteria = stored.manifest.get("non_networks")  # loading needs networks alone
    known = names_outside_model(supervisor) | {"average", *(criteria if isinstance(criteria, list) else CRITERIA)}
    surplus = stored_names_outside_model(stored) - known
    if not surplus:
        return stored
    logger.warning(
        "`%s` holds weights of %s, which %s does not have. They are ignored.",
        stored.path,
        ", ".join(f"`{name}`" for name in sorted(surplus)),
        type(supervisor).__qualname__,
    )
    kept = {key: value for key, value in stored.tensors.items() if key.split(".")[0] not in surplus}
    return dataclasses.replace(stored, tensors=kept)
