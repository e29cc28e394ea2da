"""Weights & Biases and TensorBoard, with the real packages, without network access."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from super_selfish import training
from super_selfish.cli import main
from super_selfish.errors import ConfigurationError
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import TensorBoardCallback, WandbCallback

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
SMALL = ["--backbone", "small_resnet", "--resolution", "32", "--batch-size", "4", "--epochs", "1", "--device", "cpu"]


def train(**settings: Any) -> RotateNetSupervisor:
    supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4))
    return supervisor.supervise(**{"epochs": 2, "batch_size": 4, "watch": 0, "verbose": False} | settings)


@pytest.fixture
def photos() -> Path:
    folder = Path("photos")
    folder.mkdir()
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def scalars(folder: str) -> dict[str, list[tuple[int, float]]]:
    """The scalars that TensorBoard shows."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(folder).Reload()
    return {key: [(event.step, event.value) for event in events.Scalars(key)] for key in events.Tags()["scalars"]}


@pytest.mark.slow
def test_tensorboard_shows_the_history() -> None:
    pytest.importorskip("tensorboard")
    supervisor = train(callbacks=[TensorBoardCallback("logs")])
    found = scalars("logs")
    assert found["loss"] == [(entry["epoch"], pytest.approx(entry["loss"])) for entry in supervisor.history]
    train(epochs=3, resume=True, callbacks=[TensorBoardCallback("logs")])
    assert [step for step, _ in scalars("logs")["loss"]] == [1, 2, 3]


@pytest.mark.slow
def test_flag_tensorboard(photos: Path) -> None:
    pytest.importorskip("tensorboard")
    assert main(["train", "rotate_net", str(photos), *SMALL, "--tensorboard", "logs"]) == 0
    assert [step for step, _ in scalars("logs")["loss"]] == [1]


RECORDS = """
import json, pathlib, struct, sys
from wandb.proto import wandb_internal_pb2

(path,) = sorted(pathlib.Path(sys.argv[1]).glob("*-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)[-1:]
data, place, records = path.read_bytes(), 7, [b""]
while place < len(data):  # the log format of LevelDB: blocks of 32 KiB
    if 32768 - place % 32768 < 7:
        place += 32768 - place % 32768
        continue
    _, length, kind = struct.unpack_from("<IHB", data, place)
    records[-1] += data[place + 7 : place + 7 + length]
    place += 7 + length
    if kind in (1, 4):  # a whole record, or its last part
        records.append(b"")
found = {"history": [], "config": {}, "exit": None}
for data in records[:-1]:
    record = wandb_internal_pb2.Record()
    record.ParseFromString(data)
    kind = record.WhichOneof("record_type")
    if kind == "history":
        items = record.history.item
        found["history"].append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
    elif kind in ("config", "run"):
        config = record.config if kind == "config" else record.run.config
        found["config"] |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in config.update}
        found |= {"id": record.run.run_id, "project": record.run.project} if kind == "run" else {}
    elif kind == "exit":
        found["exit"] = record.exit.exit_code
print(json.dumps(found))
"""
"""Reads what `wandb sync` would upload."""


@pytest.fixture
def uploaded(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[[], dict[str, Any]]:
    def read() -> dict[str, Any]:
        run = run_python("-c", RECORDS, "wandb")
        assert run.returncode == 0, run.stderr
        return dict(json.loads(run.stdout.splitlines()[-1]))

    return read


SCRIPT = """
import numpy as np, sys
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback, WandbCallback

class Fails(Callback):
    def on_epoch_end(self, run):
        if run.train_state.epoch == 2 and sys.argv[1] == "fails":
            raise RuntimeError("a full disk")

images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
supervisor = RotateNetSupervisor(images, backbone=SmallResNet(width=4))
callbacks = [WandbCallback("selfish", mode="offline"), Fails()]
supervisor.supervise(lr=0.01, epochs=2, batch_size=4, watch=0, verbose=False, callbacks=callbacks, resume="auto")
print(supervisor.run_id)
"""


@pytest.mark.slow
def test_wandb_gets_settings_and_history(
    run_python: Callable[..., subprocess.CompletedProcess[str]], uploaded: Callable[[], dict[str, Any]]
) -> None:
    pytest.importorskip("wandb")
    run = run_python("-c", SCRIPT, "fails")
    assert "a full disk" in run.stderr
    failed = uploaded()
    assert failed["exit"] == 1
    assert [entry["epoch"] for entry in failed["history"]] == [1, 2]
    run = run_python("-c", SCRIPT, "succeeds")
    assert run.returncode == 0, run.stderr
    found = uploaded()
    assert (found["project"], found["exit"]) == ("selfish", 0)
    assert run.stdout.splitlines()[-1] == found["id"] == failed["id"], "a resumed training continues its run"
    assert [(entry["epoch"], entry["_step"]) for entry in found["history"]] == [(2, 4)]
    assert {"loss", "images_per_second"} <= set(found["history"][0])
    assert found["config"]["lr"] == 0.01
    assert found["config"]["algorithm"] == "rotate_net"


@pytest.mark.slow
def test_flag_wandb(
    photos: Path,
    run_python: Callable[..., subprocess.CompletedProcess[str]],
    uploaded: Callable[[], dict[str, Any]],
) -> None:
    pytest.importorskip("wandb")
    words = ["train", "rotate_net", str(photos), *SMALL, "--wandb", "selfish"]
    run = run_python("-m", "super_selfish", *words, WANDB_MODE="offline")
    assert run.returncode == 0, run.stderr
    assert uploaded()["project"] == "selfish"


@pytest.mark.parametrize(
    ("module", "name", "argument"),
    [("wandb", "WandbCallback", "selfish"), ("torch.utils.tensorboard", "TensorBoardCallback", "logs")],
)
def test_a_missing_package_is_named(
    module: str, name: str, argument: str, monkeypatch: pytest.MonkeyPatch, photos: Path, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=r"is not installed.*pip install"):
        getattr(training, name)(argument)
    flag = module.rpartition(".")[2]
    assert main(["train", "rotate_net", str(photos), *SMALL, f"--{flag}", argument]) == 2
    assert f"super-selfish[{flag}]" in capsys.readouterr().err
    assert not os.path.exists("store/base.safetensors")  # noqa: PTH110


def test_old_name() -> None:
    with pytest.warns(FutureWarning, match="TensorBoardCallback"):
        assert training.TensorBoard is TensorBoardCallback
    with pytest.raises(ConfigurationError, match="project"):
        WandbCallback("")
