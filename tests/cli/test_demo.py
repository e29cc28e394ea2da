"""The command: the demo from end to end, and what a user's mistake looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import super_selfish
from super_selfish import files
from super_selfish.cli import main
from super_selfish.cli.demo import photographs, scattered, tiny_net
from super_selfish.errors import DataError
from super_selfish.seeding import KeyedGenerator


def test_the_demo_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, threads = tmp_path / "out", torch.get_num_threads()
    assert main(["demo", "--smoke", "--folder", str(folder)]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    for row in ("raw pixels", "untrained network", "trained network"):
        (line,) = [line for line in lines if line.strip().startswith(row)]
        assert line.count("±") == 2
        assert line.count("%") == 3
    assert max(map(len, lines)) <= 120
    assert "chance level: 25 %" in said
    assert 'RotateNetSupervisor("photos/", backbone="resnet18").supervise(' in said
    written = {file.name for file in folder.iterdir()} - {files.FIGURES}
    pictures = {"pretext.png", "loss.png", "neighbours.png", "map.png"}
    assert written == pictures | {"rotate_net.safetensors", "rotate_net.json", "rotate_net.history.csv"}
    for name in written:
        assert name in said or name == "rotate_net.json"
    for name in pictures:
        picture = Image.open(folder / name)
        picture.load()
        assert min(picture.size) > 600
    assert len(super_selfish.load(folder / "rotate_net", backbone=tiny_net()).history) == 1
    assert torch.get_num_threads() == threads


def test_the_images_are_the_same_every_time_and_the_parts_are_disjoint() -> None:
    train, test = scattered(2, digits=90)
    assert train.images.shape == (120, 32, 32, 3)
    assert test.images.shape == (30, 32, 32, 3)
    again, _ = scattered(2, digits=90)
    assert np.array_equal(train.images, again.images)
    assert train.labels[:60].tolist() == train.labels[60:].tolist()  # each digit twice ...
    assert not np.array_equal(train.images[:60], train.images[60:])  # ... in different places
    order, digits = KeyedGenerator("demo digits").permutation(90), load_digits().target
    assert train.labels[:60].tolist() == digits[order[:60]].tolist()
    assert test.labels.tolist() == digits[order[60:]].tolist()  # the others
    for_training, for_testing = photographs()
    seen = {photo.tobytes() for photo in for_training}
    assert not seen & {photo.tobytes() for photo in for_testing}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["demo", "--epochz"], "--epochz"),
        (["demo", "--seconds", "soon"], "soon"),
        (["demo", "--seconds", "-1"], "positive"),
        (["demo", "--seconds", "nan"], "positive"),
        (["demo", "--folder", "file/below"], "file/below"),
        (["dema"], "dema"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    try:
        status = main(words)
    except SystemExit as stop:
        status = int(stop.code or 0)
    complaint = capsys.readouterr()
    assert status == 2
    assert complaint.out == ""
    assert complaint.err.count("\n") == 1
    assert says in complaint.err


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (DataError("two\nlines"), 2)])
def test_what_stops_the_demo_is_one_line(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("super_selfish.cli.demo.demo", stop)
    assert main(["demo"]) == status
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("word", "says"), [("--version", super_selfish.__version__), ("--help", "demo")])
def test_what_it_says_of_itself(word: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    assert says in capsys.readouterr().out
