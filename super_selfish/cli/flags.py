"""Command line flags from the signatures of functions."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter, Token

from super_selfish.cli.values import choices, is_closed, is_expressible, options, parse, to_text

COSTS = {
    "resolution": "Time and memory grow with its square.",
    "batch_size": "Memory grows with it.",
    "num_workers": "Each needs a CPU core and about 300 MB.",
    "precision": 'On a GPU, "bf16" is about twice as fast and needs half the memory.',
    "accumulate": "Reduces memory; batch norm statistics are those of a micro-batch.",
    "polyak": "Needs a copy of the weights and a few percent of time.",
    "watch": "Cost: two forward passes of these images per epoch.",
    "checkpoint_every": "A checkpoint is about three times as large as the weights.",
    "cache": "Disk space: three bytes per pixel.",
    "evaluate": "Cost: a forward pass of these images every ten epochs.",
    "epochs": "Time grows with it.",
    "queue_size": "Memory: 4 bytes per element of each embedding.",
    "bank_precision": '"16" halves the memory of the bank.',
}
"""The cost of an argument, where it is not obvious."""

_LEFT_OUT = {"dataset", "callbacks", "optimizer", "lr_scheduler", "verbose", "resume", "evaluate", "self"}


def documented(text: str | None) -> dict[str, str]:
    """The ``Args`` of a docstring by name, each on one line, without markup."""
    section = re.search(
        r"\n\s*(?:Args|Attributes):\n(.*?)(?:\n\s*\n|\Z)", inspect.cleandoc(text or "") + "\n\n", re.DOTALL
    )
    found = re.findall(
        r"^    (\w+): (.*?)(?=^    \**\w+: |\Z)", (section[1] if section else "") + "\n", re.DOTALL | re.MULTILINE
    )
    return {name: plain_text(description) for name, description in found}


def plain_text(text: str) -> str:
    """The text of a docstring without markup and without ``=`` behind arguments."""
    text = re.sub(r":\w+:`~?([^`]*)`", lambda role: role[1].rpartition(".")[2], text)
    text = re.sub(r"(\w)=(?=[\s,;:.)]|$)", r"\1", text.replace("`", ""))
    return " ".join(text.split())


def flags(function: Callable[..., Any], docs: dict[str, str], group: str) -> list[inspect.Parameter]:
    """Keyword flags for the arguments of a function that can be written as text."""
    hints = typing.get_type_hints(function)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        variadic = parameter.kind is inspect.Parameter.VAR_KEYWORD
        if name in _LEFT_OUT or variadic or not is_expressible(hints.get(name)):
            continue
        found.append(flag(name, hints[name], parameter.default, docs.get(name, ""), group))
    return found


def flag(name: str, annotation: Any, default: Any, description: str, group: str | None = None) -> inspect.Parameter:
    """A keyword flag, parsed by its annotation, with its help and cost."""
    texts = [description, COSTS.get(name, "")]
    shown: Any = cli_type(annotation)
    if shown is str and len(choices(annotation)) > 1 and not is_closed(annotation):
        texts.insert(1, f"Choices: {', '.join(choices(annotation))}.")
    settings: dict[str, Any] = {"help": " ".join(text for text in texts if text)}
    settings |= {} if group is None else {"group": group}
    if shown is not bool:
        settings |= {"converter": converter(annotation), "show_default": to_text if default is not None else False}
    annotated = Annotated[shown, Parameter(**settings), ValueType(annotation)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotated)


class ValueType(NamedTuple):
    """The annotation that the values of a flag have, beside the type that help shows."""

    annotation: Any


def value_type(parameter: inspect.Parameter) -> Any:
    """The annotation that the values of a flag have."""
    return next(part.annotation for part in typing.get_args(parameter.annotation) if isinstance(part, ValueType))


def cli_type(annotation: Any) -> Any:
    """The type that help shows for an annotation: a switch, a choice, a number or text."""
    if options(annotation) == [bool]:
        return bool
    if is_closed(annotation):
        return Literal[tuple(choices(annotation))]
    kinds = [option for option in options(annotation) if option is not type(None)]
    return kinds[0] if len(kinds) == 1 and kinds[0] in (int, float) else str


def converter(annotation: Any) -> Callable[[Any, Sequence[Token]], Any]:
    """Reads the text of one flag by its annotation."""

    def convert(_: Any, tokens: Sequence[Token]) -> Any:
        return parse(annotation, tokens[-1].value)

    return convert


def command(function: Callable[..., int]) -> Callable[..., int]:
    """A function whose keyword arguments are flags, parsed by their annotations."""
    hints, texts = typing.get_type_hints(function), documented(function.__doc__)
    signature = inspect.signature(function)
    parameters = [
        flag(name, hints[name], parameter.default, texts.get(name, ""))
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        else parameter.replace(annotation=hints[name])
        for name, parameter in signature.parameters.items()
    ]

    @functools.wraps(function)
    def call(*positional: Any, **given: Any) -> int:
        return function(*positional, **given)

    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {}
    return call
