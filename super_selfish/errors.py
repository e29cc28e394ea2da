"""Every error that the library raises on purpose.

Each class also inherits from the builtin that a caller would expect, such as ``ValueError`` or ``OSError``.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


class SuperSelfishError(Exception):
    """Base of all errors: what is wrong, what was expected, what was received, and the fix.

    Args:
        what: One sentence that names the thing that is wrong.
        expected: The values that are allowed.
        received: The value that was passed.
        fix: How to fix it.

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


class UnknownArgument(ConfigurationError, TypeError):
    """A call passes a keyword argument that does not exist."""


class DataError(SuperSelfishError, ValueError):
    """The images cannot be used; the message names the file or the index."""


class UnreadableImage(DataError):
    """One image cannot be decoded: it is damaged, missing, too large, or no image."""


class TooManyBadImages(DataError):
    """More images are unreadable than ``on_error="skip"`` may replace."""


class WorkerKilled(SuperSelfishError, RuntimeError):
    """A data-loading worker was killed, most often for lack of memory."""


class WorkerHung(SuperSelfishError, TimeoutError):
    """A data-loading worker did not respond within the timeout."""


class NonFiniteLoss(SuperSelfishError, ArithmeticError):
    """A loss or a gradient is infinite or not a number; raised before the weights are touched."""


class OutOfMemory(SuperSelfishError, MemoryError):
    """A step does not fit in memory; the message names settings that need less."""


class Preempted(SystemExit):
    """A run was asked to stop and has saved everything; it ends the process with exit status 143."""

    def __init__(self, message: str = "") -> None:
        super().__init__(143)
        self.message = message

    def __str__(self) -> str:
        return self.message


class CheckpointError(SuperSelfishError, OSError):
    """A weights file cannot be written, found or read."""


class CheckpointCorrupt(CheckpointError):
    """A weights file is corrupt: its content does not match its checksum."""


class CheckpointMismatch(CheckpointError):
    """A weights file belongs to another class, other networks or other settings."""


class DatasetChanged(CheckpointMismatch):
    """The images differ from those that the checkpoint was trained on."""


class ProcessLost(SuperSelfishError, RuntimeError):
    """In distributed training, a process has exited or does not respond."""


def is_count(value: object, least: int) -> bool:
    """Whether a value is an integer of at least ``least``; truth values are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, low: float, high: float) -> bool:
    """Whether a value is a number in [low, high]; truth values and what is not finite are none."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value) and low <= value <= high  # type: ignore[arg-type,operator]


SYNONYMS = (
    ("data", "dataset", "images", "folder"),
    ("lr", "learning_rate"),
    ("epochs", "n_epochs", "max_epochs"),
    ("num_workers", "workers", "n_jobs"),
    ("resolution", "image_size", "img_size"),
    ("backbone", "model", "encoder", "arch"),
    ("lr_scheduler", "scheduler", "schedule"),
    ("seed", "random_state", "random_seed"),
    ("polyak", "ema", "ema_decay"),
    ("accumulate", "accumulation_steps", "gradient_accumulation_steps"),
    ("clip_grad", "gradient_clip", "max_grad_norm"),
    ("t", "temperature", "tau"),
    ("m", "momentum"),
    ("32", "fp32", "float32"),
    ("16", "fp16", "float16", "half"),
    ("bf16", "bfloat16"),
)
"""Synonyms of arguments and values: the known word of a group is suggested for the others."""


def did_you_mean(word: object, known: Iterable[object] | Mapping[str, str]) -> str | None:
    """A suggestion for a word that is unknown; None if no known one is similar.

    Args:
        word: The value that was passed; a string or an integer, else nothing is suggested.
        known: The allowed values, or a mapping from words to suggestions.

    Examples:
        >>> did_you_mean("atuo", ("auto", "paper")), did_you_mean("xyz", ("auto", "paper"))
        ("Did you mean 'auto'?", None)
    """
    texts = dict(known) if isinstance(known, Mapping) else {str(value): repr(value) for value in known}
    for group in SYNONYMS:
        meant = next((texts[synonym] for synonym in group if synonym in texts), None)
        texts |= {synonym: meant for synonym in group if meant is not None and synonym not in texts}
    spellings = {_spelling(key): text for key, text in texts.items()}
    similar = difflib.get_close_matches(_spelling(word), spellings, n=1) if isinstance(word, str | int) else []
    return f"Did you mean {spellings[similar[0]]}?" if similar else None


def _spelling(word: object) -> str:
    return str(word).lower().replace("-", "_")


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
    """What an argument may be.

    Attributes:
        is_valid: Whether a value is allowed.
        expected: The allowed values, described.
        fix: How to fix it.
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
    """Refuse arguments that are out of range.

    Args:
        rules: For the arguments, by name.
        values: The arguments, by name.

    Raises:
        ConfigurationError: About the first that is.
    """
    for name, rule in rules.items():
        value = values[name]
        check_argument(rule.is_valid(value), name, value, rule.expected, did_you_mean(value, rule.words) or rule.fix)


def validate_arguments(rules: Mapping[str, Rule]) -> Callable[[Function], Function]:
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
    """Refuse an argument that is out of range.

    Raises:
        ConfigurationError: Unless it is sound.
    """
    if not is_valid:
        raise ConfigurationError(f"`{name}` is out of range.", expected=expected, received=f"{name}={value!r}", fix=fix)
