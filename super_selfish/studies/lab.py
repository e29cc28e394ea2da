"""Networks of a study: how each arm is made, trained and scored."""

from __future__ import annotations

import contextlib
import functools
import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from super_selfish.comparison.images import shrink
from super_selfish.comparison.published import as_published
from super_selfish.comparison.references import untrained_network
from super_selfish.comparison.trials import TooSlow, Trials
from super_selfish.engine.core.starting_weights import StartingWeights
from super_selfish.errors import NonFiniteLoss, SuperSelfishError
from super_selfish.evaluation import extract_features, linear_probe, quality
from super_selfish.evaluation.baseline import is_degenerate
from super_selfish.evaluation.score import Integers
from super_selfish.models.initialization import initialised_copy
from super_selfish.models.named import named_backbone
from super_selfish.seeding import keyed_randomness
from super_selfish.studies.cohort import ALL, Cohort
from super_selfish.studies.plan import Costs, StudyPlan
from super_selfish.studies.records import ADAPTED, PROBE, PUBLISHED, TRAINED, TUNED, UNTRAINED, Hits, StudyRow
from super_selfish.studies.tuning import FineTuning, OutOfTime
from super_selfish.supervisors import Supervisor

_SAMPLE = 256  # number of images for a measurement of the speed

Rows = npt.NDArray[Any]


class Lab:
    """Makes, trains and scores the networks of a study.

    Args:
        cohort: The images.
        algorithm: The algorithm of pretraining.
        backbone: Name of the network, or a network whose weights are drawn anew for each seed.
        weights: Published weights; None: there are none.
        batch_size: Number of images per update.
        device: Device of the networks.
        num_workers: Number of data-loading worker processes.
        now: Function that returns the time in seconds.
    """

    def __init__(
        self,
        cohort: Cohort,
        algorithm: type[Supervisor],
        backbone: str | nn.Module,
        weights: Any,
        batch_size: int,
        device: torch.device,
        num_workers: int = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cohort, self.algorithm, self.backbone, self.weights = cohort, algorithm, backbone, weights
        self.device, self.now = device, now
        none = np.zeros(0, np.int64)
        self.trials = Trials(cohort.images, none, backbone, batch_size, device, num_workers, now)
        self._tuning: FineTuning | None = None
        self._starting: StartingWeights | None = None

    def shrink(self, side: int) -> None:
        """Average all images to a smaller side."""
        self.cohort.images = self.trials.images = self.cohort.images.shrunk(side)
        self._tuning = None

    def update_seconds(self, side: int, seconds: float) -> float:
        """Measured seconds per update of pretraining; infinite if there is none within ``seconds``."""
        images, size = self.cohort.images, self.trials.batch_size
        pixels = images.train[: 8 * size]
        self.trials.backbone = self.scratch(0)
        return self.trials.step_seconds(self.algorithm, shrink(pixels, side) if side < images.side else pixels, seconds)

    def costs(self, counts: list[int], update: float, limit: float) -> Costs:
        """Measured durations of the scores of an untrained network, from a sample of the images.

        Args:
            counts: Numbers of labels per class, ascending.
            update: Seconds per update of pretraining.
            limit: Duration of a probe above which those with more labels are extrapolated, in seconds.
        """
        network, pixels = self.network(UNTRAINED, 0), self.cohort.images.labelled
        begin = self.now()
        sample = self.features(network, _SAMPLE)
        extract, probe = (self.now() - begin) * len(pixels) / len(sample), dict[int, float]()
        generator = np.random.default_rng(0)
        x = sample[generator.integers(len(sample), size=len(pixels))]
        x = x + 0.5 * x.std(0) * generator.standard_normal(x.shape, np.float32)
        last = 0.0
        for count in counts:
            images = len(self.cohort.drawn(count, 0))
            if probe and last > limit:
                probe[count] = last * images / len(self.cohort.drawn(next(reversed(probe)), 0))
                last = probe[count]
                continue
            begin = self.now()
            self.probe(x, count, 0)
            probe[count] = last = self.now() - begin
        return Costs(update, extract, probe, self.tuning.step_seconds(network, self.cohort.train))

    def run(
        self, arm: str, seed: int, seconds: float, plan: StudyPlan, rates: dict[str, float], end: float
    ) -> StudyRow:
        """Make a network of an arm and score it.

        Args:
            arm: Name of the arm.
            seed: Random seed of initial weights and pretraining.
            seconds: Duration of the pretraining.
            plan: What is scored.
            rates: Learning rates of fine-tuning that were chosen for this arm before; empty: they are chosen now.
            end: Time at which no further score is begun; those of the first draw are made in any case.
        """
        begin, row = self.now(), StudyRow(arm, seed, rates=dict(rates))
        network = self.trained(row, seconds) if arm in TRAINED else self.network(arm, seed)
        if network is not None:
            self.score(row, network, plan, end)
        gc.collect()  # frees the memory of the networks before the next run
        row.seconds = self.now() - begin
        return row

    def network(self, arm: str, seed: int) -> nn.Module:
        """The network of an arm without pretraining."""
        images = self.cohort.images
        if arm == PUBLISHED:
            self._starting = self._starting or StartingWeights(
                self.weights, self.backbone, images.preprocessing.resolution
            )
            return as_published(self._starting, str(self.backbone), images.preprocessing).to(self.device)
        make = functools.partial(self.scratch, seed)
        return untrained_network(make, images, seed, self.device).to(self.device)

    def scratch(self, seed: int) -> nn.Module:
        """The network with random weights of a seed."""
        with keyed_randomness(seed, self.device):
            if isinstance(self.backbone, str):
                return named_backbone(self.backbone, self.cohort.images.train.shape[3])
            return initialised_copy(self.backbone)[0]

    def trained(self, row: StudyRow, seconds: float) -> nn.Module | None:
        """The network after pretraining; None if it failed, which is stored in the row."""
        try:
            return self.pretrained(row, seconds)
        except TooSlow:
            row.problem = "too slow: no update of pretraining fits into its time"
        except NonFiniteLoss:
            row.problem = "the loss of pretraining became infinite or NaN"
        except SuperSelfishError as error:
            row.problem = f"failed: {error}"
        return None

    def pretrained(self, row: StudyRow, seconds: float) -> nn.Module:
        """The network after pretraining.

        Raises:
            TooSlow: If no update fits into the time.
            SuperSelfishError: If the training fails.
        """
        begin = self.now()
        is_adapted = row.arm == ADAPTED
        self.trials.backbone = self.backbone if is_adapted else self.scratch(row.seed)
        weights = self.weights if is_adapted else None
        supervisor, row.epochs, row.updates, _ = self.trials.train(self.algorithm, row.seed, seconds, weights)
        row.pretraining = self.now() - begin
        return supervisor.get_backbone()

    def score(self, row: StudyRow, network: nn.Module, plan: StudyPlan, end: float) -> None:
        """Add all scores of the plan to a row."""
        x = self.features(network)
        if is_degenerate(quality(x).as_dict()):
            row.problem = "representation collapse"
        for draw in range(plan.draws):
            for count in plan.counts:
                if count == ALL and draw:
                    continue
                if draw and self.now() > end:
                    row.skipped += 1
                    continue
                row.add(PROBE, count, draw, self.probe(x, count, draw))
        if row.arm in plan.tuned_arms:
            for draw in range(plan.tuned_draws):
                for count in plan.tuned:
                    if not (count == ALL and draw):
                        with contextlib.suppress(OutOfTime):
                            row.skipped += 1  # until it is done
                            self.tune(row, network, count, draw, plan.steps, end)
                            row.skipped -= 1

    def features(self, network: nn.Module, count: int | None = None) -> Rows:
        """Features of all labelled images, or of the first ``count`` (images, dim)."""
        return extract_features(network.to(self.device), self.cohort.images.labelled[:count])[0]

    def probe(self, x: Rows, count: int, draw: int) -> Hits:
        """Whether a linear probe on features classifies each test image correctly."""
        cohort = self.cohort
        chosen, labels = cohort.drawn(count, draw), cohort.labels
        groups = cohort.groups[chosen] if cohort.has_groups else None
        score = linear_probe(x[chosen], labels[chosen], x[cohort.test], labels[cohort.test], draw, groups=groups)
        return np.zeros(0, np.bool_) if score.correct is None else score.correct

    def tune(self, row: StudyRow, network: nn.Module, count: int, draw: int, steps: int, end: float) -> None:
        """Fine-tune a network on a draw of the labels, and score it.

        Raises:
            OutOfTime: If the time is over.
        """
        chosen: Integers = self.cohort.drawn(count, draw)
        key = str(count)
        if key not in row.rates:
            row.rates[key] = self.tuning.best_rate(network, chosen, steps, row.seed, end)
        model = self.tuning.train(network, chosen, row.rates[key], steps, row.seed, end)
        row.add(TUNED, count, draw, self.tuning.hits(model, self.cohort.test))

    @property
    def tuning(self) -> FineTuning:
        """Fine-tuning on the labelled images."""
        if self._tuning is None:
            cohort = self.cohort
            groups = cohort.groups if cohort.has_groups else None
            size, pixels = self.trials.batch_size, cohort.images.labelled
            self._tuning = FineTuning(pixels, cohort.labels, groups, size, self.device, self.now)
        return self._tuning
