"""Mistakes in subclasses, which would train nothing or something else without a word."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import CombinedNet
from super_selfish.supervisors import Supervisor
from super_selfish.training import Callback

QUIET = {"verbose": False, "watch": 0, "name": "store/test", "batch_size": 4}
Make = Callable[..., Supervisor]


def test_a_loss_without_a_path_to_the_weights(base: Any, make: Make, images: Callable[..., np.ndarray]) -> None:
    class Own(base):
        def _forward(self, data: Any) -> Tensor:
            return super()._forward(data).detach().requires_grad_()

    supervisor = make(images(8), cls=Own)
    with pytest.raises(ConfigurationError, match=r"does not depend on the weights.*Expected.*detach"):
        supervisor.supervise(epochs=1, **QUIET)
    assert supervisor.train_state.step == 0


def test_an_update_without_a_step(base: Any, make: Make, images: Callable[..., np.ndarray]) -> None:
    class Own(base):
        def _update(self, loss: Tensor, optimizer: Any, lr_scheduler: Any) -> None:
            loss.backward()

    for epochs in (1, 50):
        with pytest.raises(ConfigurationError, match=r"made no step of an optimizer.*self\.stepped\(\)") as raised:
            make(images(8), cls=Own).supervise(epochs=epochs, **QUIET)
        assert f"passes over the data: {min(epochs, 2)}" in str(raised.value)


def test_epochs_that_do_nothing(base: Any, make: Make, images: Callable[..., np.ndarray]) -> None:
    class Own(base):
        def _epochs(self, *given: Any) -> None:
            pass

    with pytest.raises(ConfigurationError, match="made no step of an optimizer"):
        make(images(8), cls=Own).supervise(epochs=1, **QUIET)


def test_one_step_for_all_batches_may_follow_the_pass(base: Any, make: Make, images: Callable[..., np.ndarray]) -> None:
    class Own(base):
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            for _ in range(epochs):
                for data in train_loader:
                    self._forward(data).backward()
                optimizer = optimizer[0] if isinstance(optimizer, tuple) else optimizer
                optimizer.step()

    make(images(8), cls=Own).supervise(epochs=2, **QUIET)


@pytest.mark.parametrize(
    ("name", "expected"), [("_foward", "_forward"), ("forward", "_forward"), ("_after_updates", "_after_update")]
)
def test_misspelt_stages_and_hooks(
    base: Any, make: Make, images: Callable[..., np.ndarray], caplog: pytest.LogCaptureFixture, name: str, expected: str
) -> None:
    own = type("Own", (base,), {name: lambda self, *given: None})
    with caplog.at_level(logging.WARNING):
        make(images(8), cls=own).supervise(epochs=1, **QUIET)
    assert f"`Own.{name}` is not called in training. Did you mean `{expected}`?" in caplog.text


def test_misspelt_events_of_a_callback(
    make: Make, images: Callable[..., np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    class Log(Callback):
        def on_step(self, run: Any) -> None: ...

    with caplog.at_level(logging.WARNING):
        make(images(8)).supervise(epochs=1, callbacks=[Log()], **QUIET)
    assert "`Log.on_step` is not called in training. Did you mean `on_step_end`?" in caplog.text


def test_helpers_are_no_mistakes(
    base: Any, make: Make, images: Callable[..., np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    class Own(base):
        def _forward(self, data: Any) -> Tensor:
            return self._forward_twice(data)

        def _forward_twice(self, data: Any) -> Tensor:
            return super()._forward(data)

    with caplog.at_level(logging.WARNING):
        make(images(8), cls=Own).supervise(epochs=1, **QUIET)
    assert "is not called" not in caplog.text


def test_a_folder_for_a_class_that_takes_a_data_set() -> None:
    with pytest.raises(ConfigurationError, match=r"`dataset` is .*Expected: a map-style data set.*photos/"):
        Supervisor(CombinedNet(nn.Flatten(), nn.Linear(12, 4)), "photos/")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda loss: (torch.zeros(2), loss), r"Received: \(Tensor, Tensor\).*loss first"),
        (lambda loss: {"Loss": loss}, r"""a dictionary without "loss", with 'Loss'"""),
        (lambda loss: loss.detach(), r"requires_grad=False.*`\.detach\(\)`"),
        (lambda loss: loss.repeat(3), r"shape \(3,\).*loss\.mean\(\)"),
        (lambda loss: None, r"Received: NoneType.*return loss"),
    ],
)
def test_what_is_no_loss(
    base: Any, make: Make, images: Callable[..., np.ndarray], wrong: Callable[[Tensor], Any], told: str
) -> None:
    class Own(base):
        def _forward(self, data: Any) -> Any:
            return wrong(super()._forward(data))

    with pytest.raises(ConfigurationError, match=rf"`_forward` must return the loss.*{told}"):
        make(images(8), cls=Own).supervise(epochs=1, **QUIET)
