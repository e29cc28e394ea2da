"""Files of release 0.1.0, which built some named backbones otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import super_selfish
from super_selfish.engine.persistence import Persistence
from super_selfish.errors import CheckpointMismatch
from super_selfish.models import SmallResNet
from super_selfish.storage.former_backbones import stored_networks
from super_selfish.supervisors import DenoiseNetSupervisor, RotateNetSupervisor, Supervisor, all_supervisors

RUN: dict[str, Any] = {"batch_size": 4, "verbose": False, "watch": 0, "name": "store/run"}


def images(count: int = 8, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def as_former(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write manifests as 0.1.0 did: backbones without the prefix, and no record of published weights."""
    present = Persistence.manifest

    def former(persistence: Persistence, **options: Any) -> dict[str, Any]:
        manifest = {key: value for key, value in present(persistence, **options).items() if key != "published_weights"}
        networks = {key: value and value.removeprefix("0.1:") for key, value in manifest["networks"].items()}
        return {**manifest, "networks": networks}

    monkeypatch.setattr(Persistence, "manifest", former)


def features(supervisor: Supervisor, side: int = 32) -> Tensor:
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return supervisor.get_backbone()(pixels)


@pytest.mark.parametrize(
    ("kind", "name", "side"),
    [
        (RotateNetSupervisor, "densenet121", 32),
        (DenoiseNetSupervisor, "timm:convnext_atto", 64),
        pytest.param(RotateNetSupervisor, "convnext_tiny", 32, marks=pytest.mark.slow),
        pytest.param(RotateNetSupervisor, "googlenet", 32, marks=pytest.mark.slow),
        pytest.param(DenoiseNetSupervisor, "swin_t", 64, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("as_former")
def test_former_file_gives_its_features(kind: type[Supervisor], name: str, side: int) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    written = kind(images(side=side), backbone=f"0.1:{name}").eval()
    written.save("store/old")
    loaded = super_selfish.load("store/old")
    assert loaded.user_arguments["backbone"] == f"0.1:{name}"
    assert torch.equal(features(loaded, side), features(written, side))
    with pytest.raises(CheckpointMismatch, match=rf"(?s)0\.1\.0.*Pass backbone='0\.1:{name}'"):
        kind(backbone=name, resolution=side).load("store/old")


@pytest.mark.usefixtures("as_former")
def test_former_checkpoint_is_resumed_by_the_former_name() -> None:
    RotateNetSupervisor(images(), backbone="0.1:densenet121").supervise(epochs=1, **RUN)
    with pytest.raises(CheckpointMismatch, match=r"Pass backbone='0\.1:densenet121'"):
        RotateNetSupervisor(images(), backbone="densenet121").supervise(epochs=2, resume=True, **RUN)
    resumed = RotateNetSupervisor(images(), backbone="0.1:densenet121").supervise(epochs=2, resume=True, **RUN)
    assert resumed.train_state.epoch == 2


def test_present_files_keep_their_network() -> None:
    written = RotateNetSupervisor(images(), backbone="densenet121").eval()
    written.save("store/new")
    loaded = super_selfish.load("store/new")
    assert loaded.user_arguments["backbone"] == "densenet121"
    assert torch.equal(features(loaded), features(written))
    with pytest.raises(CheckpointMismatch, match=r"Received: backbone='0\.1:densenet121'"):
        RotateNetSupervisor(backbone="0.1:densenet121", resolution=32).load("store/new")


def test_former_network_is_stored_by_its_name_from_then_on() -> None:
    former = RotateNetSupervisor(images(), backbone="0.1:densenet121").eval()
    former.save("store/again")
    assert torch.equal(features(super_selfish.load("store/again")), features(former))


def test_unchanged_networks_keep_their_name() -> None:
    for networks in ({"backbone": "resnet18"}, {"backbone": None}, {"backbone": {"own": "Net"}}, {}, None):
        assert stored_networks({"networks": networks}, uses_map=True) == networks
    both = {"networks": {"backbone": "densenet121", "backbone_ab": "swin_t"}}
    assert stored_networks(both, uses_map=False) == {"backbone": "0.1:densenet121", "backbone_ab": "swin_t"}
    present = {"networks": {"backbone": "densenet121"}, "published_weights": None}
    assert stored_networks(present, uses_map=True) == {"backbone": "densenet121"}


class Observed(SmallResNet):
    """Records whether its feature map was used."""

    used: bool = False

    def map(self, x: Tensor) -> Tensor:
        type(self).used = True
        return super().map(x)

    def forward(self, x: Tensor) -> Tensor:
        return super().map(x).mean((2, 3))


@pytest.mark.parametrize("algorithm", sorted(all_supervisors()))
def test_algorithms_declare_whether_they_use_the_feature_map(
    algorithm: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kind = all_supervisors()[algorithm]
    size: dict[str, Any] = {"patch_size": 16} if algorithm == "contrastive_predictive_coding" else {}
    supervisor = kind(images(side=64), backbone=Observed(width=8), **size)
    monkeypatch.setattr(Observed, "used", False)
    supervisor.supervise(epochs=1, **RUN | {"name": tmp_path / "run"})
    assert Observed.used == kind.uses_map
