"""The runs of a comparison in their order: references, stage 1, stage 2."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from super_selfish.comparison import decisions
from super_selfish.comparison.budget import LEAST_UPDATES, Algorithms, Budget, Plan, cost, make_plan, shares
from super_selfish.comparison.images import Images, applicable, fingerprint, shrink
from super_selfish.comparison.published import as_published
from super_selfish.comparison.records import REFERENCE, Row, RunLog
from super_selfish.comparison.references import OrientedGradients, PrincipalComponents, untrained_network
from super_selfish.comparison.result import UNTRAINED, Comparison, percent
from super_selfish.comparison.trials import EVALUATED, Trials
from super_selfish.comparison.validation import folds, joint_groups, repeats_for
from super_selfish.comparison.verdict import verdict
from super_selfish.engine.callbacks.displays import print_line
from super_selfish.engine.callbacks.progress import duration
from super_selfish.errors import ConfigurationError
from super_selfish.evaluation.baseline import Pixels
from super_selfish.evaluation.features import as_network_input
from super_selfish.evaluation.score import Integers
from super_selfish.models.named import named_backbone
from super_selfish.storage.published import PublishedWeights
from super_selfish.supervisors import Supervisor
from super_selfish.version import __version__

_TIMING = 0.02  # fraction of the budget for a measurement of the speed
_LEAST_TIMING = 2.0  # seconds
_FORWARD = 0.4  # duration of the features of a batch, in updates of an algorithm with a relative cost of 1
_REFERENCES = 4  # number of references with labels, apart from the user's
_LEAST_SHARE = 0.3  # a training is left out if less than this fraction of its time is left


class Running:
    """The runs of a comparison, in order: references, stage 1, stage 2. Stored runs are not repeated."""

    def __init__(
        self,
        log: RunLog[Row],
        budget: Budget,
        images: Images,
        algorithms: Algorithms,
        backbone: str | nn.Module,
        batch_size: int,
        device: torch.device,
        num_workers: int,
        seed: int,
        verbose: bool,
    ) -> None:
        self.log, self.budget, self.images, self.backbone, self.device = log, budget, images, backbone, device
        self.seed, self.verbose = seed, verbose
        self.batch_size = max(2, min(batch_size, len(images.train) // 4))
        self.read = {"images": len(images.train) + len(images.held_out), "labelled": len(images.labels)}
        self.groups: Integers = np.zeros(0, np.int64)
        if images.has_labels:
            self.groups = joint_groups(len(images.labels), [fingerprint(one) for one in images.labelled], images.groups)
            folds(images.labels, self.groups, 0)  # raises if there is one group
        self.algorithms, self.excluded = applicable(algorithms, images, self.batch_size)
        self.trials = Trials(images, self.groups, backbone, self.batch_size, device, num_workers, budget.now)
        self.trials.repeats = repeats_for(len(images.labels), budget.seconds)

    def compare(
        self,
        references: Mapping[str, nn.Module],
        published: Mapping[str, tuple[str, PublishedWeights]],
        *,
        may_shrink: bool,
    ) -> Comparison:
        """All runs and the result."""
        if not self.algorithms:
            raise ConfigurationError(
                "No algorithm is applicable to these images.",
                received="; ".join(f"{name}: {reason}" for name, reason in self.excluded.items()),
            )
        if self.log.plan is None:
            self.log.set_plan(dataclasses.asdict(self.plan(may_shrink)) | self.read)
        plan = self.stored_plan()
        if plan.side < self.images.side:
            self.images = self.trials.images = self.images.shrunk(plan.side)
        self.print(plan.forecast(self.budget.seconds))
        self.references(references, published)
        if not any(row.stage for row in self.log.rows):  # from here on, the share is fixed
            share = max(0.0, self.budget.left) / shares(len(plan.algorithms), plan.seeds)
            self.log.set_plan({**(self.log.plan or {}), "share": share})
            plan = self.stored_plan()
        first = self.stage(1, plan.algorithms, [self.seed], plan.share)
        rows = [
            row
            for row in first
            if row.name not in decisions.dropped(first, self.untrained, self.groups, self.algorithms)
        ]
        if plan.seeds and rows:
            best = decisions.finalists(rows, self.algorithms)
            seeds = [self.seed + 1 + number for number in range(plan.seeds)]
            if "final_share" not in (self.log.plan or {}):
                share = max(0.0, self.budget.left) / (len(best) * len(seeds))
                self.log.set_plan({**(self.log.plan or {}), "final_share": share})
            self.stage(2, best, seeds, (self.log.plan or {})["final_share"])
        found = Comparison.of(
            self.log.rows,
            self.algorithms,
            self.groups,
            self.excluded | {name: too_slow(updates) for name, updates in plan.left_out.items()},
            notes=[*self.images.notes, *plan.notes],
            conditions=self.conditions(),
            seconds=self.budget.used,
            budget=self.budget.seconds,
        )
        found.verdict = verdict(found, self.algorithms)
        return found

    def conditions(self) -> list[str]:
        """Images, labels and groups, and the settings of all trainings."""
        images = self.images
        backbone = self.backbone if isinstance(self.backbone, str) else type(self.backbone).__name__
        return [
            f"{len(images.train):,} images for training, and {len(images.held_out):,} held out for pretext tasks.",
            images.describe_labelled(),
            f"Budget {duration(self.budget.seconds)}, {images.side} px, {images.train.shape[3]} channels, batch size "
            f"{self.batch_size}, seed {self.seed}, {backbone}, {self.device}, super_selfish {__version__}.",
        ]

    def stored_plan(self) -> Plan:
        """The plan in the file."""
        fields = {each.name for each in dataclasses.fields(Plan)}
        return Plan(**{key: value for key, value in (self.log.plan or {}).items() if key in fields})

    def plan(self, may_shrink: bool) -> Plan:
        """Measure the speed of one algorithm, and divide the budget."""
        measured = self.yardstick
        pixels, limit = self.images.train[: 8 * self.batch_size], max(_LEAST_TIMING, _TIMING * self.budget.seconds)

        def step_seconds(side: int) -> float:
            small = shrink(pixels, side) if side < self.images.side else pixels
            return self.trials.step_seconds(measured, small, limit) / cost(measured)

        images = self.images
        evaluated = len(images.held_out) + (len(images.labels) or min(EVALUATED, len(images.train)))
        return make_plan(
            self.algorithms,
            self.budget.seconds,
            self.budget.left,
            images.side,
            step_seconds,
            is_labelled=images.has_labels,
            may_shrink=may_shrink,
            evaluation=_FORWARD * evaluated / self.batch_size,
            references=_REFERENCES if images.has_labels else 1,
        )

    @property
    def yardstick(self) -> type[Supervisor]:
        """The algorithm whose speed stands for all: the slowest first choice, which is never left out.

        The cheapest one would not do: on a CPU, its updates consist of augmentations for the most part, and relative
        costs of networks do not apply to these.
        """
        first = [algorithm for algorithm in self.algorithms.values() if algorithm.first_choice]
        return max(first, key=cost) if first else min(self.algorithms.values(), key=cost)

    @property
    def untrained(self) -> Row | None:
        """The row of the untrained network."""
        return self.log.find(stage=REFERENCE, name=UNTRAINED)

    def references(self, given: Mapping[str, nn.Module], published: Mapping[str, tuple[str, PublishedWeights]]) -> None:
        """Score features that the comparison does not train; without labels, the untrained network alone."""
        networks: dict[str, Callable[[], nn.Module]] = {UNTRAINED: self.network}
        if self.images.has_labels:
            networks |= {"pixels": Pixels, "principal components": self.components, "HOG": OrientedGradients}
        networks |= {name: functools.partial(copy.deepcopy, network) for name, network in given.items()}
        for name, (backbone, weights) in published.items():
            networks[name] = functools.partial(as_published, weights, backbone, self.images.preprocessing)
        for name, make in networks.items():
            if self.log.find(stage=REFERENCE, name=name) is None:
                network = make()
                self.store(self.trials.reference(name, network), "reference")
        row = self.untrained
        self.trials.evaluation_seconds = max(self.trials.evaluation_seconds, row.seconds if row is not None else 0.0)

    def network(self) -> nn.Module:
        """The network without training."""
        if not isinstance(self.backbone, str):
            return copy.deepcopy(self.backbone)
        make = functools.partial(named_backbone, self.backbone, self.images.train.shape[3])
        return untrained_network(make, self.images, self.seed, self.device)

    def components(self) -> nn.Module:
        """Principal components of the images for training."""
        return PrincipalComponents(as_network_input(list(self.images.train[:2000]), self.images.preprocessing))

    def stage(self, stage: int, names: Sequence[str], seeds: Sequence[int], share: float) -> list[Row]:
        """Train algorithms with every seed for a share each, while there is time."""
        rows = []
        for seed in seeds:
            for name in names:
                row = self.log.find(stage=stage, name=name, seed=seed)
                seconds = min(share, self.budget.left)
                if row is None and seconds < _LEAST_SHARE * share:
                    self.images.notes.append(f"No time was left for {name} in stage {stage}.")
                    continue
                if row is None:
                    row = self.trials.run(name, self.algorithms[name], stage, seed, seconds)
                    self.store(row, f"stage {stage}")
                rows.append(row)
        return rows

    def store(self, row: Row, what: str) -> None:
        """Store a run, and print it."""
        row.used = self.budget.used
        self.log.add(row)
        shown = " ".join(part for part in (row.problem and f"{row.problem};", percent(row.score), row.pretext) if part)
        shown = shown.removesuffix(";")
        trained = f" {row.updates:,} updates," if row.updates else ""
        left = duration(max(0.0, self.budget.seconds - self.budget.used))
        self.print(f"{what}: {row.name}:{trained} {duration(row.seconds)}: {shown} ({left} left)")

    def print(self, text: str) -> None:
        """Print a line to stderr."""
        if self.verbose:
            print_line(text)


def too_slow(updates: int) -> str:
    """Why an algorithm is left out that would make so few updates."""
    return f"not enough time: about {updates:,} update{'' if updates == 1 else 's'}, fewer than {LEAST_UPDATES}"
