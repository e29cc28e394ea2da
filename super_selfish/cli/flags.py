"""Command line flags from the signatures of functions."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter, Token

from super_selfish.cli.names import with_flags
from super_selfish.cli.values import NONE, choices, is_closed, is_expressible, options, parse, to_text

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
}
"""The cost of an argument, where it is not obvious."""

_PYTHON_ONLY = (
    (
        r"an nn\.Module or a name\.",
        "small_resnet, efficientnet-b0, resnet18 or another classifier of torchvision, or timm:NAME.",
    ),
    (r"An nn\.Module or a name, of which", "Name such as resnet18, of which"),
    (r"; or a GroupedBackbone[^.]*", ""),
    (r"weights file, state_dict\(\), network;", "or weights file;"),
    (r"Transform or callable that", "Augmentation that"),
    (r" An attribute [\w-]+ of loss takes precedence\.", ""),
    (r" and augmentation\. Initial weights are drawn by the constructor", ", augmentation and initial weights"),
    (r"the weights of model\b", "the weights of the network"),
    (r"(?<=on the scale \[0, 1\])\.", ', such as "(0.5,0.5,0.5),(0.2,0.2,0.2)".'),
    (r"added to history\b", "added to NAME.history.csv"),
    (r" for get_backbone\(averaged=True\)|, for get_backbone\(averaged=True\)", ""),
    (r"; see skipped\b", ""),
    (r" See [\w.]+\.|, see \w+(?=\.)", ""),
    (r"; transforms of torchvision v2 and albumentations are supported", ""),
    (r" Weights files without this value use False\.", ""),
    (r"\bFalse:", "--no-{flag}:"),
    (r"\blr_scheduler\b", "--schedule"),
    (r"(?<=under) name\b", " --name"),
)
"""What a description says of Python, and what it says on the command line."""

_LEFT_OUT = {"dataset", "callbacks", "optimizer", "lr_scheduler", "verbose", "resume", "evaluate", "self"}


def documented(text: str | None, arguments: Iterable[str] = ()) -> dict[str, str]:
    """The ``Args`` of a docstring by name, each on one line, without markup; ``arguments`` are written as flags."""
    section = re.search(
        r"\n\s*(?:Args|Attributes):\n(.*?)(?:\n\s*\n|\Z)", inspect.cleandoc(text or "") + "\n\n", re.DOTALL
    )
    found = re.findall(
        r"^    (\w+): (.*?)(?=^    \**\w+: |\Z)", (section[1] if section else "") + "\n", re.DOTALL | re.MULTILINE
    )
    known = list(arguments)
    return {
        name: plain_text(re.sub(r"``([^`]+)``", lambda code: with_flags(f"`{code[1]}`", known), description))
        for name, description in found
    }


def plain_text(text: str) -> str:
    """The text of a docstring without markup and without ``=`` behind arguments."""
    text = re.sub(r":\w+:`~?([^`]*)`", lambda role: role[1].rpartition(".")[2], text)
    text = re.sub(r"(\w)=(?=[\s,;:.)]|$)", r"\1", text.replace("`", ""))
    return " ".join(text.split())


def on_command_line(text: str, name: str, default: Any) -> str:
    """The description of an argument in terms of flags: without Python objects, and with words that can be typed.

    Args:
        text: Description in the docstring, without markup.
        name: Name of the argument.
        default: Default value; ``None`` is called the default, not a value.

    Examples:
        >>> on_command_line("Name, weights file, state_dict(), network; or others. None: random.", "weights", None)
        'Name, or weights file; or others. Default: random.'
    """
    for pattern, replacement in _PYTHON_ONLY:
        text = re.sub(pattern, replacement.replace("{flag}", name.replace("_", "-")), text)
    text = re.sub(r"(--[\w-]+) \(([^()]*)\)", lambda value: f"{value[1]} {value[2].replace(', ', ',')}", text)
    text = re.sub(r"(^|[.;] )None:", rf"\1{'Default' if default is None else NONE}:", text)
    text = re.sub(r"; Default:", "; default:", text)
    text = re.sub(r"<(\w+)>", lambda placeholder: placeholder[1].upper(), text)  # help leaves out HTML tags
    return re.sub(r"\bNone\b", NONE, text)


def flags(function: Callable[..., Any], docs: dict[str, str], group: str) -> list[inspect.Parameter]:
    """Keyword flags for the arguments of a function that can be written as text."""
    hints, parameters = typing.get_type_hints(function), inspect.signature(function).parameters
    return [
        flag(name, hints[name], parameters[name].default, docs.get(name, ""), group) for name in flag_names(function)
    ]


def flag_names(function: Callable[..., Any]) -> list[str]:
    """The arguments of a function that :func:`flags` makes flags of."""
    hints = typing.get_type_hints(function)
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in _LEFT_OUT
        and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        and is_expressible(hints.get(name))
    ]


def flag(name: str, annotation: Any, default: Any, description: str, group: str | None = None) -> inspect.Parameter:
    """A keyword flag, parsed by its annotation, with its help and cost."""
    texts = [on_command_line(description, name, default), COSTS.get(name, "")]
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

    def __get_pydantic_core_schema__(self, _: Any, handler: Callable[[Any], Any]) -> Any:
        """Accept any value: if pydantic is imported, cyclopts checks parsed values by the type that help shows."""
        return handler(Any)


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


def shared_flags(group: type[Any]) -> list[inspect.Parameter]:
    """The flags of a group: the fields of a data class, described by its docstring and those of its bases."""
    hints, texts = typing.get_type_hints(group), dict[str, str]()
    for part in reversed(group.__mro__):
        texts |= documented(part.__doc__)
    return [
        flag(field.name, hints[field.name], field.default, texts[field.name]) for field in dataclasses.fields(group)
    ]


def command_flags(function: Callable[..., int]) -> list[inspect.Parameter]:
    """The keyword arguments of a command as flags, parsed by their annotations; groups stand for their flags."""
    hints, texts = typing.get_type_hints(function), documented(function.__doc__)
    found: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(hints[name]):
            found += shared_flags(hints[name])
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            found.append(flag(name, hints[name], parameter.default, texts.get(name, "")))
    return found


def command(function: Callable[..., int]) -> Callable[..., int]:
    """A function whose keyword arguments are flags. Flags of a group are passed to it as one object."""
    hints, signature = typing.get_type_hints(function), inspect.signature(function)
    groups = {name: hints[name] for name in signature.parameters if dataclasses.is_dataclass(hints[name])}
    parameters = [
        parameter.replace(annotation=hints[name])
        for name, parameter in signature.parameters.items()
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    parameters += command_flags(function)

    @functools.wraps(function)
    def call(*positional: Any, **given: Any) -> int:
        for name, group in groups.items():
            fields = {field.name for field in dataclasses.fields(group)} & set(given)
            given[name] = group(**{field: given.pop(field) for field in fields})
        return function(*positional, **given)

    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {}
    return call
