"""``NAME.config.json``: every argument of a training, to start another one from."""

from __future__ import annotations

import inspect
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from super_selfish.cli.flags import value_type
from super_selfish.cli.values import from_stored
from super_selfish.distributed import rank, world
from super_selfish.engine.core.callback import Callback
from super_selfish.errors import ConfigurationError
from super_selfish.files import base_path, replacing, with_suffix
from super_selfish.version import __version__

CONFIG = ".config.json"
EXPECTED = f"NAME{CONFIG} of an earlier training"
NOT_STORED = ("config", "processes")  # flags of one call


@dataclass(frozen=True)
class Arguments:
    """The arguments of a training.

    Attributes:
        data: Of the images.
        constructor: Of the algorithm's class, by name.
        training: Of ``supervise``, and flags that stand for objects, by name.
        explicit: Names of those that were passed; all others have their defaults.
    """

    data: str
    constructor: dict[str, Any]
    training: dict[str, Any]
    explicit: frozenset[str] = field(default=frozenset())


class ConfigurationFile(Callback):
    """Writes the arguments of a training to ``<name>.config.json``, once all are accepted, with their effective values.

    Args:
        arguments: As passed.
    """

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments

    def on_train_begin(self, run: Any) -> None:
        """Write."""
        supervisor, arguments = run.supervisor, self.arguments
        if rank():
            return
        effective = supervisor.settings.as_json() if supervisor.settings is not None else {}
        effective |= {"batch_size": run.loader.batch_size, "resolution": supervisor.preprocessing.resolution}
        effective |= {"device": str(supervisor.device), "processes": world()}
        content = {
            "algorithm": supervisor.algorithm(),
            "data": arguments.data,
            "arguments": arguments.constructor,
            "training": {key: value for key, value in arguments.training.items() if key not in NOT_STORED},
            "explicit": sorted(arguments.explicit - {*NOT_STORED}),
            "effective": effective,
            "versions": {"super_selfish": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        with replacing(with_suffix(base_path(arguments.training["name"]), CONFIG)) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(path: str, algorithm: str, flags: list[inspect.Parameter], default_data: str) -> Arguments:
    """The arguments of an earlier training.

    Args:
        path: Of a file that :class:`ConfigurationFile` wrote, of this version or an earlier one.
        algorithm: The name that it has to be of.
        flags: All that can be set; their values in the file have to be of their types.
        default_data: The images, where the file names none.

    Raises:
        ConfigurationError: If the file cannot be read, is of another algorithm, or has wrong values.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        parts = {part: dict(stored[part]) for part in ("arguments", "training")}
    except OSError as error:
        raise ConfigurationError(
            f"`{path}` cannot be read: {error.strerror or error}.",
            expected=EXPECTED,
            fix="Check the path passed to `config`.",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"`{path}` is not a configuration file: {type(error).__name__}: {error}.", expected=EXPECTED
        ) from error
    if stored.get("algorithm") != algorithm:
        raise ConfigurationError(
            f"`{path}` is the configuration of another algorithm.",
            expected=algorithm,
            received=str(stored.get("algorithm")),
        )
    known = {flag.name: flag for flag in flags}
    for part in parts.values():
        for name, value in part.items():
            part[name] = _checked(path, known, name, value)
    values = parts["arguments"] | parts["training"]
    # values that were edited, and those of 0.1.0, whose files do not list what was passed
    differing = [name for name, value in values.items() if value != known[name].default]
    explicit = frozenset([*stored.get("explicit", []), *differing])
    return Arguments(str(stored.get("data", default_data)), parts["arguments"], parts["training"], explicit)


def _checked(path: str, flags: dict[str, inspect.Parameter], name: str, value: Any) -> Any:
    if name not in flags:
        raise ConfigurationError(
            f"`{path}` has an unknown argument.", expected=", ".join(sorted(flags)), received=f"{name!r}"
        )
    try:
        return from_stored(value_type(flags[name]), value)
    except ValueError as error:
        raise ConfigurationError(
            f"`{path}` has a value of the wrong type: {name!r}, {error}.", fix=f"Correct it, or pass `{name}`."
        ) from error
