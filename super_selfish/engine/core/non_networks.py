"""Modules of a supervisor that are not networks: criteria and metrics.

Their constants, such as class weights, are settings: weights files do not contain them, and a resumed training must
have the same ones. What training changes, such as a learnable temperature or a running centre, is stored, and loaded if
the supervisor has a tensor of that name and shape.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from super_selfish.engine.core.base import SupervisorBase
from super_selfish.models.combined import tensors_of

logger = logging.getLogger("super_selfish")

CRITERIA = ("loss", "fake_loss")
_SHOWN = 8  # maximum number of values in a message


def non_networks(supervisor: SupervisorBase) -> set[str]:
    """Return the names of user-supplied criteria, and of user-supplied modules without parameters."""
    given = [id(value) for value in supervisor.user_arguments.values() if isinstance(value, nn.Module)]
    return {
        name
        for name, child in supervisor.named_children()
        if (not _is_of_library(child) or (name in CRITERIA and id(child) in given))
        and (name in CRITERIA or next(child.parameters(), None) is None)
    }


def _is_of_library(module: nn.Module) -> bool:
    """Whether a module is of this library, or a container of such modules."""
    parts = module.children() if isinstance(module, nn.ModuleList | nn.ModuleDict | nn.Sequential) else [module]
    return any(base.__module__.startswith("super_selfish.") for part in parts for base in type(part).__mro__)


def state_of_non_networks(supervisor: SupervisorBase) -> dict[str, Tensor]:
    """Return the tensors of :func:`non_networks` by name."""
    names = non_networks(supervisor)
    return {key: value for key, value in tensors_of(supervisor).items() if key.split(".")[0] in names} if names else {}


def record_initial_state(supervisor: SupervisorBase) -> None:
    """Record hashes of the tensors of :func:`non_networks`, before a file or a training changes them."""
    if supervisor._initial_state is None:
        supervisor._initial_state = {key: _digest(value) for key, value in state_of_non_networks(supervisor).items()}


def fixed_tensors(supervisor: SupervisorBase) -> set[str]:
    """Return the tensors of :func:`non_networks` that training has not changed and that no network has."""
    initial = supervisor._initial_state or {}
    unchanged = {
        key for key, value in state_of_non_networks(supervisor).items() if initial.get(key) in (None, _digest(value))
    }
    return unchanged - shared_tensors(supervisor)


def fixed_tensors_in(manifest: Mapping[str, Any]) -> Any:
    """Return the :func:`fixed_tensors` of a saved supervisor; None if the file has no record of them."""
    return manifest.get("fixed_tensors", manifest.get("constants"))  # the name in earlier files


def shared_tensors(supervisor: SupervisorBase) -> set[str]:
    """Return the tensors of :func:`non_networks` that belong to a network as well."""
    names, state = non_networks(supervisor), supervisor.state_dict(keep_vars=True)
    in_networks = {id(value) for key, value in state.items() if key.split(".")[0] not in names}
    return {key for key, value in state.items() if key.split(".")[0] in names and id(value) in in_networks}


def networks_of(
    supervisor: SupervisorBase, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], origin: str
) -> dict[str, Tensor]:
    """Return the tensors of a file for the networks, with those of :func:`non_networks` that fit or are present.

    Args:
        supervisor: The supervisor to load into.
        tensors: Tensors of the file by name.
        manifest: Manifest of the file.
        origin: Path of the file, for a warning about trained parameters of a criterion that are not loaded.
    """
    listed, unchanged = manifest.get("non_networks"), fixed_tensors_in(manifest)
    names = set(listed) if isinstance(listed, list) else set(CRITERIA)
    stored = {key: value for key, value in tensors.items() if key.split(".")[0] in names}
    fixed = set(unchanged) if isinstance(unchanged, list) else set(stored)
    present = state_of_non_networks(supervisor)
    fitting = {
        key: stored[key]
        for key, value in present.items()
        if key in stored and key not in fixed and stored[key].shape == value.shape
    }
    trained = {name for name, weight in supervisor.named_parameters() if weight.requires_grad}
    if missing := sorted(key for key in present if key in trained and key not in fitting):
        logger.warning("`%s` has no weights for %s, which keep their values.", origin, ", ".join(missing[:_SHOWN]))
    own = set(tensors_of(supervisor))
    others = {key: value for key, value in tensors.items() if key not in stored or (key in own and key not in present)}
    return {**others, **present, **fitting}


def differing_constants(
    supervisor: SupervisorBase, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]
) -> list[str]:
    """Describe the constants of criteria and metrics that differ from those of a checkpoint."""
    present, names = state_of_non_networks(supervisor), fixed_tensors_in(manifest)
    return [
        f"{key} is {_shown(present[key])} here and {_shown(tensors[key])} in the checkpoint"
        for key in (sorted(map(str, names)) if isinstance(names, list) else ())
        if key in present and key in tensors and not _same(present[key], tensors[key])
    ]


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.detach().cpu(), second.cpu().to(first.dtype))


def _shown(value: Tensor) -> str:
    if value.numel() <= _SHOWN:
        return str(value.tolist())
    return f"a tensor of shape {tuple(value.shape)} with mean {value.double().mean():.6g}"


def _digest(value: Tensor) -> str:
    values = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest()
