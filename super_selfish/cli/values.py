"""Text on a command line, and values in a file, as the types that annotations name."""

from __future__ import annotations

import os
import re
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, Union

from super_selfish.suggestions import did_you_mean

NONE = "none"
"""The word for ``None``, also written ``None``."""

_SCALARS = (bool, int, float, str)
_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
_PLURALS = {bool: "truth values", int: "integers", float: "numbers", str: "text values"}
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
_MISSING = object()


def options(annotation: Any) -> list[Any]:
    """The parts of an annotation that text can express; a path is a ``str``.

    Examples:
        >>> options(int | tuple[int, int] | os.PathLike[str] | None)
        [<class 'int'>, tuple[int, int], <class 'str'>, <class 'NoneType'>]
    """
    found: list[Any] = []
    for part in _union(annotation):
        origin = typing.get_origin(part)
        if part in _SCALARS or part is type(None) or origin is Literal:
            found.append(part)
        elif origin is os.PathLike or part is os.PathLike:
            found.append(str)
        elif _is_sequence(part) and all(options(element) for element in _elements(part)):
            found.append(part)
    return [part for index, part in enumerate(found) if part not in found[:index]]


def is_expressible(annotation: Any) -> bool:
    """Whether some value other than ``None`` can be written as text."""
    return any(part is not type(None) for part in options(annotation))


def choices(annotation: Any) -> list[str]:
    """The words of an annotation: literals, truth values that stand beside them, and ``none``."""
    parts = options(annotation)
    found = [str(value).lower() if isinstance(value, bool) else str(value) for value in _literals(parts)]
    found += ["true", "false"] if bool in parts else []
    return found + ([NONE] if type(None) in parts else [])


def is_closed(annotation: Any) -> bool:
    """Whether :func:`choices` lists all values."""
    return all(part in (bool, type(None)) or typing.get_origin(part) is Literal for part in options(annotation))


def parse(annotation: Any, text: str, *, none: bool = True) -> Any:
    """Text as a value of the annotated type.

    Args:
        annotation: Of an argument.
        text: Several values are separated by commas, sizes also by ``x``.
        none: Read ``none`` as ``None`` where the annotation allows it.

    Raises:
        ValueError: If the text is no such value; it states what is.

    Examples:
        >>> parse(int | tuple[int, int], "96x128"), parse(str | None, "32"), parse(Literal["32", "16"], "16")
        ((96, 128), '32', '16')
    """
    parts = options(annotation)
    if none and type(None) in parts and text in (NONE, "None"):
        return None
    for read in (_literal, _scalar, _sequence):
        value = read(parts, text)
        if value is not _MISSING:
            return value
    if str in parts:
        return text
    fix = did_you_mean(text, choices(annotation))
    raise ValueError(f"expected {describe(annotation)}, received {text!r}{f'. {fix}' if fix else ''}")


def from_stored(annotation: Any, value: Any) -> Any:
    """A value of a JSON file as a value of the annotated type.

    Raises:
        ValueError: If it is no such value.
    """
    parts = options(annotation)
    if isinstance(value, str):
        return parse(annotation, value, none=False)
    if value is None and type(None) in parts:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kinds = {bool: isinstance(value, bool), int: number and isinstance(value, int), float: number}
    same = [choice for choice in _literals(parts) if choice == value and type(choice) is type(value)]
    if same or any(kinds.get(part) for part in parts if part in _SCALARS):
        return value
    for part in parts if isinstance(value, list | tuple) else ():
        if _is_sequence(part):
            elements = _elements(part, len(value))
            if len(elements) == len(value):
                return tuple(from_stored(*pair) for pair in zip(elements, value, strict=True))
    raise ValueError(f"expected {describe(annotation)}, received {value!r}")


def to_text(value: Any) -> str:
    """A value as :func:`parse` reads it.

    Examples:
        >>> to_text((0.3, 1.0)), to_text(None), to_text(((0.5,), (0.2,)))
        ('0.3,1.0', 'none', '(0.5),(0.2)')
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        nested = any(isinstance(part, tuple | list) for part in value)
        return ",".join(f"({to_text(part)})" if nested else to_text(part) for part in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def describe(annotation: Any) -> str:
    """The values that an annotation allows, for messages.

    Examples:
        >>> describe(Literal["xray", "grey"] | tuple[Literal["xray", "grey"], ...] | None)
        'xray, grey, several of these separated by commas or none'
        >>> describe(float | tuple[float, float]), describe(tuple[tuple[float, ...], tuple[float, ...]])
        ('a number or 2 numbers separated by commas', '2 lists in parentheses, each numbers separated by commas')
    """
    parts = options(annotation)
    words = [to_text(value) for value in _literals(parts)]
    words += [_NAMES[part] for part in parts if part in _SCALARS]
    for part in parts:
        if _is_sequence(part):
            elements = _elements(part)
            what = _describe_elements(elements[0], _literals(parts))
            some = "several " if what.startswith("of these") else ""
            words.append((some if _is_variadic(part) else f"{len(elements)} ") + what)
    words += [NONE] if type(None) in parts else []
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _describe_elements(element: Any, words: list[Any]) -> str:
    parts = options(element)
    if words and set(_literals(parts)) == set(words):
        return "of these separated by commas"
    if len(parts) == 1 and parts[0] in _PLURALS:
        return f"{_PLURALS[parts[0]]} separated by commas"
    if any(map(_is_sequence, parts)):
        return f"lists in parentheses, each {describe(element)}"
    return f"values separated by commas, each {describe(element)}"


def _union(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return [part for option in typing.get_args(annotation) for part in _union(option)]
    return [annotation]


def _literals(parts: list[Any]) -> list[Any]:
    return [value for part in parts if typing.get_origin(part) is Literal for value in typing.get_args(part)]


def _is_sequence(part: Any) -> bool:
    origin = typing.get_origin(part)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def _is_variadic(part: Any) -> bool:
    return typing.get_origin(part) is not tuple or typing.get_args(part)[-1:] == (Ellipsis,)


def _elements(part: Any, count: int = 1) -> list[Any]:
    """The annotations of a sequence's elements; ``count`` of them where it may have any number."""
    inner = typing.get_args(part)
    return [inner[0]] * count if _is_variadic(part) else list(inner)


def _literal(parts: list[Any], text: str) -> Any:
    same = (value for value in _literals(parts) if text == str(value))
    alike = (value for value in _literals(parts) if isinstance(value, bool) and text.lower() == str(value).lower())
    return next(same, next(alike, _MISSING))


def _scalar(parts: list[Any], text: str) -> Any:
    if bool in parts and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    for kind in (int, float):
        if kind in parts:
            try:
                return kind(text)
            except ValueError:
                continue
    return _MISSING


def _sequence(parts: list[Any], text: str) -> Any:
    parts_of_text = _split(text)
    for part in parts:
        if not _is_sequence(part) or (str in parts and len(parts_of_text) < 2):
            continue
        elements = _elements(part, len(parts_of_text))
        if len(elements) == len(parts_of_text):
            try:
                return tuple(parse(*pair) for pair in zip(elements, parts_of_text, strict=True))
            except ValueError:
                continue
    return _MISSING


def _split(text: str) -> list[str]:
    """The parts of a text between its commas, those within brackets aside."""
    text = text.strip()
    if re.fullmatch(r"\d+(x\d+)+", text):
        return text.split("x")
    if re.fullmatch(r"\([^()]*\)|\[[^\[\]]*\]", text):
        text = text[1:-1]
    found, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    found = [part.strip() for part in found]
    return found[:-1] if len(found) > 1 and not found[-1] else found
