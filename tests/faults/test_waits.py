"""Waits for images: none ignores a signal, and what workers log is logged here."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
from toys import run, toy

from super_selfish.engine.loop import signals
from super_selfish.engine.loop.signals import Stop
from super_selfish.errors import Preempted

pytestmark = pytest.mark.filterwarnings("ignore")


class Hangs:
    """A data set that hangs from some reading on, as on a network share that is gone, and has a signal sent then."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process = os.getpid()
        self.left = 1 << 30
        self.began = multiprocessing.Value("d", 0.0)

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        self.left -= 1
        if self.left < 0:
            self.began.value = time.monotonic()
            threading.Timer(0.5, os.kill, (self.process, self.number)).start()
            time.sleep(120)
        return np.full((40, 40, 3), index, np.uint8)


@pytest.mark.daily
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_an_image(number: int, workers: int) -> None:
    images = Hangs(number)
    supervisor = toy("rotate_net", images, resolution=32)
    images.left = 14
    with pytest.raises((Preempted, KeyboardInterrupt)):
        run(supervisor, epochs=2, batch_size=4, num_workers=workers)
    assert time.monotonic() - images.began.value < 60
    assert supervisor.train_state.step >= 1
    images.left = 1 << 30
    again = toy("rotate_net", images, resolution=32)
    run(again, epochs=2, batch_size=4, resume=True)
    assert again.train_state.step == 8
    assert len(again.history) == 2


@pytest.mark.daily
def test_a_wait_that_may_not_be_left_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_GRACE_SECONDS", 0.5)
    with Stop() as stop:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        begin = time.monotonic()
        with pytest.raises(Preempted), stop.waiting(may_leave=False, on_leaving=pytest.fail):
            time.sleep(60)
        assert 0.6 < time.monotonic() - begin < 30


def test_a_signal_outside_waits_is_only_noted() -> None:
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM


@pytest.mark.daily
def test_what_workers_log_is_logged_here_once(caplog: pytest.LogCaptureFixture) -> None:
    images = list(np.random.default_rng(0).integers(0, 4000, (200, 40, 40, 3)).astype(np.uint16))
    for place in (1, 2, 4, 5, 7, 8):  # not in the sample that the range is settled on
        images[place] = images[place] + np.uint16(50_000)
    supervisor = toy("rotate_net", images, resolution=40)
    assert supervisor.preprocessing.value_range == (0, 4095)
    with caplog.at_level(logging.WARNING, "super_selfish"):
        run(supervisor, epochs=1, batch_size=10, num_workers=2)
    assert sum("value_range" in said for said in caplog.messages) == 1
