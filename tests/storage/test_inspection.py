"""Inspection of the files of a training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import super_selfish
from super_selfish.cli import main
from super_selfish.errors import CheckpointError
from super_selfish.models import SmallResNet
from super_selfish.supervisors import InstanceDiscriminationSupervisor


@pytest.fixture
def trained() -> Path:
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    supervisor = InstanceDiscriminationSupervisor(images, backbone=SmallResNet(width=4), n=5, bank_precision="16")
    supervisor.supervise(epochs=2, batch_size=8, name="store/run", verbose=False)
    return Path("store")


def test_weights_and_checkpoints_are_listed(trained: Path, capsys: Any) -> None:
    found = super_selfish.inspect("store/run")
    assert found.is_valid
    assert found.weights is not None
    assert (found.weights.steps, found.weights.manifest["supervisor"]) == (4, "instance_discrimination")
    assert [each.steps for each in found.checkpoints] == [4, 2]
    assert found.weights.bytes == (trained / "run.safetensors").stat().st_size
    assert main(["verify", "store/run"]) == 0
    assert capsys.readouterr().out.count("valid ") == 3


def test_every_dtype_is_verified(tmp_path: Path) -> None:
    from super_selfish.storage.weights_file import write_weights

    kinds = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
    tensors = {kind: torch.ones(2, 3).to(getattr(torch, kind)) for kind in kinds}
    write_weights(tmp_path / "all", tensors | {"scalar": torch.ones(()), "empty": torch.ones(0, 3)}, {})
    assert super_selfish.inspect(tmp_path / "all").is_valid


@pytest.mark.parametrize("kind", ["flip", "truncate", "zero", "empty", "rubbish"])
def test_damaged_weights_are_reported(trained: Path, kind: str, capsys: Any) -> None:
    path = trained / "run.safetensors"
    original = path.read_bytes()
    middle = len(original) * 3 // 4
    path.write_bytes(
        {
            "flip": original[:middle] + bytes([original[middle] ^ 4]) + original[middle + 1 :],
            "truncate": original[:-10],
            "zero": bytes(len(original)),
            "empty": b"",
            "rubbish": random.Random(0).randbytes(999),
        }[kind]
    )
    found = super_selfish.inspect("store/run")
    assert found.weights is not None
    assert not found.weights.is_complete
    assert not found.is_valid
    assert found.checkpoints[0].is_complete
    assert main(["verify", "store/run"]) == 1
    assert "CORRUPT" in capsys.readouterr().out


def test_only_damage_to_the_newest_checkpoint_changes_the_exit_status(trained: Path, capsys: Any) -> None:
    steps = sorted((trained / "run.ckpt").glob("step-*"))
    (steps[0] / "model.safetensors").write_bytes(b"")
    assert main(["verify", "store/run"]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    (steps[1] / "trees.json").unlink()
    assert main(["verify", "store/run"]) == 1


def test_unknown_name_raises(capsys: Any) -> None:
    with pytest.raises(CheckpointError, match="neither"):
        super_selfish.inspect("store/nothing")
    assert main(["verify", "store/nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
