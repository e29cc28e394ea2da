"""Promises 1, 2 and 4: trainings that are killed by SIGKILL, at steps and at any moment, and continued."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import torch._dynamo  # optimizers import it when they are made, which takes seconds in each child
from toys import At, digest, run, toy

from super_selfish.storage.checkpoint_folder import CheckpointFolder
from super_selfish.supervisors import all_supervisors
from super_selfish.training import Callback

EPOCHS, STEPS = 4, 16
EVERY = 3
"""Steps between checkpoints."""


def in_child(work: Callable[[], object]) -> int:
    """Start a process that does something and ends."""
    child = os.fork()
    if child == 0:
        work_and_leave(work)
    return child


def work_and_leave(work: Callable[[], object]) -> NoReturn:
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


class Beat(Callback):
    """Writes a byte a step into a pipe."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def on_step_end(self, run: Any) -> None:
        os.write(self.pipe, b".")


def trained(algorithm: str, name: str, pipe: int | None = None, **settings: Any) -> None:
    """Train to the end, and leave the digest of what came out beside the weights."""
    torch.set_num_threads(1)
    supervisor = toy(algorithm)
    callbacks = [] if pipe is None else [Beat(pipe)]
    settings = {"resume": "auto", "epochs": EPOCHS, "checkpoint_every": EVERY, "callbacks": callbacks} | settings
    run(supervisor, name=name, **settings)
    Path(f"{name}.digest").write_text(digest(supervisor))


def killed(algorithm: str, name: str, steps: int, delay: float) -> int:
    """Kill a training some time after some more steps; returns how many it took."""
    ear, mouth = os.pipe()
    child = in_child(lambda: trained(algorithm, name, mouth))
    os.close(mouth)
    taken = 0
    while taken < steps and os.read(ear, 1):
        taken += 1
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while os.read(ear, 1):  # steps between the last that was heard of and the kill
        taken += 1
    os.close(ear)
    return taken


@pytest.mark.promise(4)
@pytest.mark.parametrize("algorithm", sorted(all_supervisors()))
def test_01_killed_at_ten_random_moments(algorithm: str) -> None:
    chance = random.Random(algorithm)
    os.waitpid(in_child(lambda: trained(algorithm, "store/straight")), 0)
    straight = Path("store/straight.digest").read_text()
    kept, began = 0, time.monotonic()
    for _ in range(10):
        before = kept
        taken = killed(algorithm, "store/killed", chance.randint(0, 3), chance.random() * 0.05)
        stored = CheckpointFolder(Path("store/killed")).newest_valid()  # always one that is whole, or none yet
        kept = 0 if stored is None else stored.step
        assert before + taken - kept <= EVERY, f"{before} + {taken} steps, {kept} kept"
    assert time.monotonic() - began < 120
    os.waitpid(in_child(lambda: trained(algorithm, "store/killed")), 0)
    assert Path("store/killed.digest").read_text() == straight
    assert not [path for path in Path("store").rglob("*") if path.name.startswith((".tmp", ".trash"))]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("algorithm", ["rotate_net", "momentum_contrast", "bi_gan"])
def test_02_killed_after_every_step(algorithm: str, workers: int) -> None:
    os.waitpid(in_child(lambda: trained(algorithm, "store/straight", epochs=2)), 0)

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for step in range(1, 9) if workers == 0 else (3, 6):
        name = f"store/killed{step}"

        def die(step: int = step, name: str = name) -> None:
            trained(algorithm, name, epochs=2, checkpoint_every=1, num_workers=workers, callbacks=[At(step, kill)])

        child = in_child(die)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        os.waitpid(in_child(lambda name=name: trained(algorithm, name, epochs=2, checkpoint_every=1)), 0)
        assert Path(f"{name}.digest").read_text() == Path("store/straight.digest").read_text(), step
