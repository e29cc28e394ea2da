"""Promises 10, 15, 27, 29 and 30: order, hidden state, images that cannot be read, processes that are killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toys import At, contents, digest, run, toy

from super_selfish.errors import DataError, WorkerHung, WorkerKilled
from super_selfish.supervisors import MomentumContrastSupervisor, Supervisor
from super_selfish.training import Callback


def photos(count: int) -> None:
    Path("photos").mkdir(exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(f"photos/{number:02}.png")


def stop() -> None:
    raise RuntimeError("killed")


class Seen(MomentumContrastSupervisor):
    """Remembers which images it was given, and their pixels."""

    seen: list[tuple[list[int], bytes]]

    def _forward(self, data: Any) -> torch.Tensor:
        assert self.run is not None
        self.seen.append((list(self.run.loader.last_indices), torch.stack(list(data)).numpy().tobytes()))
        return super()._forward(data)


def seen_by(name: str, **settings: Any) -> list[tuple[list[int], bytes]]:
    supervisor = toy(cls=Seen)
    supervisor.seen = []
    ends = pytest.raises(RuntimeError, match="killed") if "callbacks" in settings else contextlib.nullcontext()
    with ends:
        run(supervisor, name=name, checkpoint_every=1, resume="auto", **settings)
    return supervisor.seen


@pytest.mark.parametrize("workers", [0, 2])
def test_10_the_order_and_the_pixels_go_on_where_they_were(workers: int) -> None:
    straight = seen_by("store/straight")
    first = seen_by("store/parts", num_workers=2 - workers, callbacks=[At(3, stop)])
    rest = seen_by("store/parts", num_workers=workers)
    assert [indices for indices, _ in first + rest] == [indices for indices, _ in straight]
    assert first + rest == straight


EXCLUDED = {
    "clock": "seconds",
    "run": "walked by itself",
    "forecast": "told of each run anew",
    "training": "on or off",
    "is_same_dataset": "decided anew by comparing the images",
    "tracked": "walked by itself",
    "stored": "what the file that was read says of itself",
    "history": "rates and seconds; the rest is compared below",
}
"""What is not in a checkpoint, and why."""


class Snapshot(Callback):
    """All plain values and tensors that a supervisor, its loader, optimizer and schedule hold at a step."""

    def __init__(self, step: int | None) -> None:
        self.step = step
        self.values: dict[str, Any] = {}

    def on_train_begin(self, run: Any) -> None:
        if self.step is None:
            self.values = dict(walk(run))

    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == self.step:
            self.values = dict(walk(run))


def walk(run: Any) -> Iterator[tuple[str, Any]]:
    supervisor: Supervisor = run.supervisor
    for name, module in supervisor.named_modules():
        for key, value in vars(module).items():
            if key not in EXCLUDED and isinstance(value, int | float | str | tuple | dict) and key[0] != "_":
                yield f"{name}.{key}", repr(value)
    for key, value in supervisor.state_dict().items():
        yield key, value.numpy().tobytes()
    for number, state in run.optimizer.state_dict()["state"].items():
        for key, value in state.items():
            yield f"optimizer.{number}.{key}", value.numpy().tobytes()
    for name, thing in supervisor.tracked.items():
        yield f"tracked.{name}", repr(thing.state_dict())
    yield "groups", repr(run.optimizer.state_dict()["param_groups"])
    yield "cursor", repr(run.train_state)
    yield "losses", (repr(run.losses.total), run.losses.count)
    yield "losses by epoch", [entry["loss"] for entry in supervisor.history]
    yield "loader", (run.loader.micro_batches, sorted(run.loader.skipped))


ALGORITHMS = ["rotate_net", "bi_gan", "momentum_contrast", "byol", "pirl", "contrastive_multiview_coding"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_15_nothing_is_remembered_outside_of_a_checkpoint(algorithm: str) -> None:
    """Whatever else a supervisor holds has to be on the list of what is left out."""
    straight, resumed = Snapshot(3), Snapshot(None)
    with pytest.raises(RuntimeError, match="killed"):
        run(toy(algorithm), checkpoint_every=1, callbacks=[straight, At(3, stop)])
    run(toy(algorithm), checkpoint_every=1, resume=True, callbacks=[resumed])
    assert straight.values.keys() == resumed.values.keys()
    differing = [key for key in straight.values if straight.values[key] != resumed.values[key]]
    assert not differing, {key: (straight.values[key], resumed.values[key]) for key in differing}


@pytest.mark.parametrize("kind", ["empty", "garbage", "half", "web page", "folder", "gone"])
def test_27_an_image_that_cannot_be_read(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Named, with a checkpoint of what was done; skipped, another takes its place, and its row of the bank stays."""
    photos(12)
    supervisor = toy("instance_discrimination", "photos", resolution=32, n=4)
    path = Path("photos/07.png")
    whole = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.write_bytes({"empty": b"", "garbage": b"x" * 99, "half": whole[:900], "web page": b"<html></html>"}[kind])
    with pytest.raises(DataError, match=r"07\.png"):
        run(supervisor, batch_size=4, shuffle=False, checkpoint_every=1, name="store/raised")
    assert supervisor.train_state.step == 1  # images 4 to 7 are the second batch
    assert list(Path("store/raised.ckpt").glob("step-000000000001"))
    before = supervisor.memory.memory[7].clone()
    run(supervisor, batch_size=4, shuffle=False, on_error="skip", name="store/skipped")
    assert list(supervisor.skipped) == [7]
    assert "07.png" in supervisor.skipped[7]
    assert torch.equal(supervisor.memory.memory[7], before)
    assert caplog.text.count("another takes its place") == 1


def test_29_a_document_is_refused_and_no_program_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bin").mkdir()
    Path("bin/gs").write_text("#!/bin/sh\ntouch called\n")
    Path("bin/gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path('bin').resolve()}:{os.environ['PATH']}")
    photos(3)
    document = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n"
    for name in ("03.eps", "04.png"):
        Path("photos", name).write_bytes(document)
    with pytest.raises(DataError, match=r"04\.png"):
        run(toy("rotate_net", "photos", resolution=32), batch_size=2, epochs=4)
    with pytest.raises(DataError, match=r"03\.eps"):
        run(toy("rotate_net", ["photos/00.png", "photos/01.png", "photos/03.eps"], resolution=32), batch_size=3)
    assert not Path("called").exists()


class Deadly(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Kills the process that reads one image, the first time, or never gives it that image."""

    def __init__(self, victim: int, hangs: bool = False) -> None:
        self.victim = victim
        self.hangs = hangs

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> torch.Tensor:
        reading = multiprocessing.parent_process() is not None
        if index == self.victim and reading and not Path("killed").exists():
            Path("killed").touch()
            if self.hangs:
                time.sleep(3600)
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))


@pytest.mark.parametrize(
    ("hangs", "error", "words"),
    [
        (False, WorkerKilled, r"SIGKILL.*images \[.*60.*fewer workers"),
        (True, WorkerHung, r"3 s.*images \[.*60.*worker_timeout"),
    ],
)
def test_30_a_process_that_reads_is_killed_or_hangs(hangs: bool, error: type[Exception], words: str) -> None:
    straight = run(toy(images=Deadly(-1)), shuffle=False, name="store/straight")
    more = {"worker_timeout": 3} if hangs else {}  # a death is noticed whatever the time to wait
    began = time.monotonic()
    with pytest.raises(error, match=words):
        run(toy(images=Deadly(60, hangs)), shuffle=False, num_workers=2, checkpoint_every=100, **more)
    assert time.monotonic() - began < 3 + 5 + 10  # the last for what was trained before
    assert not multiprocessing.active_children()
    assert any("step-" in name for name in contents())  # what was done is not lost
    resumed = run(toy(images=Deadly(60)), shuffle=False, num_workers=2, checkpoint_every=100, resume=True)
    assert digest(resumed) == digest(straight)
