"""Every error that the library raises on purpose.

Each class also inherits from the builtin that a caller would expect, so ``except ValueError`` or ``except OSError``
written for another library keeps working.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

Constructor = TypeVar("Constructor", bound=Callable[..., None])


class SuperSelfishError(Exception):
    """Base of all errors of the library: what went wrong, what was expected, what came, and the way out.

    Args:
        what: One sentence that names the thing that is wrong.
        expected: What would have been right.
        received: What came instead.
        fix: What to do about it.

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
    """A setting, a network or an argument cannot work; raised before any training."""


class DataError(SuperSelfishError, ValueError):
    """The images cannot be used; the message names the file or the index."""


class UnreadableImage(DataError):
    """One image cannot be decoded: it is damaged, missing, too large, or no image."""


class TooManyBadImages(DataError):
    """``on_error="skip"`` met more unreadable images than it may replace."""


class WorkerKilled(SuperSelfishError, RuntimeError):
    """A process that reads images was ended by somebody else: for want of memory, most often."""


class WorkerHung(SuperSelfishError, TimeoutError):
    """A process that reads images has not answered for too long."""


class NonFiniteLoss(SuperSelfishError, ArithmeticError):
    """A loss or a gradient is infinite or not a number; raised before the weights are touched."""


class OutOfMemory(SuperSelfishError, MemoryError):
    """A step needs more memory than there is; the message says what takes less."""


class Preempted(SystemExit):
    """A run was asked to stop and has saved everything; it ends the process with exit status 143."""

    def __init__(self, message: str = "") -> None:
        super().__init__(143)
        self.message = message

    def __str__(self) -> str:
        return self.message


class CheckpointError(SuperSelfishError, OSError):
    """A file of weights cannot be written, found or read."""


class CheckpointCorrupt(CheckpointError):
    """A file of weights is damaged: its content does not match its own checksum."""


class CheckpointMismatch(CheckpointError):
    """A file of weights is whole but belongs to another class, other networks or other settings."""


class DatasetChanged(CheckpointMismatch):
    """The images are other ones than those that the checkpoint was trained on."""


class ProcessLost(SuperSelfishError, RuntimeError):
    """Of several processes that train together, one is gone or does not answer."""


def is_count(value: object, least: int) -> bool:
    """Whether a value is an integer of at least ``least``; truth values are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, low: float, high: float) -> bool:
    """Whether a value is a number in [low, high]; truth values and what is not finite are none."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value) and low <= value <= high  # type: ignore[arg-type,operator]


class Rule(NamedTuple):
    """What an argument may be.

    Attributes:
        is_valid: Tells whether a value is.
        expected: What it may be, in words.
        fix: The way out.
    """

    is_valid: Callable[[Any], bool]
    expected: str
    fix: str | None = None


COUNT = Rule(lambda value: is_count(value, 1), "an integer of at least 1")
PROBABILITY = Rule(lambda value: is_number(value, 0, 1), "a number in [0, 1]")
SWITCH = Rule(lambda value: isinstance(value, bool), "True or False")


def check_arguments(rules: Mapping[str, Rule], values: Mapping[str, object]) -> None:
    """Refuse arguments that are out of range.

    Args:
        rules: For the arguments, by name.
        values: The arguments, by name.

    Raises:
        ConfigurationError: About the first that is.
    """
    for name, rule in rules.items():
        check_argument(rule.is_valid(values[name]), name, values[name], rule.expected, rule.fix)


def validate_arguments(rules: Mapping[str, Rule]) -> Callable[[Constructor], Constructor]:
    """Decorate a constructor so that its arguments are checked before it runs.

    Args:
        rules: For the arguments, by name.

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

    def decorate(constructor: Constructor) -> Constructor:
        signature = inspect.signature(constructor)

        @functools.wraps(constructor)
        def validated(*args: Any, **kwargs: Any) -> None:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            check_arguments(rules, bound.arguments)
            constructor(*args, **kwargs)

        return cast(Constructor, validated)

    return decorate


def check_argument(is_valid: bool, name: str, value: object, expected: str, fix: str | None = None) -> None:
    """Refuse an argument that is out of range.

    Raises:
        ConfigurationError: Unless it is sound.
    """
    if not is_valid:
        raise ConfigurationError(f"`{name}` is out of range.", expected=expected, received=f"{name}={value!r}", fix=fix)
