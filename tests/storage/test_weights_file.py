"""The weights file: manifest, detection of damage, and no execution of code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import super_selfish
from super_selfish.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch
from super_selfish.models import SmallResNet
from super_selfish.storage.weights_file import read_weights, write_weights
from super_selfish.supervisors import RotateNetSupervisor


@pytest.fixture
def stored() -> Path:
    write_weights("store/x", {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}, {"supervisor": "rotate_net"})
    return Path("store/x.safetensors")


def rewrite(path: Path, **changes: Any) -> None:
    manifest = read_weights("store/x").manifest | changes
    save_file(load_file(path), path, metadata={"super_selfish": json.dumps(manifest)})


def test_write_then_read(stored: Path) -> None:
    found = read_weights("store/x.safetensors")
    assert found.path == stored
    assert found.manifest["supervisor"] == "rotate_net"
    assert torch.equal(found.tensors["a"], torch.arange(6.0).reshape(2, 3))
    assert json.loads(Path("store/x.json").read_text()) == found.manifest


@pytest.mark.promise(6)
def test_flipped_bit_in_the_tensors_is_detected(stored: Path) -> None:
    good = stored.read_bytes()
    for position in range(len(good) - 32, len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 8
        stored.write_bytes(damaged)
        with pytest.raises(CheckpointCorrupt):
            read_weights("store/x")


@pytest.mark.promise(6)
def test_flipped_bit_in_the_header_is_detected_or_harmless(stored: Path) -> None:
    good, intact = stored.read_bytes(), read_weights("store/x")
    for position in range(0, len(good) - 32, 7):
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 8
        stored.write_bytes(damaged)
        try:
            found = read_weights("store/x")
        except CheckpointError:
            continue
        assert torch.equal(found.tensors["a"], intact.tensors["a"])


@pytest.mark.promise(33)
def test_invalid_manifest_raises(stored: Path) -> None:
    rewrite(stored, format=2)
    with pytest.raises(CheckpointMismatch, match="newer"):
        read_weights("store/x")
    save_file({"a": torch.zeros(1)}, stored, metadata={"super_selfish": "[" * 100_000})
    with pytest.raises(CheckpointCorrupt, match="JSON"):
        read_weights("store/x")
    save_file({"a": torch.zeros(1)}, stored, metadata={"super_selfish": "[1]"})
    with pytest.raises(CheckpointCorrupt, match="format"):
        read_weights("store/x")


@pytest.mark.promise(33)
def test_manifest_cannot_refer_to_code() -> None:
    images = np.zeros((4, 32, 32, 3), np.uint8)
    RotateNetSupervisor(images, backbone="small_resnet").save("store/x")
    path = Path("store/x.safetensors")
    good = read_weights("store/x").manifest
    rewrite(path, supervisor="os.system")
    with pytest.raises(CheckpointMismatch, match="algorithm"):
        super_selfish.load("store/x")
    rewrite(path, **(good | {"arguments": good["arguments"] | {"dataset": "/etc", "transform": "os.system"}}))
    loaded = super_selfish.load("store/x")
    assert loaded.dataset is None
    rewrite(path, **(good | {"networks": {"backbone": "timm:../../x"}}))
    with pytest.raises((CheckpointError, ValueError)):
        super_selfish.load("store/x")
    rewrite(path, **(good | {"preprocessing": {"resolution": [10**9, 10**9]}}))
    with pytest.raises(CheckpointError, match="preprocessing"):
        super_selfish.load("store/x")


@pytest.mark.promise(32)
def test_plain_state_dict_is_read_without_executing_code() -> None:
    first, second = (RotateNetSupervisor(backbone=SmallResNet(width=4)) for _ in range(2))
    Path("store").mkdir()
    state = {f"module.{key.removeprefix('model.')}": value for key, value in first.state_dict().items()}
    torch.save(state, "store/old.pt")
    second.load("store/old")
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path("payload").touch, ()

    with Path("store/evil.pt").open("wb") as file:
        pickle.dump({"weights": Payload()}, file)
    with pytest.raises(CheckpointCorrupt, match="state_dict"):
        second.load("store/evil")
    assert not Path("payload").exists()


def test_error_for_a_missing_file_lists_available_names(stored: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Available: 'store/x'\."):
        read_weights("store/y")
    with pytest.raises(CheckpointError, match="no weights"):
        read_weights("elsewhere/y")
