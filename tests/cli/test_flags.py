"""Flags of every command and algorithm: types, choices, and the way to a configuration file and back."""

from __future__ import annotations

import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from cyclopts import Parameter

from super_selfish.cli import algorithms, main
from super_selfish.cli.algorithms import constructor_flags, preview_flags, training_flags
from super_selfish.cli.commands import FUNCTIONS
from super_selfish.cli.config_file import Arguments, read
from super_selfish.cli.flags import command, value_type
from super_selfish.cli.names import algorithm_name, with_flags
from super_selfish.cli.values import choices, describe, from_stored, is_closed, options, parse, to_text
from super_selfish.supervisors import all_supervisors

Flag = inspect.Parameter
COMMANDS: dict[str, Callable[..., Any]] = {function.__name__: function for function in FUNCTIONS} | {
    "preview_all": algorithms.preview_all
}


def flags_of(name: str) -> list[Flag]:
    """All flags of an algorithm's two commands, or of another command."""
    if name in COMMANDS:
        parameters = inspect.signature(command(COMMANDS[name])).parameters.values()
        return [parameter for parameter in parameters if parameter.kind is Flag.KEYWORD_ONLY]
    return [*constructor_flags(all_supervisors()[name]), *training_flags(), *preview_flags()]


@pytest.fixture(params=[*all_supervisors(), *COMMANDS])
def flags(request: pytest.FixtureRequest) -> list[Flag]:
    return flags_of(request.param)


@pytest.fixture(params=all_supervisors())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def examples(annotation: Any) -> Iterator[Any]:
    """Values of each part of an annotation, with strings that look like other types."""
    for part in options(annotation):
        if part is type(None):
            yield None
        elif typing.get_origin(part) is Literal:
            yield from typing.get_args(part)
        elif part in (bool, int, float):
            yield from {bool: (True, False), int: (0, 7), float: (0.5, 1e-12)}[part]
        elif part is str and int not in options(annotation):
            yield from ("32", "2024", "1e3", "True", "store/base")
        elif part is str:
            yield "10min"
        else:
            inner = [each for each in typing.get_args(part) if each is not ...]
            inner = inner * 2 if len(inner) == 1 else inner
            yield tuple(next(examples(each)) for each in inner)


def chosen(flag: Flag, index: int) -> Any:
    """The default of a flag for index 0, else one of its other values."""
    values = [flag.default, *examples(value_type(flag))]
    return values[index % len(values)]


def test_every_default_survives_flag_and_file(flags: list[Flag]) -> None:
    for flag in flags:
        annotation = value_type(flag)
        for value in (flag.default, *examples(annotation)):
            assert parse(annotation, to_text(value)) == value, flag.name
            assert from_stored(annotation, json.loads(json.dumps(value))) == value, flag.name


def test_a_switch_can_be_switched_off(flags: list[Flag]) -> None:
    for flag in flags:
        if value_type(flag) is bool:
            assert flag.annotation.__origin__ is bool, flag.name


def test_a_wrong_word_is_refused(flags: list[Flag]) -> None:
    for flag in flags:
        if "text" not in describe(value_type(flag)) and value_type(flag) is not bool:
            with pytest.raises(ValueError, match="expected"):
                parse(value_type(flag), "no such word")


@pytest.mark.parametrize("words", [["evaluate"], ["predict"], ["train", "rotate_net", "nowhere"]])
def test_flags_without_a_value_when_pydantic_is_imported(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb")
    assert "pydantic" in sys.modules  # wandb imports it
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert "store/base" in shown or "nowhere" in shown
    assert "validation error" not in shown


@pytest.mark.parametrize("index", range(4))
def test_flags_reach_the_command_as_they_were_typed(name: str, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str | None, dict[str, Any]]] = []
    monkeypatch.setattr(
        algorithms, "run_training", lambda _, data, given, **_words: received.append((data, given)) or 0
    )
    values, text = {}, []
    for flag in [*constructor_flags(all_supervisors()[name]), *training_flags()]:
        if flag.name == "processes":  # starts them
            continue
        value = values[flag.name] = chosen(flag, index)
        word = flag.name.lower().replace("_", "-")
        switch = value_type(flag) is bool
        text.append(f"--{'' if value else 'no-'}{word}" if switch else f"--{word}={to_text(value)}")
    assert main(["train", name.replace("_", "-"), "32", *text]) == 0
    assert main(["train", name]) == 0
    assert received == [("32", values), (None, {})]


def test_a_file_restores_every_argument(name: str) -> None:
    own, more = constructor_flags(all_supervisors()[name]), training_flags()
    for index in range(4):
        values = {flag.name: chosen(flag, index) for flag in [*own, *more]}
        content = {
            "algorithm": name,
            "data": "2024",
            "arguments": {flag.name: values[flag.name] for flag in own},
            "training": {flag.name: values[flag.name] for flag in more},
        }
        Path("a.config.json").write_text(json.dumps(content))
        found = read("a.config.json", name, [*own, *more], "dataset")
        assert found.constructor | found.training == values
        assert found.data == "2024"
        assert {flag.name for flag in [*own, *more] if values[flag.name] != flag.default} <= found.explicit


def test_help_lists_every_choice(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["train", name, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for flag in [*constructor_flags(all_supervisors()[name]), *training_flags()]:
        if is_closed(value_type(flag)) and value_type(flag) is not bool:
            assert f"choices: {', '.join(choices(value_type(flag)))}" in shown, flag.name


def merged(*given: tuple[str, Any], data: str | None = None) -> Arguments:
    return algorithms.merged(all_supervisors()["rotate_net"], data, dict(given))


def test_flags_win_over_a_file_also_with_their_defaults() -> None:
    stored = {"lr": 0.01, "epochs": 3, "seed": 5, "resume": True, "shuffle": False, "recipe": "auto"}
    content = {"algorithm": "rotate_net", "data": "photos", "arguments": {"crop": None}, "training": stored}
    Path("a.config.json").write_text(json.dumps(content))
    file = ("config", "a.config.json")
    assert {key: merged(file).training[key] for key in stored} == stored
    assert (merged(file).constructor["crop"], merged(file).data) == (None, "photos")
    defaults = {"lr": 1e-3, "epochs": 10, "seed": 0, "resume": False, "shuffle": True, "recipe": None}
    found = merged(file, *defaults.items(), ("crop", (0.3, 1.0)), data="dataset")
    assert {key: found.training[key] for key in stored} == defaults
    assert (found.constructor["crop"], found.data) == ((0.3, 1.0), "dataset")
    assert algorithms.settings(found)["lr"] == 1e-3
    assert "lr" not in algorithms.settings(merged(("recipe", "auto")))


@pytest.mark.parametrize(
    ("part", "wrong"), [("training", {"lr": "fast"}), ("training", {"lrr": 1}), ("arguments", {"rotations": 3})]
)
def test_wrong_values_in_a_file_are_one_line(
    part: str, wrong: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"algorithm": "rotate_net", "arguments": {}, "training": {}} | {part: wrong}
    Path("a.config.json").write_text(json.dumps(content))
    assert main(["train", "rotate_net", "--config", "a.config.json"]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert next(iter(wrong)) in text


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('Pass `weights`, or use recipe="auto".', "Pass --weights, or use --recipe auto."),
        ("Call supervise(..., resume='auto') or resume=True.", "Call --resume or --resume."),
        ("Received: crop=None, lr=0.", "Received: --crop none, --lr 0."),
        ("Received: crop=(0.3, 1.0). `backbone` stays.", "Received: --crop (0.3, 1.0). `backbone` stays."),
        ("offset=3 is not `lr`", "offset=3 is not --lr"),
        ("more than `lr=10` allows; pass a smaller `lr=`.", "more than --lr 10 allows; pass a smaller --lr."),
        ("Expected: None (each epoch).", "Expected: none (each epoch)."),
        ("Expected: 'timm:<name>', or an nn.Module. Stop.", "Expected: 'timm:<name>'. Stop."),
    ],
)
def test_messages_name_flags(message: str, expected: str) -> None:
    assert with_flags(message, ["weights", "recipe", "resume", "crop", "lr", "set"]) == expected


@pytest.mark.parametrize("name", all_supervisors())
def test_names_of_an_algorithm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(
        algorithms, "run_training", lambda algorithm, *_, **_words: found.append(algorithm.algorithm()) or 0
    )
    cls = all_supervisors()[name]
    spellings = {name, *cls.aliases, cls.__name__, cls.__name__.removesuffix("Supervisor"), name.title()}
    spellings |= {spelling.replace("_", separator) for spelling in spellings for separator in ("-", "", " ")}
    for spelling in spellings:
        assert main(["train", spelling]) == 0
    assert found == [name] * len(spellings)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("moco", "momentum_contrast"),
        ("mocov2", "momentum_contrast"),
        ("MoCo-v2", "momentum_contrast"),
        ("cpc", "contrastive_predictive_coding"),
        ("cpc-v2", "contrastive_predictive_coding"),
        ("bigan", "bi_gan"),
        ("splitbrain", "split_brain_net"),
        ("rotnet", "rotate_net"),
        ("jigsaw", "jigsaw_net"),
        ("instance", "instance_discrimination"),
        ("exemplarcnn", "exemplar_net"),
        ("Byol", "byol"),
    ],
)
def test_short_names(word: str, name: str) -> None:
    assert algorithm_name(word) == name


def test_list_names_class_and_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, algorithm in all_supervisors().items():
        line = next(line for line in lines if line.startswith(f"{name} "))
        assert algorithm.__name__ in line
        assert line[-4:].isdigit()  # the year of the paper


@pytest.mark.parametrize(("words", "shown"), [([], "evaluate"), (["train"], "rotate_net"), (["preview"], "rotate_net")])
def test_commands_alone_show_help(words: list[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert shown in capsys.readouterr().out


def test_cost_is_shown_where_it_was_measured(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    assert all(algorithm.relative_cost is not None for algorithm in all_supervisors().values())
    monkeypatch.setattr(all_supervisors()["rotate_net"], "relative_cost", None)
    assert main(["train", "rotate_net", "--help"]) == 0
    assert "as long as" not in capsys.readouterr().out
    assert main(["train"]) == 0
    assert "rotate_net 2.4" not in " ".join(capsys.readouterr().out.split())


PYTHON = re.compile(
    r"nn\.Module|callable|state_dict|\bNone\b|\bFalse\b|\bTrue\b|supervise|evaluate_pretext|see \w+\.|See "
    r"|averaged=|constructor|\w+=\S"
)


def test_help_has_no_python(flags: list[Flag]) -> None:
    for flag in flags:
        text = next(part.help for part in typing.get_args(flag.annotation) if isinstance(part, Parameter))
        assert text[:1].isupper() or text.startswith(("NAME", '"', "(", "none", "safetensors")), text
        assert not PYTHON.search(re.sub(r"\bn=0", "", text)), text


def test_help_names_flags_of_other_arguments(name: str) -> None:
    known = {flag.name: flag for flag in [*constructor_flags(all_supervisors()[name]), *training_flags()]}
    for flag in known.values():
        text = next(part.help for part in typing.get_args(flag.annotation) if isinstance(part, Parameter))
        assert not {other for other in known if "_" in other and re.search(rf"\b{other}\b", text)}, text


def test_help_of_an_algorithm_is_about_the_command_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", name, "--help"]) == 0
    assert "evaluate_pretext" not in capsys.readouterr().out
