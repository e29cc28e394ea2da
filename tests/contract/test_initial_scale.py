"""The default network of every algorithm starts with usable numbers, also where an image is black all over."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.supervisors import all_supervisors

QUIET = {"verbose": False, "name": "store/test", "checkpoint_every": 0}


class RecordingSGD(torch.optim.SGD):
    """SGD that records the norm of the gradient before each step."""

    def __init__(self, parameters: Any, lr: float, norms: list[float]) -> None:
        super().__init__(parameters, lr=lr)
        self.norms = norms

    def step(self, closure: Any = None) -> Any:
        gradients = [weight.grad for group in self.param_groups for weight in group["params"]]
        found = [gradient for gradient in gradients if gradient is not None]
        self.norms.append(torch.nn.utils.get_total_norm(found).item())
        return super().step(closure)


@pytest.fixture
def with_black_images(images: Callable[..., Any]) -> np.ndarray:
    """Eight images, two of which are black."""
    batch = images(8, 64, 64)
    batch[[2, 5]] = 0
    return batch


def test_first_gradient_of_the_default_network_is_sane(algorithm: str, with_black_images: np.ndarray) -> None:
    norms: list[float] = []
    torch.manual_seed(0)
    supervisor = all_supervisors()[algorithm](with_black_images)
    supervisor.supervise(optimizer=partial(RecordingSGD, norms=norms), lr=1e-6, epochs=1, batch_size=8, **QUIET)
    assert norms
    assert all(math.isfinite(norm) for norm in norms)
    assert 1e-3 < norms[0] < 1e3


def test_features_of_the_default_network_differ_between_images(algorithm: str, images: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    supervisor = all_supervisors()[algorithm]().train()  # untrained running statistics would shrink all features
    inputs = torch.from_numpy(images(8, 64, 64)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        features = supervisor.model.backbone(inputs).flatten(1)
    spread = (features - features.mean(0)).norm() / features.norm()
    assert 0.02 < spread <= 1
    assert features.isfinite().all()
