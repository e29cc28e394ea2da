"""Progress: lines of text, a progress bar on a terminal, a display in a notebook; interrupted and resumed trainings."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import types
from typing import Any

import numpy as np
import pytest

from super_selfish.engine.callbacks import displays, progress
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


class CtrlC(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def train(**settings: Any) -> RotateNetSupervisor:
    """Three steps an epoch."""
    supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4))
    return supervisor.supervise(**{"epochs": 3, "batch_size": 4, "watch": 0} | settings)


def interrupted_and_resumed(step: int, **settings: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(callbacks=[CtrlC(step)], **settings)
    train(resume=True, **settings)


@pytest.fixture
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show every step from which the remaining time can be estimated."""
    for display in (displays.Lines, displays.Bar, displays.Notebook):
        monkeypatch.setattr(display, "seconds", 0.0)
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)


@pytest.mark.usefixtures("_every_step")
def test_each_epoch_ends_in_one_line_and_every_line_has_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    places = [line.partition(":")[0] for line in lines]
    within = [f"epoch {epoch}/3 (batch {batch}/3)" for epoch in (1, 2, 3) for batch in (1, 2)]
    assert places == sorted(
        [*within[1:], "epoch 1/3", "epoch 2/3", "epoch 3/3"], key=lambda text: (text[:9], -len(text))
    )
    assert all(re.search(r", \d+ (s|min)\b.* left$", line) for line in lines)
    assert lines[-1].endswith(" 0 s left")


def test_messages_of_an_interrupted_and_a_resumed_training(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    interrupted_and_resumed(4)
    assert "Interrupted after step 4 of 9. To continue from here, call supervise(..., resume=True)" in caplog.text
    text = capsys.readouterr().err.partition("Resuming")[2]
    assert text.startswith(" store/base: continuing after step 4 of 9, in epoch 2 of 3.")
    assert [line.partition(":")[0] for line in text.splitlines() if line.startswith("epoch")] == [
        "epoch 2/3",
        "epoch 3/3",
    ]


def test_without_checkpoints_nothing_is_promised(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(callbacks=[CtrlC(2)], checkpoint_every=0)
    assert "Interrupted after step 2 of 9. No checkpoint was written, because of checkpoint_every=0." in caplog.text
    assert "resume" not in caplog.text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("_every_step")
def test_the_bar_begins_at_the_resumed_step_and_ends_at_100_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(KeyboardInterrupt):
        train(callbacks=[CtrlC(4)])
    terminal.truncate(0)
    train(resume=True)
    places = re.findall(r"(\d+)%\|.*?\| (\d+)/9 \[", terminal.getvalue())
    assert places[0] == ("44", "4")
    assert places[-1] == ("100", "9")
    assert "epoch 2/3" in terminal.getvalue()
    assert "epoch 1/" not in terminal.getvalue()
    assert re.search(r" s left", terminal.getvalue())


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a kernel would display: this process looks like one."""
    found: list[dict[str, Any]] = []
    publisher = types.SimpleNamespace(publish=lambda **message: found.append(message))
    shell = types.SimpleNamespace(kernel=object(), display_pub=publisher)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    return found


@pytest.mark.usefixtures("_every_step")
def test_a_notebook_has_one_output_that_is_updated(
    published: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(callbacks=[CtrlC(4)])
    published.clear()
    train(resume=True)
    assert len({message["transient"]["display_id"] for message in published}) == 1
    assert [message["update"] for message in published] == [False] + [True] * (len(published) - 1)
    last = published[-1]["data"]
    assert '<progress value="9" max="9"' in last["text/html"]
    assert re.findall(r"<td>(\d)</td>", last["text/html"]) == ["2", "3"]
    assert " left" not in last["text/html"]
    assert last["text/plain"].startswith("epoch 3/3: loss")
    shown = capsys.readouterr()
    assert "Stored in store/base" in shown.out
    assert "epoch" not in shown.err.replace("epochs", "")


def test_long_trainings_show_the_last_epochs() -> None:
    shell = types.SimpleNamespace(display_pub=types.SimpleNamespace(publish=lambda **_: None))
    display = displays.Notebook(shell)
    for epoch in range(1, 31):
        display.show(displays.Status(epoch, 30, epoch, 30, 0, 1, {"loss": "<1"}, "0 s", finished=True))
    assert [status.epoch for status in display._rows] == [*range(21, 31)]
    assert "&lt;1" in displays.as_html(display._rows[-1], display._rows)
