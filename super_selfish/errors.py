"""Exceptions of the library.

Each class also inherits from the closest builtin exception, so ``except ValueError`` and ``except OSError`` catch them.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from super_selfish.suggestions import did_you_mean

Function = TypeVar("Function", bound=Callable[..., Any])


class SuperSelfishError(Exception):
    """Base class of all exceptions of the library.

    The message states the problem, the expected and the received value, and how to fix it.

    Args:
        what: The problem, in one sentence that names the argument, file or object.
        expected: Valid values.
        received: The received value.
        fix: How to fix the problem, in one or more sentences.

    Examples:
        >>> str(ConfigurationError("`t` must be positive.", received="t=0.0", fix="The paper uses 0.07."))
        '`t` must be positive. Received: t=0.0. The paper uses 0.07.'
    """

    def __init__(
        self, what: str = "", *, expected: str | None = None, received: str | None = None, fix: str | None = None
    ) -> None:
        parts = [what]
        if expected is not None:
            parts.append(f"Expected: {expected}.")
        if received is not None:
            parts.append(f"Received: {received}.")
        if fix is not None:
            parts.append(fix)
        super().__init__(" ".join(parts))


class ConfigurationError(SuperSelfishError, ValueError):
    """A setting, a network or an argument is invalid. Raised before training."""


class UnknownArgument(ConfigurationError, TypeError):
    """A call passes a keyword argument that does not exist."""


class DataError(SuperSelfishError, ValueError):
    """The images or labels are invalid. The message names the file or the index."""


class UnreadableImage(DataError):
    """An image cannot be decoded: the file is damaged, missing, too large or not an image."""


def unreadable(reason: str) -> UnreadableImage:
    """The error for an image that was not to be skipped.

    Args:
        reason: Message of the error that was raised when it was read.

    Examples:
        >>> str(unreadable("`a.png` is empty."))
        '`a.png` is empty. Repair or remove it, or pass on_error="skip" to skip such images.'
    """
    fix = None if "on_error" in reason else 'Repair or remove it, or pass on_error="skip" to skip such images.'
    return UnreadableImage(reason, fix=fix)


class TooManyBadImages(DataError):
    """With ``on_error="skip"``, more images were unreadable than may be replaced."""


class WorkerKilled(SuperSelfishError, RuntimeError):
    """A data-loading worker was killed, in most cases because memory was exhausted."""


class WorkerHung(SuperSelfishError, TimeoutError):
    """A data-loading worker did not respond within the timeout."""


class NonFiniteLoss(SuperSelfishError, ArithmeticError):
    """A loss or a gradient is infinite or NaN. Raised before the weights are updated."""


class OutOfMemory(SuperSelfishError, MemoryError):
    """A step needs more memory than is available. The message suggests settings that need less."""


class Preempted(SystemExit):
    """A run was stopped by a signal and saved its progress. Terminates the process with exit status 143."""

    def __init__(self, message: str = "") -> None:
        super().__init__(143)
        self.message = message

    def __str__(self) -> str:
        return self.message


class CheckpointError(SuperSelfishError, OSError):
    """A weights file or checkpoint cannot be written, found or read."""


class CheckpointCorrupt(CheckpointError):
    """A weights file or checkpoint is damaged: its content does not match its checksum."""


class CheckpointMismatch(CheckpointError):
    """A weights file or checkpoint is valid, but belongs to another class, other networks or other settings."""


class DatasetChanged(CheckpointMismatch):
    """The images differ from those that the checkpoint was trained on."""


class ProcessLost(SuperSelfishError, RuntimeError):
    """In distributed training, another process terminated or does not respond."""


def is_count(value: object, least: int) -> bool:
    """Whether a value is an integer of at least ``least``. Booleans are not integers here."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, low: float, high: float) -> bool:
    """Whether a value is a finite number in [low, high]. Booleans are not numbers here."""
    is_numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return is_numeric and math.isfinite(value) and low <= value <= high  # type: ignore[arg-type,operator]


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Refuse a value that is not in a closed set, and suggest a similar one. 1 is not True.

    Raises:
        ConfigurationError: If it is none of them.
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ConfigurationError(
            f"`{name}` is unknown.",
            expected=" or ".join(map(repr, choices)),
            received=f"{name}={value!r}",
            fix=did_you_mean(value, tuple(choices)),
        )


def validate_keywords(allowed: Iterable[str] | None = None) -> Callable[[Function], Function]:
    """Decorate a function so that an unknown keyword argument raises an error with a suggestion.

    Args:
        allowed: Names of all arguments; None: those of the signature.

    Examples:
        >>> @validate_keywords()
        ... def crop(size=32): ...
        >>> crop(sise=3)
        Traceback (most recent call last):
        ...
        super_selfish.errors.UnknownArgument: `crop` has no argument `sise`. Expected: size. ... Did you mean 'size'?
    """

    def decorate(function: Function) -> Function:
        names = list(inspect.signature(function).parameters if allowed is None else allowed)
        subject = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

        @functools.wraps(function)
        def validated(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in names:
                    raise UnknownArgument(
                        f"`{subject}` has no argument `{name}`.",
                        expected=", ".join(known for known in names if known != "self"),
                        received=f"{name}={kwargs[name]!r}",
                        fix=did_you_mean(name, names),
                    )
            return function(*args, **kwargs)

        return cast(Function, validated)

    return decorate


class Rule(NamedTuple):
    """Valid values of an argument.

    Attributes:
        is_valid: Function that returns whether a value is valid.
        expected: Description of valid values, for error messages.
        fix: How to fix an invalid value, for error messages.
        words: Allowed strings, for suggestions.
    """

    is_valid: Callable[[Any], bool]
    expected: str
    fix: str | None = None
    words: tuple[object, ...] = ()


COUNT = Rule(lambda value: is_count(value, 1), "an integer of at least 1")
PROBABILITY = Rule(lambda value: is_number(value, 0, 1), "a number in [0, 1]")
SWITCH = Rule(lambda value: isinstance(value, bool), "True or False")


def one_of(*choices: object, expected: str | None = None) -> Rule:
    """The rule for a value of a closed set, which ``expected`` describes in words."""
    return Rule(lambda value: value in choices, expected or " or ".join(map(repr, choices)), words=choices)


def check_arguments(rules: Mapping[str, Rule], values: Mapping[str, object]) -> None:
    """Check arguments against rules.

    Args:
        rules: Rules by name of the argument.
        values: Values by name of the argument.

    Raises:
        ConfigurationError: If an argument is invalid; the message names the first.
    """
    for name, rule in rules.items():
        value = values[name]
        if not rule.is_valid(value):
            check_argument(False, name, value, rule.expected, did_you_mean(value, rule.words) or rule.fix)


def validate_arguments(rules: Mapping[str, Rule]) -> Callable[[Function], Function]:
    """Decorate a constructor so that its arguments are checked before it runs.

    Args:
        rules: Rules by name of the argument.

    Examples:
        >>> class Images:
        ...     @validate_arguments({"count": COUNT})
        ...     def __init__(self, count=1):
        ...         self.count = count
        >>> Images(count=0)
        Traceback (most recent call last):
        ...
        super_selfish.errors.ConfigurationError: `count` is out of range. Expected: ... Received: count=0.
    """

    def decorate(constructor: Function) -> Function:
        signature = inspect.signature(constructor)

        @functools.wraps(constructor)
        def validated(*args: Any, **kwargs: Any) -> None:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            check_arguments(rules, bound.arguments)
            constructor(*args, **kwargs)

        takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
        return cast(Function, validated if takes_all else validate_keywords()(validated))

    return decorate


def check_argument(is_valid: bool, name: str, value: object, expected: str, fix: str | None = None) -> None:
    """Raise an error for an invalid argument.

    Args:
        is_valid: Whether the value is valid.
        name: Name of the argument.
        value: The received value.
        expected: Description of valid values.
        fix: How to fix an invalid value.

    Raises:
        ConfigurationError: If the value is invalid.
    """
    if not is_valid:
        raise ConfigurationError(f"`{name}` is out of range.", expected=expected, received=f"{name}={value!r}", fix=fix)
