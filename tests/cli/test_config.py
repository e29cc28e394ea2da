"""Short configuration files that somebody wrote, in YAML and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from super_selfish.cli import algorithms, main
from super_selfish.cli.config_file import Arguments
from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import all_supervisors

YAML = """
algorithm: rotnet
data: photos/
resolution: 96x128
crop: [0.4, 1]
backbone: small_resnet
lr: 1e-3            # a string in YAML
precision: 16       # a number in YAML
batch-size: 64
shuffle: no
checkpoint_every: 10min
optimizer: adamw
normalize: imagenet
evaluate: none
"""
WANTED = {
    **{"resolution": (96, 128), "crop": (0.4, 1.0), "backbone": "small_resnet", "lr": 1e-3, "precision": "16"},
    **{"batch_size": 64, "shuffle": False, "checkpoint_every": "10min", "optimizer": "adamw"},
    **{"normalize": "imagenet", "evaluate": None},
}


def merged(path: str, algorithm: str = "rotate_net", **given: Any) -> Arguments:
    return algorithms.merged(all_supervisors()[algorithm], None, {"config": path, **given})


def values(arguments: Arguments) -> dict[str, Any]:
    return {key: (arguments.constructor | arguments.training)[key] for key in WANTED}


def test_yaml_holds_any_arguments() -> None:
    Path("a.yaml").write_text(YAML)
    found = merged("a.yaml")
    assert values(found) == WANTED
    assert found.data == "photos/"
    assert found.explicit >= set(WANTED), "a recipe does not replace what somebody wrote"
    assert set(algorithms.settings(found)) >= {"lr", "batch_size", "optimizer", "precision"}
    assert "epochs" not in algorithms.settings(found)


def test_json_holds_any_arguments() -> None:
    Path("a.json").write_text(json.dumps({"lr": 0.5, "resolution": [96, 128], "crop": None}))
    found = merged("a.json")
    assert (found.training["lr"], found.constructor["resolution"], found.constructor["crop"]) == (0.5, (96, 128), None)
    assert found.data == "dataset"


def test_a_file_of_a_training_can_be_shortened_and_extended() -> None:
    Path("a.config.json").write_text(json.dumps({"training": {"lr": 0.5, "epochs": 3}, "epochs": 4, "flip": 0}))
    found = merged("a.config.json")
    assert (found.training["lr"], found.training["epochs"], found.constructor["flip"]) == (0.5, 4, 0)


def test_every_argument_of_every_algorithm_can_be_written() -> None:
    for name, algorithm in all_supervisors().items():
        flags = [*algorithms.constructor_flags(algorithm), *algorithms.training_flags()]
        content = {flag.name: flag.default for flag in flags if flag.name != "config"}
        Path(f"{name}.json").write_text(json.dumps(content))
        found = merged(f"{name}.json", name)
        assert {**found.constructor, **found.training, "config": None} == {**content, "config": None}


def test_flags_win() -> None:
    Path("a.yaml").write_text("lr: 0.5\nepochs: 3\n")
    found = merged("a.yaml", epochs=7)
    assert (found.training["lr"], found.training["epochs"]) == (0.5, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epohcs: 3", "unknown argument. Received: 'epohcs'. Did you mean 'epochs'?"),
        ("learning_rate: 3", "Did you mean 'lr'?"),
        ("images: photos/", "Did you mean 'data'?"),
        ("lr_scheduler: cosine", "Did you mean 'schedule'?"),
        ("zzz: 3", "unknown argument. Expected: algorithm, data, "),
        ("config: b.yaml", "unknown argument"),
        ("lr: fast", "'lr', expected a number or none, received 'fast'"),
        ("optimizer: adamm", "Did you mean 'adam'?"),
        ("algorithm: moco", "is the configuration of another algorithm. Expected: rotate_net. Received: moco."),
        ("algorithm: mocco", "There is no algorithm 'mocco'"),
        ("lr: [", "is not a configuration file: while parsing"),
        ("- lr", "has no arguments. Expected: arguments by name, such as `epochs: 100`. Received: list."),
        ("", "Received: an empty file."),
        ("training: 3", "has a section that is none"),
    ],
)
def test_mistakes_are_one_line_before_training(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text(text)
    assert main(["train", "rotate_net", "--config", "a.yaml"]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not Path("store").exists()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"b\.yaml.*cannot be read"):
        merged("b.yaml")


@pytest.mark.parametrize("words", [["--config", "a.yaml"], ["--config=a.yaml", "--epochs", "2"]])
def test_the_file_names_the_algorithm(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.yaml").write_text("algorithm: moco\nlr: 0.5\n")
    trained = []
    monkeypatch.setattr(algorithms, "run_training", lambda cls, *_, **_words: trained.append(cls.algorithm()) or 0)
    assert main(["train", *words]) == 0
    assert trained == ["momentum_contrast"]


def test_without_an_algorithm_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text("lr: 0.5\n")
    assert main(["train", "--config", "a.yaml"]) == 2
    assert "The algorithm is missing." in capsys.readouterr().err
