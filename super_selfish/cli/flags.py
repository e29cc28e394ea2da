"""Flags off signatures: what of a constructor or of ``supervise`` can be said on a command line."""

from __future__ import annotations

import ast
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

from cyclopts import Parameter

COSTS = {
    "resolution": "Time and memory grow with its square.",
    "batch_size": "Memory grows with it.",
    "num_workers": "Each takes a core and about 300 MB.",
    "precision": 'On a GPU "bf16" is about twice as fast and takes half of the memory.',
    "accumulate": "Memory shrinks by it; batch norm sees each part alone.",
    "polyak": "A copy of the weights, and a few percent of time.",
    "watch": "As many images through the backbone, twice an epoch.",
    "checkpoint_every": "A checkpoint has about three times the size of the weights.",
    "cache": "Disk space: three bytes a pixel.",
    "evaluate": "All these images through the backbone every ten epochs.",
    "epochs": "Time grows with it.",
    "queue_size": "Memory: 4 bytes a number of each embedding.",
    "bank_precision": '"16" halves the bank\'s memory.',
}
"""What an argument costs, where that is not plain."""

_PLAIN = (bool, int, float, str)
_LEFT_OUT = {"dataset", "callbacks", "optimizer", "lr_scheduler", "verbose", "resume", "evaluate", "self"}


def flag_type(annotation: Any) -> Any:
    """The type of a flag; None if a command line cannot say it.

    Numbers, words and choices are themselves; anything else that can be written down is a word, which
    :func:`value_of` reads.
    """
    options = typing.get_args(annotation) if typing.get_origin(annotation) in (Union, types.UnionType) else [annotation]
    plain = [option for option in options if option in _PLAIN or typing.get_origin(option) is Literal]
    rows = [option for option in options if typing.get_origin(option) in (tuple, list) or "Sequence" in str(option)]
    rows = [row for row in rows if not any(word in str(row) for word in ("Module", "Callable", "Views", "Callback"))]
    words = [option for option in options if "PathLike" in str(option)]
    if not plain and not rows and not words:
        return None
    optional = type(None) in options
    if len(plain) == 1 and not rows:
        return plain[0] | None if optional else plain[0]
    return str | None if optional else str


def value_of(text: Any) -> Any:
    """A word as the value that it stands for.

    Examples:
        >>> value_of("96"), value_of("96x128"), value_of("0,90,180"), value_of("auto"), value_of("store/base")
        (96, (96, 128), (0, 90, 180), 'auto', 'store/base')
    """
    if not isinstance(text, str):
        return text
    if re.fullmatch(r"\d+x\d+", text):
        text = text.replace("x", ",")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return tuple(text.split(",")) if re.fullmatch(r"\w+(,\w+)+", text) else text
    return tuple(value) if isinstance(value, list) else value


def documented(text: str | None) -> dict[str, str]:
    """The ``Args`` of a docstring by name, each on one line, without markup."""
    section = re.search(
        r"\n\s*(?:Args|Attributes):\n(.*?)(?:\n\s*\n|\Z)", inspect.cleandoc(text or "") + "\n\n", re.DOTALL
    )
    found = re.findall(
        r"^    (\w+): (.*?)(?=^    \**\w+: |\Z)", (section[1] if section else "") + "\n", re.DOTALL | re.MULTILINE
    )
    return {name: plain_text(said) for name, said in found}


def plain_text(said: str) -> str:
    """A docstring's words without its markup."""
    said = re.sub(r":\w+:`~?([^`]*)`", lambda role: role[1].rpartition(".")[2], said)
    return " ".join(said.replace("``", "").replace("`", "").split())


def flags(function: Callable[..., Any], docs: dict[str, str], group: str) -> list[inspect.Parameter]:
    """Keyword flags for those arguments of a function that can be written down."""
    hints = typing.get_type_hints(function)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind = flag_type(hints.get(name))
        if name in _LEFT_OUT or kind is None or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        found.append(flag(name, kind, parameter.default, docs.get(name, ""), group))
    return found


def flag(name: str, kind: Any, default: Any, said: str, group: str) -> inspect.Parameter:
    """A keyword flag with its help, and what it costs."""
    default = ",".join(map(str, default)) if isinstance(default, tuple | list) else default
    told = " ".join(part for part in (said, COSTS.get(name, "")) if part)
    annotation = Annotated[kind, Parameter(help=told, group=group)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
