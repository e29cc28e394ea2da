"""``--backbone-from module:function``: a custom backbone, for commands that build or load a supervisor."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.suggestions import did_you_mean

EXAMPLE = "MODULE:FUNCTION, such as networks:small for the function small() of networks.py"


def with_backbone(place: str | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor or of :func:`super_selfish.load`, with the backbone that a function builds.

    Args:
        place: The value of ``--backbone-from``; None: the arguments stay as they are.
        arguments: The other arguments.

    Raises:
        ConfigurationError: If the backbone is also named, or cannot be built.
    """
    if place is None:
        return dict(arguments)
    if arguments.get("backbone") is not None:
        raise ConfigurationError(
            "There are two backbones.",
            expected="--backbone or --backbone-from",
            received=f"--backbone {arguments['backbone']} and --backbone-from {place}",
        )
    return {**arguments, "backbone": built(place)}


def built(place: str) -> nn.Module:
    """The network that a function returns. Modules in the current folder are found.

    Args:
        place: ``module:function``.

    Raises:
        ConfigurationError: If there is no such function, or it fails or returns something else.
    """
    module_name, _, name = place.partition(":")
    if not module_name or not name:
        raise ConfigurationError("--backbone-from is invalid.", expected=EXAMPLE, received=place)
    if os.getcwd() not in sys.path:  # noqa: PTH109 - entries of sys.path are text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module may raise anything
        fix = "Leave out .py, and write dots for folders." if Path(module_name).suffix == ".py" else None
        raise ConfigurationError(
            f"The module {module_name!r} of --backbone-from cannot be imported: {type(error).__name__}: {error}.",
            expected=EXAMPLE,
            received=place,
            fix=fix,
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigurationError(
            f"The module {module_name!r} has no function {name!r}.",
            expected=EXAMPLE,
            received=place,
            fix=did_you_mean(name, {key: f"{module_name}:{key}" for key in known}),
        )
    try:
        network = function()
    except Exception as error:  # the function may raise anything
        raise ConfigurationError(
            f"The function {place} of --backbone-from failed: {type(error).__name__}: {error}.",
            expected="a function that needs no arguments and returns an nn.Module",
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigurationError(
            f"The function {place} of --backbone-from returned no network.",
            expected="an nn.Module",
            received=repr(network)[:80],
        )
    return network
