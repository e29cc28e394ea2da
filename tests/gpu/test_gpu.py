"""What only a GPU can show; ``SUPER_SELFISH_DEVICE=cpu`` runs the same on a CPU, to check the checks."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import super_selfish
from super_selfish.models import CombinedNet, SmallResNet
from super_selfish.supervisors import (
    LabelSupervisor,
    MomentumContrastSupervisor,
    RotateNetSupervisor,
    Supervisor,
    all_supervisors,
)
from super_selfish.training import Callback

DEVICE = torch.device(os.environ.get("SUPER_SELFISH_DEVICE", "cuda"))
ON_GPU = DEVICE.type == "cuda"
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="there is no GPU"),
]
SMALL: dict[str, dict[str, Any]] = {
    "exemplar_net": {"n_classes": 24, "n_trans": 1},
    "contrastive_predictive_coding": {"patch_size": 8},
}


def make(name: str = "rotate_net", **options: Any) -> Supervisor:
    torch.manual_seed(0)
    options = {"backbone": SmallResNet(width=8)} | SMALL.get(name, {}) | options
    return all_supervisors()[name](IMAGES, **options).to(DEVICE)


def run(path: Path, **settings: Any) -> dict[str, Any]:
    return {"epochs": 1, "batch_size": 8, "name": path / "run", "verbose": False} | settings


@pytest.mark.parametrize("name", sorted(all_supervisors()))
def test_every_algorithm_trains_there_as_on_a_cpu(name: str, tmp_path: Path) -> None:
    losses = []
    for device in (torch.device("cpu"), DEVICE):
        supervisor = make(name).to(device)
        supervisor.supervise(**run(tmp_path / device.type, lr=1e-4))
        assert {value.device.type for value in supervisor.state_dict().values()} == {device.type}
        losses.append(supervisor.history[0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_gpu_is_used_unless_the_user_chose_the_cpu(tmp_path: Path) -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=8)).supervise(**run(tmp_path))
    assert {value.device.type for value in supervisor.state_dict().values()} == {expected}
    net = CombinedNet(supervisor.get_backbone(output="pooled"), nn.Linear(64, 2))
    LabelSupervisor(net, (IMAGES, np.arange(24) % 2)).supervise(**run(tmp_path))
    assert {parameter.device.type for parameter in net.parameters()} == {expected}
    stays = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=8)).to("cpu").supervise(**run(tmp_path))
    assert stays.device.type == "cpu"


@pytest.mark.parametrize("precision", ["bf16", "16"])
@pytest.mark.parametrize("name", sorted(all_supervisors()))
def test_every_algorithm_trains_in_half_precision(name: str, precision: str, tmp_path: Path) -> None:
    supervisor = make(name).supervise(**run(tmp_path, precision=precision, epochs=4))
    assert np.isfinite(supervisor.history[-1]["loss"])
    assert supervisor.train_state.step >= 3


@pytest.mark.filterwarnings("ignore:TensorFloat32")
@pytest.mark.parametrize("name", ["rotate_net", "momentum_contrast"])
def test_compiled_networks_give_nearly_the_same_loss(name: str, tmp_path: Path) -> None:
    losses = [make(name).supervise(**run(tmp_path, compile=on)).history[0]["loss"] for on in (False, True)]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


class Kill(Callback):
    """Ends a run in its third step."""

    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == 3:
            raise RuntimeError("killed")


@pytest.mark.parametrize("name", ["momentum_contrast", "byol", "instance_discrimination", "bi_gan"])
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = {"epochs": 2, "checkpoint_every": 2, "optimizer": torch.optim.AdamW}
            whole = make(name).supervise(**run(tmp_path / "whole", **settings))
            with pytest.raises(RuntimeError, match="killed"):
                make(name).supervise(**run(tmp_path, **settings, callbacks=[Kill()]))
            resumed = make(name).supervise(**run(tmp_path, **settings, resume=True))
    finally:
        torch.use_deterministic_algorithms(False)
    for key, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[key], rtol=1e-4, atol=1e-6), key


def test_what_is_trained_there_is_used_anywhere(tmp_path: Path) -> None:
    supervisor = make().supervise(**run(tmp_path))
    features, _ = supervisor.extract(IMAGES)
    loaded = super_selfish.load(tmp_path / "run", backbone=SmallResNet(width=8))
    assert np.allclose(loaded.extract(IMAGES)[0], features, atol=1e-2)
    assert next(supervisor.get_backbone().parameters()).device.type == DEVICE.type


@pytest.mark.skipif(not ON_GPU, reason="only a GPU is waited for")
def test_a_step_waits_for_the_gpu_once(tmp_path: Path) -> None:
    class Watch(Callback):
        waits = 0

        def on_step_end(self, run: Any) -> None:
            torch.cuda.set_sync_debug_mode("warn" if run.steps < 6 else "default")

    supervisor = make("momentum_contrast", queue_size=64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        supervisor.supervise(**run(tmp_path, epochs=4, callbacks=[Watch()], checkpoint_every=0))
    said = [(each, str(each.message)) for each in caught]
    waits = [each for each, text in said if "synchronizing" in text and "prototype feature" not in text]
    assert len(waits) <= 5 + 2, "\n".join(f"{each.filename}:{each.lineno}" for each in waits)  # 5 steps; an epoch ends


def test_running_out_of_memory_is_told(tmp_path: Path) -> None:
    class Greedy(RotateNetSupervisor):
        def _forward(self, data: Any) -> Tensor:
            rest = torch.cuda.mem_get_info()[1] if ON_GPU else 1 << 60
            torch.empty(rest * 2, dtype=torch.uint8, device=DEVICE)
            return super()._forward(data)

    supervisor = Greedy(IMAGES, backbone=SmallResNet(width=8)).to(DEVICE)
    with pytest.raises(super_selfish.errors.OutOfMemory, match="accumulate=2"):
        supervisor.supervise(**run(tmp_path))


@pytest.mark.skipif(not ON_GPU or torch.cuda.device_count() < 2, reason="there is one GPU at most")
def test_several_gpus_give_what_one_gives() -> None:
    torch.manual_seed(0)
    nets = [CombinedNet(nn.Flatten(), nn.Linear(48, 8), distributed=several).to(DEVICE) for several in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    images = torch.rand(7, 3, 4, 4, device=DEVICE)
    made = [net(images) for net in nets]
    assert torch.allclose(*made, atol=1e-6)
    made[1].sum().backward()
    assert nets[1].predictor.weight.grad is not None


@pytest.mark.skipif(not ON_GPU or torch.cuda.device_count() < 2, reason="there is one GPU at most")
def test_a_supervisor_trains_on_several_gpus(tmp_path: Path) -> None:
    net = CombinedNet(SmallResNet(width=8), nn.Linear(64, 4), distributed=True)
    supervisor = MomentumContrastSupervisor(IMAGES, backbone=net.backbone, queue_size=64).to(DEVICE)
    supervisor.model.distributed = supervisor.ema.distributed = True
    assert np.isfinite(supervisor.supervise(**run(tmp_path)).history[0]["loss"])
