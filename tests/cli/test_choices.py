"""Every choice of every flag: it is accepted, reaches the run, and changes what it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from super_selfish.cli import main
from super_selfish.cli.algorithms import constructor_flags, preview_flags, training_flags
from super_selfish.cli.flags import value_type
from super_selfish.cli.values import choices, parse
from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import all_supervisors

SMALL = ["--resolution", "32", "--backbone", "small_resnet", "--batch-size", "4", "--epochs", "2", "--watch", "0"]
SMALL += ["--device", "cpu", "--quiet", "--name", "store/a"]
CHOICES = [
    (flag.name, word)
    for flag in training_flags()
    if value_type(flag) is not bool
    for word in choices(value_type(flag))
    if word != "none"
]
OWN = [
    (name, flag.name, word)
    for name, algorithm in all_supervisors().items()
    for flag in constructor_flags(algorithm)
    if value_type(flag) is not bool
    for word in choices(value_type(flag))
    if word != "none"
]


@pytest.fixture(autouse=True)
def photos() -> Path:
    folder = Path("photos")
    folder.mkdir()
    for number in range(8):
        image = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def effective(*words: str) -> dict[str, Any]:
    """What a training on the command line was trained with."""
    assert main(["train", "rotate_net", "photos", *SMALL, *words]) == 0
    return dict(json.loads(Path("store/a.config.json").read_text())["effective"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "word"), CHOICES)
def test_choices_of_training(name: str, word: str) -> None:
    more = ["--weights", "store/first"] if word == "adapt" else []
    if more:
        assert main(["train", "rotate_net", "photos", *SMALL[:-1], "store/first"]) == 0
    found = effective(f"--{name.replace('_', '-')}", word, *more)
    shown = {
        "optimizer": {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "lars": "LARS"},
        "schedule": {"constant": "constant_lr", "cosine": "Schedule"},
        "precision": {"fp32": "32", "fp16": "16"}, "recipe": {}, "scheduler_interval": {}
    }.get(name)  # fmt: skip
    if shown is not None:
        setting = found["lr_scheduler" if name == "schedule" else name]
        assert setting.partition("(")[0] == shown.get(word, word)


@pytest.mark.parametrize(("name", "argument", "word"), OWN)
def test_choices_of_algorithms(name: str, argument: str, word: str) -> None:
    algorithm = all_supervisors()[name]
    value = parse(value_type(next(flag for flag in constructor_flags(algorithm) if flag.name == argument)), word)
    given = {"resolution": 32, "backbone": "small_resnet", argument: value}
    if argument == "normalize" and not takes_normalize(name):
        with pytest.raises(ConfigurationError, match="normalize"):
            algorithm("photos", **given)
        return
    supervisor = algorithm("photos", **given)
    assert (supervisor.hyperparameters() | supervisor._setup.given)[argument] == value
    assert supervisor.dataset[0] is not None


def takes_normalize(name: str) -> bool:
    """Whether an algorithm sees RGB; those that see Lab refuse a normalisation."""
    return name not in {"contrastive_multiview_coding", "split_brain_net"}


def test_no_preview_flag_has_choices() -> None:
    assert not [flag.name for flag in preview_flags() if len(choices(value_type(flag))) > 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", all_supervisors())
def test_every_algorithm_trains_and_previews(name: str) -> None:
    assert main(["train", name, "photos", *SMALL, "--schedule", "cosine"]) == 0
    assert main(["preview", name, "photos", "--resolution", "32", "--count", "2"]) == 0


@pytest.mark.parametrize(("words", "lr", "optimizer"), [
    ([], 2e-3 * (4 / 64) ** 0.5, "AdamW"), (["--lr", "0.001"], 1e-3, "AdamW"), (["--optimizer", "adam"], 1e-3, "Adam"),
])  # fmt: skip
def test_flags_win_over_a_recipe(words: list[str], lr: float, optimizer: str) -> None:
    found = effective("--recipe", "auto", *words)
    assert (found["lr"], found["optimizer"].partition("(")[0]) == (pytest.approx(lr), optimizer)
    assert main(["train", "rotate_net", "--config", "store/a.config.json", "--name", "store/b"]) == 0
    assert json.loads(Path("store/b.config.json").read_text())["effective"] == found


def test_arguments_win_over_a_recipe() -> None:
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
    images = np.zeros((4, 32, 32, 3), np.uint8)
    supervisor = all_supervisors()["rotate_net"](images, backbone=network)
    supervisor.supervise(1e-3, recipe="auto", epochs=1, clip_grad=None, verbose=False)
    assert supervisor.settings is not None
    assert supervisor.settings.lr == 1e-3
    assert supervisor.settings.optimizer is not torch.optim.Adam
