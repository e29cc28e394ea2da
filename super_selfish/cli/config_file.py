"""Arguments of a training in a file: some that somebody wrote, or all, in ``NAME.config.json``."""

from __future__ import annotations

import inspect
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from super_selfish.cli.flags import value_type
from super_selfish.cli.names import algorithm_name
from super_selfish.cli.values import from_stored, parse, to_text
from super_selfish.distributed import rank, world
from super_selfish.engine.core.callback import Callback
from super_selfish.errors import ConfigurationError
from super_selfish.files import base_path, replacing, with_suffix
from super_selfish.suggestions import did_you_mean
from super_selfish.version import __version__

CONFIG = ".config.json"
EXPECTED = f"a YAML or JSON file with arguments by name, or NAME{CONFIG} of an earlier training"
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
    """The arguments in a file.

    Args:
        path: JSON or YAML: a file that :class:`ConfigurationFile` wrote, of this version or an earlier one, or any
            arguments by name, with values as on the command line.
        algorithm: The name that it has to be of, if it names one.
        flags: All that can be set; their values in the file have to be of their types.
        default_data: The images, where the file names none.

    Returns:
        The arguments; those of a file that somebody wrote are all under ``training``.

    Raises:
        ConfigurationError: If the file cannot be read, is of another algorithm, or has unknown or wrong arguments.
    """
    content = content_of(path)
    named = content.get("algorithm", algorithm)
    if algorithm_name(str(named)) != algorithm:
        raise ConfigurationError(
            f"`{path}` is the configuration of another algorithm.", expected=algorithm, received=str(named)
        )
    known = {flag.name: flag for flag in flags}
    written = {str(key).replace("-", "_"): value for key, value in content.items() if key not in _SECTIONS}
    parts = {part: _section(path, content, part) for part in ("arguments", "training")}
    for part in parts.values():
        for name, value in part.items():
            part[name] = _checked(path, known, name, value, from_stored)
    typed = {name: flag for name, flag in known.items() if name != "config"}
    written = {name: _checked(path, typed, name, value, _typed) for name, value in written.items()}
    values = parts["arguments"] | parts["training"]
    # values that were edited, and those of 0.1.0, whose files do not list what was passed
    differing = [name for name, value in values.items() if value != known[name].default]
    explicit = frozenset([*content.get("explicit", []), *differing, *written])
    data = to_text(content.get("data", default_data))
    return Arguments(data, parts["arguments"], parts["training"] | written, explicit)


_SECTIONS = {"algorithm", "data", "arguments", "training", "explicit", "effective", "versions"}


def content_of(path: str) -> dict[str, Any]:
    """The content of a JSON or YAML file (``.yaml``, ``.yml``).

    Raises:
        ConfigurationError: If it cannot be read, or has no keys.
    """
    is_yaml = Path(path).suffix.lower() in (".yaml", ".yml")
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.safe_load(text) if is_yaml else json.loads(text)
    except OSError as error:
        raise ConfigurationError(
            f"`{path}` cannot be read: {error.strerror or error}.",
            expected=EXPECTED,
            fix="Check the path passed to `config`.",
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"`{path}` is not a configuration file: {error}.", expected=EXPECTED) from error
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"`{path}` has no arguments.",
            expected="arguments by name, such as `epochs: 100`",
            received="an empty file" if content is None else type(content).__name__,
        )
    return content


def algorithm_in(argv: Sequence[str]) -> str | None:
    """The algorithm that the file of ``--config`` names, by the words of the command line; None: there is none."""
    words = list(argv)
    paths = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "--config"]
    paths += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    named = content_of(paths[-1]).get("algorithm") if paths else None
    return None if named is None else str(named)


def _section(path: str, content: dict[str, Any], name: str) -> dict[str, Any]:
    section = content.get(name, {})
    if not isinstance(section, dict):
        raise ConfigurationError(
            f"`{path}` has a section that is none.", expected=f"{name}: arguments by name", received=repr(section)
        )
    return dict(section)


def _typed(annotation: Any, value: Any) -> Any:
    """A value as if it was typed on the command line: ``1e-3`` is text in YAML, and ``precision: 16`` a number."""
    return parse(annotation, to_text(value))


def _checked(
    path: str, flags: dict[str, inspect.Parameter], name: str, value: Any, read_value: Callable[[Any, Any], Any]
) -> Any:
    if name not in flags:
        fix = did_you_mean(name, [*flags, "data", "algorithm"])
        raise ConfigurationError(
            f"`{path}` has an unknown argument.",
            expected=None if fix else f"algorithm, data, {', '.join(sorted(flags))}",
            received=f"{name!r}",
            fix=fix,
        )
    try:
        return read_value(value_type(flags[name]), value)
    except ValueError as error:
        raise ConfigurationError(
            f"`{path}` has a value of the wrong type: {name!r}, {error}.", fix=f"Correct it, or pass `{name}`."
        ) from error
