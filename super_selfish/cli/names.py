"""Names of algorithms on the command line, and names of arguments in messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from super_selfish.errors import ConfigurationError

_VALUE = r"""(?:"[^"]*"|'[^']*'|\([^)]*\)|\[[^\]]*\]|[^\s,;)"'([`]*[^\s,;)"'([.`])"""


def algorithm_name(word: str) -> str:
    """The name of an algorithm by its name or an alias, with hyphens or underscores.

    Raises:
        ConfigurationError: If there is none; it suggests a similar name.

    Examples:
        >>> algorithm_name("rotate-net"), algorithm_name("MoCo")
        ('rotate_net', 'momentum_contrast')
    """
    from super_selfish.supervisors import all_supervisors

    known = {name: name for name in all_supervisors()}
    for name, algorithm in all_supervisors().items():
        known |= {alias: name for alias in algorithm.aliases if alias not in known}
    wanted = word.lower().replace("-", "_")
    if wanted in known:
        return known[wanted]
    similar = difflib.get_close_matches(wanted, known, n=1)
    raise ConfigurationError(
        f"There is no algorithm {word!r}.",
        received=word,
        fix=f"Did you mean {similar[0]}?" if similar else "super-selfish list shows all algorithms.",
    )


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
    """
    from cyclopts import default_name_transform

    message = re.sub(r"supervise\(\.\.\., (\w+=[^)]*)\)", r"\1", message)
    for name in sorted(arguments, key=len, reverse=True):
        flag = f"--{default_name_transform(name)}"

        def written(found: re.Match[str], flag: str = flag, name: str = name) -> str:
            value = "True" if name == "resume" and _unquoted(found[1]) == "auto" else found[1]
            if value in ("True", "False"):
                return flag if value == "True" else flag.replace("--", "--no-", 1)
            return f"{flag} {'none' if value == 'None' else _unquoted(value)}"

        message = message.replace(f"`{name}`", flag).replace(f"`{name}=`", flag)
        message = re.sub(rf"`?(?<![\w-]){name}=({_VALUE})`?", written, message)
    return re.sub(r"\bcall (?=--)", "pass ", message).replace(" to the constructor", "")


def _unquoted(value: str) -> str:
    quoted = re.fullmatch(r"""(["'])(\S+)\1""", value)
    return value if quoted is None else quoted[2]
