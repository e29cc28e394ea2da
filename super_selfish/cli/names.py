"""Names of algorithms on the command line, and names of arguments in messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from super_selfish.errors import ConfigurationError
from super_selfish.suggestions import did_you_mean

_VALUE = r"""(?:"[^"]*"|'[^']*'|\([^)]*\)|\[[^\]]*\]|[^\s,;)"'([`]*[^\s,;)"'([.`])"""
NOT_INCLUDED = {
    **dict.fromkeys(("simclr", "simclrv2"), "momentum_contrast"),
    **dict.fromkeys(("mae", "maskedautoencoder", "beit", "simmim", "ijepa"), "context_net"),
    **dict.fromkeys(("dino", "dinov2", "simsiam", "swav", "barlowtwins", "barlow", "vicreg"), "byol"),
    "deepcluster": "instance_discrimination",
}
"""Well-known algorithms that are not included, without separators, and the most similar one that is."""
NETWORKS = r"(small|wide)?resne(t|xt)|vit|efficientnet|mobilenet|convnext|densenet|regnet|swin|vgg|alexnet|timm"
"""Regular expression for the beginning of names of networks, which are no algorithms."""
AUGMENTATIONS = {"views", "transformations"}
"""Arguments that select the augmentation."""
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
    known = {_joined(spelling): name for spelling, name in algorithm_names().items()}
    wanted = _joined(word).removesuffix("supervisor")
    if wanted in known:
        return known[wanted]
    raise ConfigurationError(f"There is no algorithm {word!r}.", fix=_instead_of(word, wanted))


def _instead_of(word: str, wanted: str) -> str:
    """What to name in place of a word that is no algorithm."""
    if Path(word).is_dir():
        return "Name the algorithm before the folder."
    if wanted in NOT_INCLUDED:
        return (
            f"It is not included; {NOT_INCLUDED[wanted]} is the most similar algorithm that is. To add an algorithm, "
            "see docs/adding_an_algorithm.md, whose example is SimCLR."
        )
    if re.match(NETWORKS, wanted):
        return "That is a network: name an algorithm, such as rotate_net, and pass the network as --backbone."
    return did_you_mean(word, algorithm_names()) or "super-selfish list shows all algorithms."


def algorithm_names() -> dict[str, str]:
    """The names of all algorithms by themselves and by their aliases, read from the files, without importing torch."""
    found: dict[str, str] = {}
    for file in sorted(Path(__file__).parents[1].joinpath("supervisors").glob("[!_]*.py")):
        aliases = re.search(r"^    aliases = (\([^)]*\))", file.read_text("utf-8"), re.MULTILINE)
        found |= dict.fromkeys((*(ast.literal_eval(aliases[1]) if aliases else ()), file.stem), file.stem)
    return found


def _joined(word: str) -> str:
    return re.sub(r"[-_ ]", "", word.lower())


def flag_argument(word: str) -> str:
    """The argument of a flag as typed.

    Examples:
        >>> flag_argument("--batch-size=3")
        'batch_size'
    """
    return word.lstrip("-").partition("=")[0].replace("-", "_")


def unknown_flag(word: str, arguments: Iterable[str], takes_data: bool, of_others: str | None = None) -> str:
    """The error message for a flag that the command does not have.

    Args:
        word: The flag as typed.
        arguments: The arguments that are flags of the command.
        takes_data: Whether the images are a positional argument of the command.
        of_others: Which algorithms have the flag; None: none has.

    Examples:
        >>> unknown_flag("--epohcs", ["epochs"], takes_data=True)
        'Unknown option: --epohcs. Did you mean --epochs?'
        >>> unknown_flag("--images", ["epochs"], takes_data=True)
        'Unknown option: --images. Pass the folder of images without a flag, as the positional argument DATA.'
    """
    from cyclopts import default_name_transform

    name = flag_argument(word)
    known = {argument: f"--{default_name_transform(argument)}" for argument in arguments}
    if takes_data and name in DATA_FLAGS:
        fix: str | None = "Pass the folder of images without a flag, as the positional argument DATA."
    else:
        fix = of_others or did_you_mean(name.removeprefix("no_"), known)
    return " ".join(part for part in (f"Unknown option: {word}.", fix) if part)


def flag_of_others(name: str, algorithm: str, options: Mapping[str, Collection[str]]) -> str | None:
    """Which algorithms have an option that an algorithm lacks, and what this one has instead; None: none has it.

    Args:
        name: The option.
        algorithm: The algorithm that lacks it.
        options: The options of all algorithms.

    Examples:
        >>> flag_of_others("transformations", "byol", {"byol": ["views"], "exemplar_net": ["transformations"]})
        '--transformations is an option of exemplar_net. byol has --views instead.'
    """
    from cyclopts import default_name_transform

    others = [each for each, names in options.items() if name in names]
    if not others or algorithm not in options:
        return None
    text = f"--{default_name_transform(name)} is an option of {', '.join(others)}."
    if name not in AUGMENTATIONS:
        return text
    own = sorted(AUGMENTATIONS & {*options[algorithm]})
    return f"{text} {algorithm} has {f'--{own[0]} instead' if own else 'no option for augmentation'}."


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
    message = message.replace(", or use super_selfish.load(name), which finds the right class", "")
    return message.replace(", or an nn.Module", "")


def _unquoted(value: str) -> str:
    quoted = re.fullmatch(r"""(["'])(\S+)\1""", value)
    return value if quoted is None else quoted[2]
