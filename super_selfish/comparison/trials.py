"""Training of one algorithm for a given time, and the evaluation of its features."""

from __future__ import annotations

import contextlib
import copy
import gc
import logging
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from super_selfish.comparison.budget import MOST_TIMING, TIMED_STEPS
from super_selfish.comparison.images import Images, Pixels
from super_selfish.comparison.records import COLLAPSE, REFERENCE, TOO_SLOW, Row
from super_selfish.comparison.session import FOLDER, Once
from super_selfish.comparison.validation import REPEATS, cross_validated
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.errors import NonFiniteLoss, SuperSelfishError
from super_selfish.evaluation import PretextScore, extract_features, quality
from super_selfish.evaluation.baseline import is_degenerate
from super_selfish.evaluation.score import Integers
from super_selfish.seeding import KeyedGenerator, keyed_randomness
from super_selfish.supervisors import Supervisor

EVALUATED = 1000
"""Number of images whose features are measured without labels."""
LEARNABLE = 0.05
"""How far the lower end of the 95 % interval of the accuracy must exceed chance level for rotations to be learnable."""

logger = logging.getLogger("super_selfish")

Recipes = Literal["auto", "adapt"]

_WARM_UP = 2  # updates
_MARGIN = 0.95  # fraction of the remaining time that the schedule is planned for
_WHOLE_EPOCHS = 5  # number of epochs from which a fraction of an epoch is left out


class TimeUp(Exception):
    """Ends a training at its deadline."""


class TooSlow(Exception):
    """An algorithm cannot make an update in the time of a run.

    Args:
        step_seconds: Measured seconds per update; infinite if none was made.
    """

    def __init__(self, step_seconds: float) -> None:
        super().__init__(f"{step_seconds:.3g} s per update")
        self.step_seconds = step_seconds


class Deadline(Callback):
    """Ends a training: after the last epoch that fits into the time, or else in the middle of an epoch.

    Args:
        seconds: Time from the creation of the callback, in seconds.
        now: Function that returns the time in seconds.
        device: Device, which is synchronised before the time is taken.
        most_steps: Number of updates after which the training ends as well; None: no limit.

    Attributes:
        times: Time after each update, in seconds.
    """

    def __init__(
        self,
        seconds: float,
        now: Callable[[], float] = time.monotonic,
        device: torch.device | None = None,
        most_steps: int | None = None,
    ) -> None:
        self.now, self.device, self.most_steps = now, device, most_steps
        self.end = now() + seconds
        self.times: list[float] = []
        self._begin = self._epoch = now()

    def on_step_end(self, run: RunView) -> None:  # noqa: ARG002 - signature of the event
        """Take the time, and end the training if it is up."""
        if self.device is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times.append(self.now())
        if self.times[-1] >= self.end or len(self.times) == self.most_steps:
            raise TimeUp

    def on_epoch_end(self, run: RunView) -> None:
        """Request the end of the training if another epoch does not fit."""
        now = self.now()
        if now + (now - self._epoch) > self.end:
            run.request_stop("the time of this run is used")
        self._epoch = now

    @property
    def step_seconds(self) -> float:
        """Seconds per update, without the first ones; infinite if no update was completed."""
        times = self.times[min(_WARM_UP, max(0, len(self.times) - 2)) :]
        if len(times) == 1:
            return times[0] - self._begin
        return (times[-1] - times[0]) / (len(times) - 1) if times else math.inf


def length(images: int, batch_size: int, updates: int) -> tuple[int, int]:
    """Number of images and of epochs of a training with so many updates.

    All images are used if there are at least five epochs. Otherwise, some are left out so that epochs are whole.

    Examples:
        >>> length(1000, 100, 57), length(1000, 100, 19), length(1000, 100, 4)
        ((1000, 5), (900, 2), (400, 1))
    """
    per_epoch = max(1, images // batch_size)
    if updates >= _WHOLE_EPOCHS * per_epoch:
        return images, updates // per_epoch
    epochs = -(-max(1, updates) // per_epoch)
    return min(images, max(1, updates // epochs) * batch_size), epochs


class Training(NamedTuple):
    """A completed training.

    Attributes:
        supervisor: The trained algorithm.
        epochs: Number of epochs that were planned.
        updates: Number of updates.
        step_seconds: Measured seconds per update.
    """

    supervisor: Supervisor
    epochs: int
    updates: int
    step_seconds: float


class Trials:
    """Trains algorithms on the same images with the same network, each for a given time.

    Args:
        images: The images.
        groups: Groups of the labelled images (images,) for cross-validation.
        backbone: Name of the network, or a network, of which every training gets a copy.
        batch_size: Number of images per update.
        device: Device of the networks.
        num_workers: Number of data-loading worker processes.
        now: Function that returns the time in seconds.

    Attributes:
        evaluation_seconds: Longest evaluation so far, in seconds, which is reserved at the end of each run.
        repeats: Number of repeats of the cross-validation.
    """

    def __init__(
        self,
        images: Images,
        groups: Integers,
        backbone: str | nn.Module,
        batch_size: int,
        device: torch.device,
        num_workers: int = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.images, self.groups, self.backbone = images, groups, backbone
        self.batch_size, self.device, self.num_workers, self.now = batch_size, device, num_workers, now
        self.evaluation_seconds, self.repeats = 0.0, REPEATS
        self._once = Once()

    def supervisor(self, algorithm: type[Supervisor], pixels: Pixels, seed: int, weights: Any = None) -> Supervisor:
        """A supervisor with initial weights that depend on the seed, or the backbone with ``weights``."""
        make: Any = algorithm  # the first argument of every algorithm is the images
        network = self.backbone if isinstance(self.backbone, str) else copy.deepcopy(self.backbone)
        with keyed_randomness(seed, self.device):
            side = pixels.shape[1]
            given: dict[str, Any] = {"backbone": network, "resolution": side, "channels": pixels.shape[3]}
            given |= {} if weights is None else {"weights": weights}
            made: Supervisor = make(pixels, value_range=(0.0, 1.0), **given)
        return made.to(self.device)

    def step_seconds(self, algorithm: type[Supervisor], pixels: Pixels, seconds: float) -> float:
        """Measured seconds per update of an algorithm, from a few updates; infinite if it cannot be trained."""
        count = min(len(pixels), TIMED_STEPS * self.batch_size)
        supervisor = self.supervisor(algorithm, pixels[:count], 0)
        deadline = Deadline(seconds, self.now, self.device, most_steps=TIMED_STEPS)
        self._once.is_quiet = True
        try:
            self._supervise(supervisor, -(-TIMED_STEPS * self.batch_size // count) + 1, 0, deadline)
        finally:
            self._once.is_quiet = False
        return deadline.step_seconds

    def reference(self, name: str, network: nn.Module) -> Row:
        """The row of features that are not trained."""
        begin, row = self.now(), Row(name, REFERENCE)
        self._evaluate(row, network.to(self.device).eval())
        row.seconds = self.now() - begin
        return row

    def run(self, name: str, algorithm: type[Supervisor], stage: int, seed: int, seconds: float) -> Row:
        """Train an algorithm and evaluate its features within ``seconds``. The weights are not kept."""
        begin, row = self.now(), Row(name, stage, seed)
        try:
            self._train_and_evaluate(row, algorithm, seconds)
        except TooSlow as error:
            row.problem = TOO_SLOW
            row.step_seconds = error.step_seconds if math.isfinite(error.step_seconds) else None
        except NonFiniteLoss:
            row.problem = "the loss became infinite or NaN"
        except SuperSelfishError as error:
            row.problem = f"failed: {error}"
        gc.collect()  # frees the memory of the supervisor before the next run
        row.seconds = self.now() - begin
        return row

    def _train_and_evaluate(self, row: Row, algorithm: type[Supervisor], seconds: float) -> None:
        trained = self.train(algorithm, row.seed, seconds - self.evaluation_seconds)
        supervisor, row.epochs, row.updates, row.step_seconds = trained
        begin, held_out = self.now(), self.images.held_out
        if row.stage == 1:
            score = supervisor.evaluate_pretext(held_out, count=len(held_out))
            row.pretext, row.at_chance = str(score), is_at_chance(score, algorithm)
        self._evaluate(row, supervisor.get_backbone())
        self.evaluation_seconds = max(self.evaluation_seconds, self.now() - begin)

    def train(self, algorithm: type[Supervisor], seed: int, seconds: float, weights: Any = None) -> Training:
        """Train an algorithm for ``seconds``, with measuring its speed; from ``weights``, by ``recipe="adapt"``.

        Raises:
            TooSlow: If no update fits.
            NonFiniteLoss: If the loss became infinite or NaN.
        """
        begin, pixels = self.now(), self.images.train
        speed = self.step_seconds(algorithm, pixels, MOST_TIMING * seconds)
        updates = int(_MARGIN * (seconds - (self.now() - begin)) / max(speed, 1e-6))
        if updates < 1:
            raise TooSlow(speed)
        count, epochs = length(len(pixels), self.batch_size, updates)
        chosen = np.sort(KeyedGenerator("subset", seed).permutation(len(pixels))[:count])
        supervisor = self.supervisor(algorithm, pixels[chosen] if count < len(pixels) else pixels, seed, weights)
        deadline = Deadline(seconds - (self.now() - begin), self.now, self.device)
        self._supervise(supervisor, epochs, seed, deadline, "auto" if weights is None else "adapt")
        return Training(supervisor, epochs, len(deadline.times), deadline.step_seconds if deadline.times else speed)

    def _supervise(
        self, supervisor: Supervisor, epochs: int, seed: int, deadline: Deadline, recipe: Recipes = "auto"
    ) -> None:
        logger.addFilter(self._once)
        try:
            with tempfile.TemporaryDirectory(prefix=FOLDER) as folder, contextlib.suppress(TimeUp):
                supervisor.supervise(
                    recipe=recipe,
                    epochs=epochs,
                    batch_size=self.batch_size,
                    num_workers=self.num_workers,
                    name=Path(folder, "run"),
                    seed=seed,
                    callbacks=[deadline],
                    watch=0,
                    checkpoint_every=0,
                    verbose=False,
                )
        finally:
            logger.removeFilter(self._once)

    def _evaluate(self, row: Row, network: nn.Module) -> None:
        images = self.images
        pixels = images.labelled if images.has_labels else images.train[:EVALUATED]
        x, _ = extract_features(network, pixels)
        measured = quality(x)
        row.quality = measured.as_dict()
        if is_degenerate(row.quality):
            row.problem = COLLAPSE
        if images.has_labels:
            found = cross_validated(x, images.labels, self.groups, self.repeats)
            row.knn, row.ridge = found.knn.tolist(), found.ridge.tolist()


def is_at_chance(score: PretextScore, algorithm: type[Supervisor]) -> bool | None:
    """Whether a pretext task was not solved better than by its trivial baseline; None: there is none.

    An accuracy must be better by its 95 % interval, and by :data:`LEARNABLE` more for algorithms that need a canonical
    orientation.
    """
    if score.trivial is None:
        return None
    if score.interval is None:
        return not score.better_than_trivial
    margin = LEARNABLE if algorithm.needs.canonical_orientation else 0.0
    return score.interval[0] <= score.trivial + margin
