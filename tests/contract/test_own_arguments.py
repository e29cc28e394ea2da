"""Constructor arguments of user-defined classes: shown, stored, and compared when a training is resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from super_selfish.errors import CheckpointMismatch
from super_selfish.models import CombinedNet
from super_selfish.supervisors import Supervisor

QUIET = {"verbose": False, "watch": 0, "name": "store/test", "batch_size": 4}
Make = Callable[..., Supervisor]


def test_arguments_of_own_classes_are_shown_stored_and_compared(
    base: Any, make: Make, images: Callable[..., np.ndarray]
) -> None:
    class Own(base):
        def __init__(self, dataset: Any = None, *, smoothing: float = 0.1, scale: Any = (1, 2), **given: Any) -> None:
            super().__init__(dataset, **given)
            self.weight = 1 - smoothing

    supervisor = make(images(8), cls=Own, smoothing=0.2)
    assert "smoothing=0.2, scale=(1, 2)" in repr(supervisor)
    supervisor.supervise(epochs=1, **QUIET)
    assert make(None, cls=Own, smoothing=0.2).load("store/test").hyperparameters()["smoothing"] == 0.2
    make(images(8), cls=Own, smoothing=0.2).supervise(epochs=2, resume=True, **QUIET)
    with pytest.raises(CheckpointMismatch, match=r"smoothing is 0\.5 here and 0\.2 in the file"):
        make(images(8), cls=Own, smoothing=0.5).supervise(epochs=3, resume=True, **QUIET)
    with pytest.raises(CheckpointMismatch, match=r"smoothing is 0\.1 here and 0\.2 in the file"):
        make(None, cls=Own).load("store/test")


class Minimal(Supervisor):
    """An algorithm of a user, without :class:`Setup`."""

    def __init__(self, dataset: Any = None, t: float = 0.5) -> None:
        super().__init__(CombinedNet(nn.Flatten(), nn.Linear(12, 4)), dataset)
        self.t = t

    def _forward(self, data: Any) -> Tensor:
        return self.loss(self.model(data[0].float()) / self.t, data[1])


def test_a_minimal_algorithm() -> None:
    data = [(torch.rand(3, 2, 2), place % 4) for place in range(8)]
    supervisor = Minimal(data, t=0.3)
    assert "t=0.3" in repr(supervisor)
    supervisor.supervise(epochs=1, **QUIET)
    with pytest.raises(CheckpointMismatch, match=r"t is 0\.5 here and 0\.3 in the file"):
        Minimal(data).supervise(epochs=2, resume=True, **QUIET)
