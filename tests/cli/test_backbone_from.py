"""``--backbone-from module:function``: a custom backbone is trained, evaluated and exported from the shell."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from super_selfish import load
from super_selfish.cli import main
from super_selfish.cli.backbone_from import built, with_backbone
from super_selfish.errors import ConfigurationError
from super_selfish.models import CombinedNet
from super_selfish.supervisors import LabelSupervisor

NETWORKS = """
from torch import nn


class Small(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def small():
    return Small()


def fails():
    raise RuntimeError("no weights")


def number():
    return 3


SIZE = 3
"""
SMALL = [
    "--resolution",
    "32",
    "--batch-size",
    "4",
    "--epochs",
    "1",
    "--device",
    "cpu",
    "--quiet",
    "--name",
    "store/own",
]
OWN = ["--backbone-from", "shell_networks:small"]


@pytest.fixture(autouse=True)
def _networks() -> Iterator[None]:
    Path("shell_networks.py").write_text(NETWORKS)
    paths = list(sys.path)
    yield
    sys.path[:] = paths
    sys.modules.pop("shell_networks", None)


@pytest.fixture
def photos() -> str:
    for number in range(8):
        folder = Path("photos", "ab"[number % 2])
        folder.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
    return "photos"


def test_train_and_export(photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "rotate_net", photos, *SMALL, *OWN]) == 0
    assert main(["export", "store/own"]) == 2
    shown = capsys.readouterr().err
    assert "custom backbone" in shown
    assert "Pass it: --backbone-from module:function." in shown
    assert main(["export", "store/own", *OWN]) == 0
    trained = load("store/own", backbone=built("shell_networks:small")).get_backbone().state_dict()
    assert torch.equal(load_file("store/own_backbone.safetensors")["0.weight"], trained["0.weight"])


@pytest.mark.slow
def test_evaluate_report_and_preview(photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "rotate_net", photos, *SMALL, *OWN]) == 0
    assert main(["evaluate", "store/own", photos, "--seeds", "1", *OWN]) == 0
    assert "of 32" in capsys.readouterr().out
    assert main(["report", "store/own", photos, "--images", "4", *OWN]) == 0
    assert main(["preview", "rotate_net", photos, "--trained", "store/own", "--resolution", "32", *OWN]) == 0


def test_extract_and_predict(photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "rotate_net", photos, *SMALL, *OWN]) == 0
    assert main(["extract", "store/own", photos, *OWN]) == 0
    trained = load("store/own", backbone=built("shell_networks:small"))
    assert np.allclose(np.load("store/own.features.npy"), trained.extract(photos)[0], atol=1e-5)
    classifier = LabelSupervisor(CombinedNet(trained.get_backbone(), nn.Linear(32, 2)), photos)
    classifier.supervise(epochs=1, batch_size=4, name="store/head", verbose=False)
    assert main(["predict", "store/head", photos]) == 2
    assert "Pass it: --backbone-from module:function." in capsys.readouterr().err
    assert main(["predict", "store/head", photos, "--batch-size", "3", *OWN]) == 0
    rows = list(csv.DictReader(Path("store/head.predictions.csv").read_text().splitlines()))
    expected = classifier.predict(photos)
    assert [row["predicted"] for row in rows] == expected.labels
    assert [float(row["p_a"]) for row in rows] == pytest.approx(expected.probabilities[:, 0], abs=1e-5)


def test_a_class_and_a_module_in_a_folder() -> None:
    assert type(built("shell_networks:Small")).__name__ == "Small"
    Path("folder").mkdir()
    Path("folder/shell_inner.py").write_text(NETWORKS)
    assert type(built("folder.shell_inner:small")).__name__ == "Small"
    assert with_backbone(None, {"backbone": "resnet18"}) == {"backbone": "resnet18"}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("shell_networks", "invalid. Expected: MODULE:FUNCTION"),
        ("shell_networks.py:small", "Leave out .py"),
        ("no_such_module:small", "cannot be imported: ModuleNotFoundError"),
        ("shell_networks:smal", "no function 'smal'"),
        ("shell_networks:smal", "Did you mean shell_networks:small?"),
        ("shell_networks:SIZE", "no function 'SIZE'"),
        ("shell_networks:fails", "failed: RuntimeError: no weights"),
        ("shell_networks:number", "returned no network. Expected: an nn.Module. Received: 3"),
    ],
)
def test_mistakes_are_one_line(place: str, message: str, photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "rotate_net", photos, *SMALL, "--backbone-from", place]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not list(Path("store").glob("*.safetensors"))


def test_two_backbones_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two backbones"):
        with_backbone("shell_networks:small", {"backbone": "resnet18"})
