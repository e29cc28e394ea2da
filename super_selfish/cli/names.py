"""Names of algorithms on the command line, and names of arguments in messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from super_selfish.errors import ConfigurationError
from super_selfish.suggestions import did_you_mean

_VALUE = r"""(?:"[^"]*"|'[^']*'|\([^)]*\)|\[[^\]]*\]|[^\s,;)"'([`]*[^\s,;)"'([.`])"""
DATA_FLAGS = {"data", "dataset", "images", "image", "folder", "input", "path", "dir", "directory", "train"}
"""Flags that other programs have for the images."""


def algorithm_name(word: str) -> str:
    """The name of an algorithm by its name, an alias or its class, whatever its case, hyphens and underscores.

    Raises:
        ConfigurationError: If there is none; it suggests a similar name.

    Examples:
        >>> algorithm_name("rotate-net"), algorithm_name("MoCo")
        ('rotate_net', 'momentum_contrast')
    """
    from super_selfish.supervisors import algorithm_names

    names = algorithm_names()
    known = {_joined(spelling): name for spelling, name in names.items()}
    wanted = _joined(word).removesuffix("supervisor")
    if wanted in known:
        return known[wanted]
    raise ConfigurationError(
        f"There is no algorithm {word!r}.",
        fix="Name the algorithm before the folder."
        if Path(word).is_dir()
        else did_you_mean(word, {name: name for name in names}) or "super-selfish list shows all algorithms.",
    )


def _joined(word: str) -> str:
    return re.sub(r"[-_ ]", "", word.lower())


def unknown_flag(word: str, arguments: Iterable[str], takes_data: bool) -> str:
    """The error message for a flag that the command does not have.

    Args:
        word: The flag as typed.
        arguments: The arguments that are flags of the command.
        takes_data: Whether the images are a positional argument of the command.

    Examples:
        >>> unknown_flag("--epohcs", ["epochs"], takes_data=True)
        'Unknown option: --epohcs. Did you mean --epochs?'
        >>> unknown_flag("--images", ["epochs"], takes_data=True)
        'Unknown option: --images. Pass the folder of images without a flag, as the positional argument DATA.'
    """
    from cyclopts import default_name_transform

    name = word.lstrip("-").partition("=")[0].replace("-", "_")
    known = {argument: f"--{default_name_transform(argument)}" for argument in arguments}
    if takes_data and name in DATA_FLAGS:
        fix: str | None = "Pass the folder of images without a flag, as the positional argument DATA."
    else:
        fix = did_you_mean(name.removeprefix("no_"), known)
    return " ".join(part for part in (f"Unknown option: {word}.", fix) if part)


def algorithms_table() -> str:
    """Every algorithm with its class, aliases and paper."""
    from super_selfish.supervisors import all_supervisors

    rows = [("name", "class", "aliases", "paper")]
    for name, algorithm in all_supervisors().items():
        rows.append((name, algorithm.__name__, ", ".join(algorithm.aliases), str(algorithm.paper or "")))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    padded = [[cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def with_flags(message: str, arguments: Iterable[str]) -> str:
    """A message with flags in place of Python arguments.

    Args:
        message: Of an error.
        arguments: Those that are flags of the command.

    Examples:
        >>> with_flags("`batch_size` is out of range. Received: batch_size=0.", ["batch_size"])
        '--batch-size is out of range. Received: --batch-size 0.'
        >>> with_flags("Pass resume=False, or supervise(..., resume='auto').", ["resume"])
        'Pass --no-resume, or --resume.'
        >>> with_flags("Pass it: super_selfish.load(name, backbone=...).", ["backbone_from"])
        'Pass it: --backbone-from module:function.'
    """
    from cyclopts import default_name_transform

    arguments = list(arguments)
    message = re.sub(r"supervise\(\.\.\., (\w+=[^)]*)\)", r"\1", message)
    if "backbone_from" in arguments:
        message = message.replace("super_selfish.load(name, backbone=...)", "--backbone-from module:function")
    for name in sorted(arguments, key=len, reverse=True):
        flag = f"--{default_name_transform(name)}"

        def written(found: re.Match[str], flag: str = flag, name: str = name) -> str:
            value = "True" if name == "resume" and _unquoted(found[1]) == "auto" else found[1]
            if value in ("True", "False"):
                return flag if value == "True" else flag.replace("--", "--no-", 1)
            return f"{flag} {'none' if value == 'None' else _unquoted(value)}"

        message = message.replace(f"`{name}`", flag).replace(f"`{name}=`", flag)
        message = re.sub(rf"`?(?<![\w-]){name}=({_VALUE})`?", written, message)
    message = re.sub(r"(?<=Expected: )None\b", "none", message)
    message = re.sub(r"\bcall (?=--)", "pass ", message).replace(" to the constructor", "")
    return message.replace(", or an nn.Module", "")


def _unquoted(value: str) -> str:
    quoted = re.fullmatch(r"""(["'])(\S+)\1""", value)
    return value if quoted is None else quoted[2]
