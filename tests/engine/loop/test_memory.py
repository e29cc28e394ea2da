"""The memory of a training step: estimated, fitted, and explained where it does not suffice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from super_selfish.engine.loop.memory import SHARE, TRANSIENT, activation_bytes, available_bytes, micro_batches_that_fit
from super_selfish.errors import OutOfMemory
from super_selfish.models import SmallResNet
from super_selfish.supervisors import MomentumContrastSupervisor, RotateNetSupervisor

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
QUIET: dict[str, Any] = {"epochs": 1, "batch_size": 8, "verbose": False}


def failing(error: BaseException, base: type = RotateNetSupervisor, **options: Any) -> Any:
    """A supervisor whose second step raises."""

    class Failing(base):  # type: ignore[misc, valid-type]
        decomposable = base.decomposable  # type: ignore[attr-defined] # the loss is that of the base

        def _forward(self, data: Any) -> Tensor:
            if self.train_state.step:
                raise error
            return super()._forward(data)  # type: ignore[no-any-return]

    return Failing(IMAGES, backbone=SmallResNet(width=4), **options)


def test_activations_are_counted_once_and_parameters_not() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16 * 16, 2))
    image, maps = 3 * 16 * 16 * 4, 8 * 16 * 16 * 4
    assert activation_bytes(network, 3, (16, 16)) == image + maps  # the convolution's input; the output of ReLU, shared


def test_estimate_keeps_batch_statistics_and_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    activation_bytes(network, 3, (16, 16))
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())
    assert network.training


@pytest.mark.parametrize(("room", "micro_batches"), [(100, 1), (64, 1), (63, 2), (32, 2), (31, 3), (1, 64), (0.1, 64)])
def test_number_of_micro_batches(room: float, micro_batches: int) -> None:
    free = round(room * 1000 * TRANSIENT / SHARE) + 10
    assert micro_batches_that_fit(64, 1000, free) == micro_batches


def test_batches_are_not_split_where_free_memory_is_unknown() -> None:
    assert micro_batches_that_fit(64, 1e12, None) == 1
    free = available_bytes(torch.device("cpu"))
    assert free is None or free > 1e6


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_lack_of_memory_names_settings_that_need_less(error: BaseException, tmp_path: Any) -> None:
    supervisor = failing(error)
    with pytest.raises(OutOfMemory, match="accumulate=2") as raised:
        supervisor.supervise(name=tmp_path / "run", **QUIET)
    assert raised.value.__cause__ is error
    assert not (tmp_path / "run.safetensors").exists()
    assert not supervisor.training
    with pytest.raises(OutOfMemory, match="accumulate=8"):
        failing(error).supervise(accumulate=4, **QUIET)


def test_accumulate_is_not_advised_where_images_of_a_batch_are_compared() -> None:
    with pytest.raises(OutOfMemory) as raised:
        failing(MemoryError(), MomentumContrastSupervisor, queue_size=0).supervise(**QUIET)
    assert "accumulate" not in str(raised.value)


def test_other_errors_are_not_changed() -> None:
    error = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes") as raised:
        failing(error).supervise(**QUIET)
    assert raised.value is error
