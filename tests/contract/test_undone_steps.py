"""Steps that are undone by restoring the weights, such as those of a learning-rate finder, are not training."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from super_selfish.storage.checkpoint_folder import CheckpointFolder
from super_selfish.supervisors import Supervisor
from super_selfish.training import Callback

RUN: dict[str, Any] = {"epochs": 2, "batch_size": 4, "lr": 0.01, "verbose": False, "watch": 0, "name": "store/test"}


@pytest.fixture
def train(make: Callable[..., Any], images: Callable[..., Any]) -> Callable[..., Any]:
    """Train a class on twelve images, three batches an epoch."""

    def run(cls: type[Supervisor], **settings: Any) -> Any:
        return make(images(12), cls=cls).supervise(**RUN | {"optimizer": torch.optim.SGD} | settings)

    return run


def sweep(supervisor: Any, loader: Any, steps: int, optimizer: Any = None) -> None:
    """A learning-rate finder: restores the weights after steps with increasing rates."""
    kept = copy.deepcopy(supervisor.state_dict())
    optimizer = optimizer or torch.optim.SGD(supervisor.trainable_parameters(), lr=1e-5)
    rates = [group["lr"] for group in optimizer.param_groups]
    done = 0
    while done < steps:
        for data in loader:
            optimizer.zero_grad()
            supervisor._forward(data).backward()
            optimizer.step()
            done += 1
            for group in optimizer.param_groups:
                group["lr"] *= 1.5
            if done == steps:
                break
    supervisor.load_state_dict(kept)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def assert_same_training(one: Any, other: Any) -> None:
    assert one.train_state == other.train_state
    assert [entry["epoch"] for entry in one.history] == [entry["epoch"] for entry in other.history]
    assert [entry["loss"] for entry in one.history] == pytest.approx([entry["loss"] for entry in other.history])
    for key, value in other.state_dict().items():
        assert torch.equal(one.state_dict()[key], value), key


_PLAIN: dict[str, Any] = {}


@pytest.fixture
def plain(algorithm: str, base: Any, train: Callable[..., Any]) -> Any:
    """The library's own training, once for all tests."""
    if algorithm not in _PLAIN:
        _PLAIN[algorithm] = train(base)
    return _PLAIN[algorithm]


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_a_finder_in_the_loop(base: Any, train: Callable[..., Any], plain: Any, steps: int) -> None:
    class Own(base):
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            sweep(self, train_loader, steps)
            super()._epochs(epochs, train_loader, optimizer, lr_scheduler)

    supervisor = train(Own)
    assert_same_training(supervisor, plain)
    assert CheckpointFolder(Path("store/test")).steps() == [6, 3]


def test_a_finder_between_two_epochs(base: Any, train: Callable[..., Any], plain: Any) -> None:
    class Own(base):
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            for epoch in range(epochs):
                if epoch == 1:
                    sweep(self, train_loader, 5)
                for data in train_loader:
                    self._update(self._forward(data), optimizer, lr_scheduler)

    assert_same_training(train(Own), plain)


def test_a_finder_with_the_optimizer_of_the_run(base: Any, train: Callable[..., Any], plain: Any) -> None:
    class Own(base):
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            sweep(self, train_loader, 2, optimizer)
            super()._epochs(epochs, train_loader, optimizer, lr_scheduler)

    assert_same_training(train(Own), plain)


@pytest.mark.parametrize("stage", ["_load_pretrained", "_init_data_optimizer"])
def test_a_finder_in_a_stage_before_the_loop(base: Any, train: Callable[..., Any], plain: Any, stage: str) -> None:
    def override(self: Any, *given: Any) -> Any:
        result = getattr(base, stage)(self, *given)
        with torch.random.fork_rng(devices=[]):  # the random queue of MoCo is drawn afterwards
            sweep(self, result[0] if result else self.train_loader(4, True, 0), 5)
        return result

    assert_same_training(train(type("Own", (base,), {stage: override})), plain)


def test_a_finder_before_training(base: Any, make: Callable[..., Any], images: Callable[..., Any], plain: Any) -> None:
    class Own(base):
        def _prepare(self, train_loader: Any) -> None:
            super()._prepare(train_loader)
            sweep(self, train_loader, 4)

    supervisor = make(images(12), cls=Own)
    assert_same_training(supervisor.supervise(**RUN, optimizer=torch.optim.SGD), plain)


def test_a_finder_in_a_callback(base: Any, train: Callable[..., Any], plain: Any) -> None:
    class Finder(Callback):
        def on_train_begin(self, run: Any) -> None:
            sweep(run.supervisor, run.loader, 5)

    assert_same_training(train(base, callbacks=[Finder()]), plain)


def test_weights_copied_back_one_by_one(
    base: Any, train: Callable[..., Any], plain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(base):
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            parameters = self.trainable_parameters()
            state = [*parameters, *self.buffers()]
            kept = [tensor.detach().clone() for tensor in state]
            mine = torch.optim.Adam(parameters, lr=0.1)
            for data in train_loader:
                self._forward(data).backward()
                mine.step()
            with torch.no_grad():
                for tensor, value in zip(state, kept, strict=True):
                    tensor.copy_(value)
            super()._epochs(epochs, train_loader, optimizer, lr_scheduler)

    with caplog.at_level(logging.INFO, "super_selfish"):
        assert_same_training(train(Own), plain)
    assert sum("do not count as training" in message for message in caplog.messages) == 1


def test_a_step_that_changes_nothing_is_counted(base: Any, train: Callable[..., Any]) -> None:
    class Own(base):
        def _epochs(self, *given: Any) -> None:
            super()._epochs(*given)

    warm_up = lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 3))  # noqa: E731
    assert train(Own, lr_scheduler=warm_up).train_state.step == 6


def test_best_weights_restored_after_epochs_do_not_undo_them(base: Any, train: Callable[..., Any]) -> None:
    class Own(base):
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            best = copy.deepcopy(self.model.state_dict())
            for _ in range(epochs):
                for data in train_loader:
                    self._update(self._forward(data), optimizer, lr_scheduler)
                self.model.load_state_dict(best)

    supervisor = train(Own)
    assert (supervisor.train_state.epoch, supervisor.train_state.step, len(supervisor.history)) == (2, 6, 2)
