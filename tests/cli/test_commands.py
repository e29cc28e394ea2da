"""The command line from check to verify, without a line of Python."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import models

from super_selfish import load, supervisors
from super_selfish.cli import main
from super_selfish.cli.flags import documented
from super_selfish.cli.names import algorithm_names
from super_selfish.cli.scores import gain
from super_selfish.data import open_source
from super_selfish.engine.callbacks.displays import rewrite
from super_selfish.evaluation import split
from super_selfish.supervisors import all_supervisors

TRAIN = ["--resolution", "32", "--backbone", "small_resnet", "--batch-size", "8", "--epochs", "1", "--device", "cpu"]


@pytest.fixture
def photos() -> Path:
    """Sixteen images in two folders."""
    for number in range(16):
        place = Path("photos", "ab"[number % 2])
        place.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(image).save(place / f"{number}.png")
    return Path("photos")


def test_from_check_to_verify(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(photos)]) == 0
    more = ["--recipe", "auto", "--watch", "8", "--name", "store/a", "--rotations", "0,180"]
    assert main(["train", "rotate_net", str(photos), *TRAIN, *more]) == 0
    config = json.loads(Path("store/a.config.json").read_text())
    assert (config["algorithm"], config["training"]["recipe"]) == ("rotate_net", "auto")
    assert config["effective"]["optimizer"].startswith("AdamW(")
    assert (config["effective"]["processes"], config["effective"]["resolution"]) == (1, [32, 32])
    assert config["arguments"]["rotations"] == [0, 180]
    assert main(["evaluate", "store/a", str(photos), "--seeds", "2"]) == 0
    scores = json.loads(Path("store/a.scores.json").read_text())
    assert set(scores["scores"]) == {"trained", "untrained", "pixels"}
    for verdict in scores["verdicts"]:
        assert "the trained features are" in verdict["text"]
        assert "95 % interval" in verdict["text"]
    assert main(["report", "store/a"]) == 0
    page = Path("store/a.html").read_text()
    assert "<svg" in page
    assert "linear probe accuracy" in page
    assert all(verdict["text"] in page for verdict in scores["verdicts"])
    assert main(["extract", "store/a", str(photos), "--batch-size", "3", "--device", "cpu"]) == 0
    features = np.load("store/a.features.npy")
    assert np.allclose(features, load("store/a").extract("photos")[0], atol=1e-5)
    listed = open_source("store/a.features.csv")
    assert (len(listed), listed.class_names) == (len(features), ("a", "b"))
    assert main(["export", "store/a"]) == 0
    assert Path("store/a_backbone.safetensors").is_file()
    assert main(["verify", "store/a"]) == 0
    assert main(["predict", "store/a", str(photos)]) == 2
    said = capsys.readouterr().out
    assert "16 images" in said
    assert "linear probe accuracy" in said
    assert "\nkNN: k=" in said
    assert "untrained" in said
    assert "valid" in said
    assert len(re.findall(r"By the linear probe on \d+ images, the trained features are ", said)) == 1


def test_every_command_takes_a_list(photos: Path) -> None:
    assert main(["check", str(photos), "--write", "keep.csv"]) == 0
    lines = Path("keep.csv").read_text().splitlines()
    Path("keep.csv").write_text("\n".join(lines[:13]))
    assert main(["train", "rotate_net", "keep.csv", *TRAIN, "--quiet", "--name", "store/a"]) == 0
    assert load("store/a").train_state.samples == 8
    assert main(["preview", "rotate_net", "keep.csv", "--count", "2", "--resolution", "32"]) == 0
    assert main(["evaluate", "store/a", "keep.csv", "--seeds", "1"]) == 0
    assert json.loads(Path("store/a.scores.json").read_text())["data"] == "keep.csv"
    assert main(["report", "store/a", "keep.csv"]) == 0
    assert "map of the features" in Path("store/a.html").read_text().lower()
    assert main(["extract", "store/a", "keep.csv", "--output", "features.npy", "--device", "cpu"]) == 0
    assert len(np.load("features.npy")) == 12


@pytest.mark.skipif(sys.platform == "win32", reason="names that are not UTF-8")
def test_file_names_of_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / os.fsdecode(b"ph\xf6tos")
    for number in range(16):
        place = photos / os.fsdecode((b"caf\xe9", b"a\nb")[number % 2])
        place.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(image).save(place / os.fsdecode(b"\xff%d.png" % number))
    shutil.copy(place / os.fsdecode(b"\xff15.png"), photos / os.fsdecode(b"a\nb") / os.fsdecode(b"\xfe.png"))
    (place / os.fsdecode(b"x.\xff")).touch()
    written = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", written)
    assert main(["check", str(photos)]) == 0
    more = ["--name", "store/a", "--watch", "8", "--cache", "resized", "--on-error", "skip"]
    monkeypatch.setenv("SUPER_SELFISH_CACHE", str(tmp_path / "cache"))
    (photos / os.fsdecode(b"a\nb") / os.fsdecode(b"bad\xff.png")).write_bytes(b"x")
    assert main(["train", "rotate_net", str(photos), *TRAIN, *more]) == 0
    assert main(["train", "rotate_net", str(photos), *TRAIN[:-4], "--epochs", "2", *more, "--resume"]) == 0
    assert main(["evaluate", "store/a", str(photos), "--seeds", "1"]) == 0
    assert main(["report", "store/a"]) == 0
    assert main(["verify", "store/a"]) == 0
    assert main(["check", str(photos), "--write", "keep.csv"]) == 1
    assert main(["extract", "store/a", "keep.csv", "--device", "cpu"]) == 0
    assert len(np.load("store/a.features.npy")) == 16
    written.flush()
    assert "\\udcfe.png" in written.buffer.getvalue().decode("utf-8")
    assert Path("store/a.history.csv").read_text("utf-8").count("\n") == 3
    assert "\\udcff" in Path("store/a.html").read_text("utf-8")


def test_names_of_trainings_are_utf_8(photos: Path) -> None:
    assert main(["train", "rotate_net", str(photos), *TRAIN, "--name", os.fsdecode(b"store/\xff")]) == 2
    assert not Path("store").exists()


def test_a_config_stands_for_flags(photos: Path) -> None:
    assert main(["train", "rotate_net", str(photos), *TRAIN, "--lr", "0.01", "--name", "store/a"]) == 0
    again = ["--config", "store/a.config.json", "--name", "store/b", "--quiet"]
    assert main(["train", "rotate_net", *again]) == 0
    first, second = (json.loads(Path(f"store/{name}.config.json").read_text()) for name in "ab")
    assert (second["training"]["lr"], second["data"]) == (0.01, "photos")
    assert first["arguments"] == second["arguments"]
    of_flags, of_config = (load_file(f"store/{name}.safetensors") for name in "ab")
    assert of_flags.keys() == of_config.keys()
    assert all(tensor.equal(of_config[name]) for name, tensor in of_flags.items())
    assert main(["train", "byol", *again]) == 2


def test_a_refused_training_leaves_everything_as_it_was(photos: Path) -> None:
    assert main(["train", "rotate_net", str(photos), *TRAIN, "--quiet", "--name", "store/a"]) == 0
    before = {path: path.read_bytes() for path in Path("store").rglob("*") if path.is_file()}
    assert main(["train", "rotate_net", str(photos), *TRAIN, "--polyak", "3", "--name", "store/a"]) == 2
    assert main(["train", "rotate_net", str(photos), *TRAIN, "--polyak", "3", "--name", "store/b"]) == 2
    assert {path: path.read_bytes() for path in Path("store").rglob("*") if path.is_file()} == before


@pytest.fixture
def patients() -> Path:
    """Twenty-four images of eight patients in two folders."""
    for number in range(24):
        place = Path("patients", "ab"[number % 2])
        place.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(image).save(place / f"patient_{number % 8}_{number}.png")
    return Path("patients")


def test_evaluate_keeps_groups_together(
    patients: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = []

    def observed(labels: Any, *, test: float, groups: Any, seed: int) -> Any:
        halves.append(
            [{groups[index] for index in part} for part in split(labels, test=test, groups=groups, seed=seed)]
        )
        return split(labels, test=test, groups=groups, seed=seed)

    monkeypatch.setattr("super_selfish.cli.scores.split", observed)
    assert main(["train", "rotate_net", str(patients), *TRAIN, "--quiet", "--name", "store/a"]) == 0
    assert main(["evaluate", "store/a", str(patients), "--seeds", "2", "--groups", "patient_[0-9]+"]) == 0
    assert halves
    assert not any(train & test for train, test in halves)
    assert {name for train, test in halves for name in train | test} == {f"patient_{number}" for number in range(8)}
    scores = json.loads(Path("store/a.scores.json").read_text())
    assert scores["groups"] == "patient_[0-9]+"
    assert re.search(r"on \d+ images of \d groups, the trained", scores["verdicts"][0]["text"])
    assert "images that were in the test half of any seed" in scores["protocol"]
    assert "patient_[0-9]+" in capsys.readouterr().out
    assert main(["report", "store/a"]) == 0
    assert "patient_[0-9]+" in Path("store/a.html").read_text()
    capsys.readouterr()
    for pattern, expected in (("[", "not a regular expression"), ("visit_[0-9]+", "finds nothing")):
        assert main(["evaluate", "store/a", str(patients), "--groups", pattern]) == 2
        assert f"--groups {expected}" in capsys.readouterr().err.replace("is not", "not")
    assert main(["evaluate", "store/a", str(patients), "--test", str(patients), "--groups", "patient_[0-9]+"]) == 2
    assert "data leakage" in capsys.readouterr().err


def test_intervals_over_groups_are_wider_than_those_over_similar_images() -> None:
    first, second = np.repeat(np.float32([1, 1, 0, 1, 0, 1, 1, 1]), 25), np.zeros(200, np.float32)
    groups = np.repeat(np.arange(8), 25)
    independent, grouped = gain(first, second, None), gain(first, second, groups)
    assert grouped.value == independent.value
    assert grouped.high - grouped.low > 3 * (independent.high - independent.low)


def test_scores_are_of_the_weights_they_were_measured_on(photos: Path) -> None:
    assert main(["train", "rotate_net", str(photos), *TRAIN, "--quiet", "--name", "store/a"]) == 0
    assert main(["evaluate", "store/a", str(photos), "--seeds", "1"]) == 0
    assert main(["report", "store/a"]) == 0
    assert "of other weights" not in Path("store/a.html").read_text()
    assert main(["train", "rotate_net", str(photos), *TRAIN, "--quiet", "--seed", "1", "--name", "store/a"]) == 0
    assert main(["report", "store/a"]) == 0
    assert "of other weights" in Path("store/a.html").read_text()
    photos.rename("elsewhere")
    assert main(["report", "store/a"]) == 0
    assert "does not exist any more" in Path("store/a.html").read_text()


def test_published_weights_are_a_row_if_asked_for_or_cached(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(url: str, *arguments: Any, **named: Any) -> None:
        raise OSError("offline")

    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    how = [word.replace("small_resnet", "mobilenet_v3_small") for word in TRAIN]
    assert main(["train", "rotate_net", str(photos), *how, "--quiet", "--name", "store/a"]) == 0
    score = ["evaluate", "store/a", str(photos), "--seeds", "1"]
    assert main(score) == 0
    assert "published" not in capsys.readouterr().out
    assert main([*score, "--published", "resnet18"]) == 2
    assert "resnet18-f37072fd.pth" in capsys.readouterr().err
    folder = tmp_path / "hub" / "checkpoints"
    torch.save(models.mobilenet_v3_small().state_dict(), folder / "mobilenet_v3_small-047dcff4.pth")
    assert main(score) == 0
    assert "published: mobilenet_v3_small IMAGENET1K_V1" in capsys.readouterr().out
    assert main(["report", "store/a"]) == 0
    assert "published: mobilenet_v3_small" in Path("store/a.html").read_text()


def test_damaged_weights_come_back_from_the_checkpoint(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "rotate_net", str(photos), *TRAIN, "--name", "store/a"]
    assert main(train) == 0
    weights = Path("store/a.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    assert main(["verify", "store/a"]) == 1
    assert main(["evaluate", "store/a", str(photos)]) == 2
    assert "resume" in capsys.readouterr().err
    assert main([*train, "--resume"]) == 0
    assert "already complete" in capsys.readouterr().err
    assert main(["verify", "store/a"]) == 0


@pytest.mark.slow
def test_previews_of_grey_images_leave_out_algorithms_of_colours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("grey").mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40), np.uint8)
        Image.fromarray(pixels).save(f"grey/{index}.png")
    assert main(["preview", "all", "grey", "--count", "2", "--resolution", "32"]) == 0
    told = capsys.readouterr().out
    for name, algorithm in all_supervisors().items():
        assert (f"{name} is left out" in told) == algorithm.needs.rgb
        assert Path(f"store/preview/{name}.png").exists() != algorithm.needs.rgb


def test_a_preview_of_a_training_uses_its_arguments(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--resolution", "32", "--backbone", "small_resnet", "--epochs", "1", "--name", "store/seen"]
    assert main(["train", "rotate_net", str(photos), *small]) == 0
    assert main(["preview", "rotate_net", str(photos), "--trained", "store/seen", "--count", "2"]) == 0
    assert main(["preview", "jigsaw_net", str(photos), "--trained", "store/seen"]) == 2
    assert "super-selfish preview rotate_net" in capsys.readouterr().err


def test_previews_need_no_training(photos: Path) -> None:
    assert main(["preview", "jigsaw_net", str(photos), "--count", "2", "--resolution", "32"]) == 0
    assert Path("store/preview/jigsaw_net.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], 'Unknown command "nope"'),
        (["train", "rotatenet"], "`dataset`"),
        (["train", "rotate_net", "--batch-sze", "3"], "Did you mean --batch-size?"),
        (["train", "rotate_net", "--epochs", "many"], "many"),
        (["train", "rotate_net", "nowhere"], "nowhere"),
        (["evaluate", "store/nothing"], "store/nothing"),
        (["report", "store/nothing"], "store/nothing"),
        (["export", "store/nothing", "--format", "jpeg"], "jpeg"),
        (["train", "rotate_net", "--config", "nothing.json"], "nothing.json"),
        (["train", "rotnt"], "Did you mean rotate_net?"),
        (["train", "mocco"], "Did you mean momentum_contrast?"),
        (["train", "resnet"], "That is a network: name an algorithm, such as rotate_net"),
        (["train", "SimCLR", "photos"], "It is not included; momentum_contrast is the most similar algorithm that is."),
        (["train", "mae"], "context_net is the most similar"),
        (
            ["preview", "barlow-twins"],
            "byol is the most similar algorithm that is. To add an algorithm, see docs/adding",
        ),
        (["helpp"], "Did you mean --help?"),
        (["train", "exemplar_net", "--views", "xray"], "exemplar_net has --transformations instead."),
        (["train", "rotate_net", "--views", "xray"], "rotate_net has no option for augmentation."),
        (["train", "rotate_net", "--views=xray"], "--views is an option of byol, contrastive_multiview_coding"),
        (["preview", "byol", "--transformations", "xray"], "byol has --views instead."),
        (["train", "byol", "--queue-size", "9"], "--queue-size is an option of momentum_contrast."),
        (["train", "nothing_like_it"], "super-selfish list"),
        (["tarin"], 'Did you mean "train"? (see super-selfish --help)'),
        (["train", "moco", "--views", "xry"], "expected natural, grey, xray, satellite, microscopy, several of these"),
        (["train", "rotate_net", "--device", "gup"], "The device is unknown. Expected: cpu"),
        (["train", "rotate_net", "--config", "nothing.json"], "`nothing.json` cannot be read: No such file"),
        (["train", "rotate_net", "--config", "."], "`.` cannot be read: Is a directory. Expected: a YAML or JSON file"),
        (["export", "store/nothing"], "Expected: the name of a training without suffix, such as store/base."),
        (["verify", "store/nothing"], "Expected: the name of a training without suffix, such as store/base."),
        (["report", "store/nothing"], "There are no weights in `store`."),
        (["train", "--epochs", "3"], "ALGORITHM"),
        (["train", "moco", "--epohcs", "3"], "Did you mean --epochs?"),
        (["train", "moco", "--batchsize=3"], "Did you mean --batch-size?"),
        (["train", "moco", "--learning-rate", "3"], "Did you mean --lr?"),
        (["train", "moco", "--no-shufle"], "Did you mean --shuffle?"),
        (["train", "moco", "--data", "photos"], "positional argument DATA"),
        (["preview", "moco", "--images", "photos"], "positional argument DATA"),
        (["check", "--folder", "photos"], "positional argument DATA"),
        (["list", "--foo"], "--foo. (see"),
        (["train", "moco", "--precision", "fp61"], "Did you mean 'fp16'?"),
        (["train", "moco", "--recipe", "atuo"], "Did you mean 'auto'?"),
        (["train", "moco", "--schedule", "cosin"], "Did you mean 'cosine'?"),
        (["train", "rotate_net", "--precision", "64"], "--precision"),
        (["train", "rotate_net", "--crop", "1"], "--crop"),
        (["train", "rotate_net", "--batch-size", "1.5"], "--batch-size"),
        (["train", "rotate_net", "--lrr", "3"], "(see super-selfish train rotate_net --help)"),
        (["train", "rotate_net", "nowhere", "--device", "foo"], "--device foo"),
        (["evaluate", "store/nothing", "--device", "gup"], "The device is unknown. Expected: cpu"),
        (["report", "store/nothing", "--device", "cuda:99"], "not available to torch on this machine"),
        (["extract", "store/nothing", "--device", "cpuu"], "Received: --device cpuu. Did you mean 'cpu'?"),
        (["predict", "store/nothing", "--device", "foo"], "--device foo"),
        (["extract", "store/nothing", "--backbone-from", "no_such_module:small"], "no_such_module"),
        (["check", "nowhere", "--max-pixels", "0"], "--max-pixels"),
        (["evaluate", "store/nothing", "--num-workers", "-1"], "--num-workers"),
        (["report", "store/nothing", "--images", "1"], "--images"),
        (["export", "store/nothing", "--resolution", "-5"], "--resolution"),
        (["extract", "store/nothing", "--batch-size", "0"], "--batch-size"),
        (["extract", "store/nothing", "--on-error", "ignore"], "--on-error"),
        (["predict", "store/nothing"], "store/nothing"),
        (["predict", "store/nothing", "--output", "found.txt"], ".csv"),
        (["check", "nowhere", "--write", "keep.txt"], ".csv"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert told.err.startswith("super-selfish: ")
    assert said in told.err
    assert "Traceback" not in told.err


def test_errors_of_the_library_name_flags(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "moco", str(photos), "--backbone", "small_resnt"]) == 2
    assert "--backbone small_resnt. Did you mean 'small_resnet'?" in capsys.readouterr().err


def test_misspelt_names_of_trainings_are_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    Path("store").mkdir()
    Path("store/mine.safetensors").touch()
    assert main(["report", "store/mien"]) == 2
    assert "Did you mean 'store/mine'?" in capsys.readouterr().err
    assert main(["report", "store/another"]) == 2
    assert "Available: 'store/mine'." in capsys.readouterr().err
    Path("store/mine_backbone.safetensors").touch()
    assert main(["evaluate", "store/another"]) == 2
    assert "Available: 'store/mine'." in capsys.readouterr().err


def test_names_in_files_are_those_of_the_classes() -> None:
    assert algorithm_names() == supervisors.algorithm_names()


def test_an_unknown_algorithm_is_reported_without_importing_torch() -> None:
    code = "import sys\nfrom super_selfish.cli import main\nmain(['train', 'rotnt'])\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "rotate_net" in done.stderr) == (0, True)


@pytest.mark.parametrize("flag", ["--batch-size", "--num-workers"])
def test_numbers_of_the_loader_are_received_as_flags(
    photos: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "rotate_net", str(photos), f"{flag}=-1", *TRAIN[:4]]) == 2
    assert f"{flag} is out of range. Expected: an integer of at least" in (said := capsys.readouterr().err)
    assert f"Received: {flag} -1." in said


def test_advice_in_the_log_names_flags(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "rotate_net", str(photos), *TRAIN, "--name", "store/a"]
    assert main(words) == main([*words, "--resume"]) == 0
    assert "Training is already complete, at step" in (said := capsys.readouterr().err)
    assert "Pass more --epochs to continue it." in said
    assert rewrite.get()("`epochs`") == "`epochs`"  # in Python, arguments keep their names


@pytest.mark.parametrize("name", all_supervisors())
def test_help_names_every_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", name, "--help"]) == 0
    told = capsys.readouterr().out
    for word in ("--batch-size", "--lr", "--recipe", "--backbone", "--resolution", "--weights", "--resume", "--device"):
        assert word in told
    assert "Training time per image" in " ".join(told.split())


def test_descriptions_are_read_from_docstrings() -> None:
    assert documented("One.\n\nArgs:\n    a: First ``x``\n        and more.\n    b: Second.\n    **c: Rest.\n") == {
        "a": "First x and more.",
        "b": "Second.",
    }


def test_warnings_name_flags(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("rotate_net", "jigsaw_net"):
        assert main(["train", name, str(photos), *TRAIN, "--quiet", "--name", "store/a"]) == 0
    assert "--resume" in caplog.text
    assert "resume=" not in caplog.text


def test_training_on_enlarged_images_names_the_flag(
    photos: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("super_selfish.engine.tuning._logged_hints", set())
    assert main(["train", "rotate_net", str(photos), "--resolution", "96", *TRAIN[2:], "--quiet"]) == 0
    assert "The images are of about 40 px and are enlarged to 96 px: --resolution 40 is sufficient" in caplog.text


def test_refused_resume_names_what_was_changed(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "rotate_net", str(photos), *TRAIN, "--recipe", "auto", "--name", "store/a"]
    assert main(words) == 0
    batch = words.index("--batch-size") + 1
    assert main([*words[:batch], "4", *words[batch + 1 :], "--resume"]) == 2
    said = capsys.readouterr().err
    assert "batch_size is 4 here and 8 in the checkpoint" in said
    assert "lr is" not in said
    assert main([*words[:1], "jigsaw_net", *words[2:], "--resume"]) == 2
    assert "Choose another --name." in (said := capsys.readouterr().err)
    assert "super_selfish.load" not in said


def test_evaluate_says_which_baselines_and_images_mislead(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "rotate_net", str(photos), *TRAIN, "--name", "store/a"]) == 0
    assert main(["evaluate", "store/a", str(photos), "--test", str(photos), "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "16 of 16 test images are also among the training images" in said
    assert "untrained: batch norm uses the statistics of up to 64 training images" in said
    notes = json.loads(Path("store/a.scores.json").read_text())["notes"]
    assert all(note in said for note in notes)
