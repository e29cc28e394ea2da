"""The five stages of training, and the hooks beside them: everything that a subclass may override."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from super_selfish.engine.core.expected_loss import CollapseRisk, ExpectedLoss
from super_selfish.engine.core.facts import Facts
from super_selfish.engine.core.returned import split_loss
from super_selfish.engine.optim.optimizers import OptimizerFactory
from super_selfish.engine.optim.schedules import SchedulerFactory
from super_selfish.evaluation.pretext import PretextScore, loss_score
from super_selfish.loading.collate import Collate
from super_selfish.loading.loader import TrainLoader
from super_selfish.pretext.preview import Preview, inputs_only
from super_selfish.renamed import SupervisorNames


class Stages(SupervisorNames, Facts):
    """Stages and hooks by name; :class:`~super_selfish.engine.supervisor.Supervisor` implements the stages."""

    @abstractmethod
    def _load_pretrained(self, name: str | os.PathLike[str], pretrained: bool) -> None:
        """Stage 1: load weights from ``name`` if ``pretrained``."""

    @abstractmethod
    def _init_data_optimizer(
        self,
        optimizer: OptimizerFactory,
        batch_size: int,
        shuffle: bool,
        num_workers: int,
        collate_fn: Collate | None,
        lr: float,
        lr_scheduler: SchedulerFactory,
    ) -> tuple[Any, torch.optim.Optimizer, Any]:
        """Stage 2: make the loader, the optimizer and the schedule, returned in this order."""

    @abstractmethod
    def _epochs(
        self, epochs: int, train_loader: Iterable[Any], optimizer: torch.optim.Optimizer, lr_scheduler: Any
    ) -> None:
        """Stage 3: the loop over epochs and batches."""

    @abstractmethod
    def _forward(self, data: Any) -> Tensor:
        """Stage 4: the loss of one batch, which is on the device."""

    @abstractmethod
    def _update(self, loss: Tensor, optimizer: torch.optim.Optimizer, lr_scheduler: Any) -> None:
        """Stage 5: gradients, and once the whole batch has been seen, the step of optimizer and schedule."""

    @property
    @abstractmethod
    def uses_default_update(self) -> bool:
        """Whether ``_update`` is the library's own."""

    @property
    @abstractmethod
    def accumulates(self) -> bool:
        """Whether a batch can be split into micro-batches; a custom ``_epochs`` or ``_update`` cannot."""

    pretext_chunk = 250  # largest number of images that `evaluate_pretext` compares with each other

    @property
    def decomposable(self) -> bool:
        """Whether the loss of a batch is the mean of the losses of its parts."""
        return True

    @property
    def splits_batches(self) -> bool:
        """Whether a batch can be split into micro-batches, with the same loss."""
        return self.accumulates and self.decomposable

    def _collapse_risk(self, batch_size: int) -> CollapseRisk | None:  # noqa: ARG002 - for subclasses
        """Hook: how embeddings can collapse, for algorithms that compare them; None: they cannot.

        Args:
            batch_size: Number of images per step, at least 2.
        """
        return None

    def _expected_loss(self) -> ExpectedLoss:
        """Hook: how the loss behaves in a healthy training."""
        return ExpectedLoss()

    def _hints(self, recipe: str | None, updates: int) -> list[str]:  # noqa: ARG002 - for subclasses
        """Hook: warnings about settings that do not suit a run.

        Args:
            recipe: The training recipe, if there is one.
            updates: Updates of the run; 0 if that is not known.
        """
        return []

    def _prepare(self, train_loader: TrainLoader) -> None:
        """Hook: size what depends on the loader, before the first epoch."""

    def _after_update(self) -> None:
        """Hook: follow an update of the weights (moving averages, queues, banks)."""

    def _followers(self) -> dict[str, nn.Module]:
        """Hook: for each attribute that holds an average of a network, that network.

        The average becomes a copy of the network when training begins with weights that were set by other means.
        """
        return {}

    def _skip_update(self) -> None:
        """Hook: an update is left out: forget what :meth:`_after_update` was going to use."""

    def _follow_images(self, before: npt.NDArray[np.int64] | None, now: npt.NDArray[np.int64] | None) -> None:
        """Hook: training continues with other images than before; keys of both, where they have names."""

    def _score_pretext(self, data: Any, draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        """Hook: the score of the pretext task on a batch, and that of the trivial baseline.

        Without an override: the loss, beside the loss at chance level if :meth:`_expected_loss` has one.

        Args:
            data: A batch of at most ``pretext_chunk`` images, as ``_forward`` receives it.
            draw_again: Returns the same images in another batch, with other random augmentations.
        """
        loss, _ = split_loss(type(self)._forward(self, data))  # not the loss of a training in progress
        return loss_score(loss.item(), self._expected_loss().chance)

    def _preview(self, data: Any) -> Preview:
        """Hook: what :meth:`preview` shows of a batch; predictions only once ``self.train_state.step`` is above 0."""
        return self._exhibit(data)

    def _exhibit(self, data: Any) -> Preview:
        """The name of :meth:`_preview` in 0.1.0, for classes that define it."""
        return inputs_only(type(self).__name__, data)
