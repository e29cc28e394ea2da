"""``super-selfish demo``: train without labels, then measure what was learned."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from super_selfish.cli import demo_pictures as pictures
from super_selfish.cli.demo_images import Part, scattered
from super_selfish.cli.demo_scores import DRAWS, Views, pixels, scores, seen_by, table
from super_selfish.cli.demo_training import Course, Turned, train, untrained
from super_selfish.errors import ConfigurationError
from super_selfish.files import check_writable
from super_selfish.supervisors import RotateNetSupervisor

_SECONDS_AN_EPOCH = 40  # on one core of a small machine


class _Size(NamedTuple):
    """How much is done; the smoke test does the same with less."""

    copies: int = 8
    digits: int | None = None
    epochs: int = 3
    labels: int = 20


def demo(folder: str, *, seconds: float | None = None, seed: int = 0, smoke: bool = False) -> None:
    """Train, measure, and write pictures and weights.

    Args:
        folder: Where they go.
        seconds: About how long to train; it sets the number of epochs. None for three.
        seed: Of the initial weights and the training; the images are always the same.
        smoke: Use few images and one epoch.

    Raises:
        ConfigurationError: If the time is not positive or the folder cannot be written.
        CheckpointError: If a file cannot be written.
    """
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise ConfigurationError("`--seconds` must be positive.", received=f"{seconds:g}")
    with _one_thread():
        _demo(Path(folder), seconds, seed, smoke)


def _demo(target: Path, seconds: float | None, seed: int, smoke: bool) -> None:
    check_writable(target / "rotate_net")
    size = _Size(copies=1, digits=240, epochs=1, labels=5) if smoke else _Size()
    if seconds is not None and not smoke:
        size = size._replace(epochs=max(1, round(seconds / _SECONDS_AN_EPOCH)))
    placed, test = scattered(size.copies, digits=size.digits)
    count = len(placed.labels) // size.copies
    bank = Part(placed.images[:count], placed.labels[:count])  # each training digit once
    _introduce(placed, test, size)
    supervisor = untrained(placed.images, seed)
    before = seen_by(supervisor.get_backbone(), bank, test)
    turned = Turned(test.images)
    course = train(supervisor, turned, size.epochs, seed, target / "rotate_net")
    after = seen_by(supervisor.get_backbone(), bank, test)
    _report(bank, test, {"raw pixels": pixels(bank, test), "untrained network": before, "trained network": after}, size)
    answers = turned.answers(supervisor)
    _say(
        f"\nThe exercise itself, on the test images: {(answers == np.arange(4)).mean():.0%} of the angles told right; "
        "guessing gives 25 %.\nAll cannot be had: 0, 1 and 8 look alike upside down, and a 6 becomes a 9."
    )
    _draw(target, supervisor, turned, course, (bank, test), (before, after))
    _next_steps(target)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: sums then have one order on every machine, and threads that wait cost dearly on a busy one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _introduce(placed: Part, test: Part, size: _Size) -> None:
    digits = len(placed.labels) // size.copies
    placements = "one placement each" if size.copies == 1 else f"{size.copies} placements each"
    epochs = "1 epoch" if size.epochs == 1 else f"{size.epochs} epochs"
    minutes = size.epochs * len(placed.labels) / 9584 * _SECONDS_AN_EPOCH / 60
    duration = f"{epochs} in one thread, about {max(1, round(minutes))} min:"
    _say(
        f"""Can a network learn to see without a single label?

The images: handwritten digits (8×8 pixels, from scikit-learn), enlarged, in random colours at random places on pieces
of photographs (from scikit-image and scikit-learn), 32×32 pixels. Nothing is downloaded.
  to train on: {len(placed.labels):,} images of {digits:,} digits ({placements}) on 4 photographs
  to test on:  {len(test.labels):,} images of {len(test.labels):,} other digits on 3 other photographs
The photographs are turned and mirrored at random, the digits are upright: only the digit tells where up is.

The training: RotateNet turns each image by 0°, 90°, 180° and -90°, and a network of five convolutions learns to say
by which. It never sees which digit it is. {duration}"""
    )


def _report(bank: Part, test: Part, kinds: dict[str, Views], size: _Size) -> None:
    rows = {name: scores(views, bank.labels, test.labels, size.labels) for name, views in kinds.items()}
    _say(
        f"""
What the features are worth: which of ten digits is on a test image? Untrained and trained are the same network
before and after. The features stay as they are; {size.labels} labelled images a digit fit a linear classifier, or
vote as neighbours. Mean ± standard deviation over {DRAWS} draws of these images; guessing gives about 10 %.

{table(rows)}"""
    )


def _draw(
    target: Path,
    supervisor: RotateNetSupervisor,
    turned: Turned,
    course: Course,
    parts: tuple[Part, Part],
    views: tuple[Views, Views],
) -> None:
    pictures.pretext(target / "pretext.png", turned, turned.answers(supervisor))
    pictures.loss(target / "loss.png", supervisor.history, course)
    pictures.neighbours(target / "neighbours.png", *parts, *views)
    pictures.feature_map(target / "map.png", parts[1], *views)


def _next_steps(target: Path) -> None:
    _say(
        f"""
Written to {target}:
  pretext.png             the exercise: turned images and the network's answers; look at which digits it gets wrong
  loss.png                the course of training: the loss should fall below the dashed line, the accuracy rise above
  neighbours.png          what the network finds alike: more ✓ after training than before
  map.png                 the test images on a plane: groups of the same digit, which are not there before training
  rotate_net.safetensors  the trained weights, and what they are in rotate_net.json
  rotate_net.history.csv  a line an epoch: loss, speed

Your own images, a folder of them, with the default network:
  from super_selfish.supervisors import RotateNetSupervisor
  RotateNetSupervisor("photos/").supervise(lr=1e-3, epochs=50, batch_size=64, name="store/base")"""
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
