"""The five stages of training and the hooks: all methods that a subclass may override."""

from __future__ import annotations

import difflib
import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.expected_loss import CollapseRisk, ExpectedLoss
from super_selfish.engine.core.facts import Facts
from super_selfish.engine.core.identity import is_defined_with, is_mean, library_class
from super_selfish.engine.core.returned import split_loss
from super_selfish.engine.optim.optimizers import OptimizerFactory
from super_selfish.engine.optim.schedules import SchedulerFactory
from super_selfish.errors import ConfigurationError
from super_selfish.evaluation.pretext import PretextScore, loss_score
from super_selfish.loading.collate import Collate
from super_selfish.loading.loader import TrainLoader
from super_selfish.pretext.preview import Preview, inputs_only
from super_selfish.renamed import SupervisorNames

logger = logging.getLogger("super_selfish")

_SIMILAR = 0.8  # of names, from 0 to 1


class Stages(SupervisorNames, Facts):
    """Interface of stages and hooks; :class:`~super_selfish.engine.supervisor.Supervisor` implements the stages."""

    _run: Any  # the run in progress, or None
    _frozen_norms: tuple[nn.Module, ...] = ()  # batch norm that stays in eval mode in training
    _trained_norms: tuple[nn.Module, ...] | None = None  # batch norm without gradients that a run has trained

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
        """Stage 2: return the loader, the optimizer and the schedule, in this order."""

    @abstractmethod
    def _epochs(
        self, epochs: int, train_loader: Iterable[Any], optimizer: torch.optim.Optimizer, lr_scheduler: Any
    ) -> None:
        """Stage 3: the loop over epochs and batches."""

    @abstractmethod
    def _forward(self, data: Any) -> Tensor:
        """Stage 4: return the loss of a batch, which is on the device."""

    @abstractmethod
    def _update(self, loss: Tensor, optimizer: torch.optim.Optimizer, lr_scheduler: Any) -> None:
        """Stage 5: compute gradients; after the last micro-batch, step the optimizer and the schedule."""

    @property
    @abstractmethod
    def uses_default_update(self) -> bool:
        """Whether ``_update`` is not overridden."""

    @property
    @abstractmethod
    def accumulates(self) -> bool:
        """Whether the loop supports micro-batches; a custom ``_epochs`` or ``_update`` does not."""

    def sync_gradients(self) -> None:
        """Average the gradients over processes, for an update without ``step()`` of a torch optimizer.

        Call it after ``backward()`` and before the gradients are used, on all processes. It has no effect in a single
        process. ``step()`` of torch optimizers calls it anyway.

        Raises:
            ConfigurationError: If no training is in progress, or a parameter has a gradient on some processes only.
        """
        self._run_in_progress("sync_gradients()").sync_gradients()

    def stepped(self) -> None:
        """Count an update of the weights that was made without ``step()`` of a torch optimizer.

        Call it in a custom ``_epochs`` or ``_update``, once after each such update. Progress, moving averages, queues,
        banks and checkpoints are updated. Steps of torch optimizers are counted anyway; after them, it has no effect.
        Among several processes, call :meth:`sync_gradients` before each update.

        Raises:
            ConfigurationError: If no training is in progress, or the gradients were not averaged over processes.
            NonFiniteLoss: If the loss is infinite or NaN.
        """
        self._run_in_progress("stepped()").stepped()

    def _run_in_progress(self, caller: str) -> Any:
        if self._run is None:
            raise ConfigurationError(f"`{caller}` works within `supervise()` only.")
        return self._run

    pretext_chunk = 250  # maximum batch size of `evaluate_pretext`

    @property
    def decomposable(self) -> bool:
        """Whether the loss of a batch is the mean of the losses of its parts."""
        return True

    @property
    def splits_batches(self) -> bool:
        """Whether a batch can be split into micro-batches without changing the loss.

        With a custom ``_forward`` or criterion this is unknown, and therefore False, unless its class defines
        ``decomposable``.
        """
        if not (self.accumulates and self.decomposable):
            return False
        cls = type(self)
        of_library = cls._forward.__module__.startswith("super_selfish.") and "_forward" not in vars(self)
        described = not of_library and is_defined_with(cls, "decomposable", "_forward")
        criteria = [getattr(self, name) for name in ("loss", "fake_loss") if hasattr(self, name)]
        return described or (of_library and all(map(is_mean, criteria)))

    def _collapse_risk(self, batch_size: int) -> CollapseRisk | None:  # noqa: ARG002 - for subclasses
        """Hook: the collapse risk of algorithms that compare embeddings; None: no collapse.

        Args:
            batch_size: Number of images per step, at least 2.
        """
        return None

    def _expected_loss(self) -> ExpectedLoss:
        """Hook: the expected behaviour of the loss."""
        return ExpectedLoss()

    def _hints(self, recipe: str | None, updates: int) -> list[str]:  # noqa: ARG002 - for subclasses
        """Hook: return warnings about unsuitable settings of a run.

        Args:
            recipe: Name of the training recipe, or None.
            updates: Number of steps of the run; 0: unknown.
        """
        return []

    def _prepare(self, train_loader: TrainLoader) -> None:
        """Hook: create state that depends on the loader (queue, bank), before the first epoch."""

    def _after_update(self) -> None:
        """Hook: update moving averages, queues and banks after each step."""

    def _followers(self) -> dict[str, nn.Module]:
        """Hook: return the source network of each moving average, by the attribute name of the average.

        If weights were set by other means than training, averages are reset to copies when training begins.
        """
        return {}

    def _skip_update(self) -> None:
        """Hook: discard the state kept for :meth:`_after_update`, because the step is skipped."""

    def _follow_images(self, before: npt.NDArray[np.int64] | None, now: npt.NDArray[np.int64] | None) -> None:
        """Hook: training resumes on changed images; gets the keys of the old and new images, or None."""

    def _score_pretext(self, data: Any, draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        """Hook: return the score of the pretext task on a batch, and that of the trivial baseline.

        By default, the score is the loss, and the baseline its chance level in :meth:`_expected_loss`.

        Args:
            data: A batch of at most ``pretext_chunk`` images, as ``_forward`` receives it.
            draw_again: Returns a batch of the same images with different random augmentations.
        """
        loss, _ = split_loss(type(self)._forward(self, data))  # not counted by a run in progress
        return loss_score(loss.item(), self._expected_loss().chance)

    def _preview(self, data: Any) -> Preview:
        """Hook: return the preview of a batch; with predictions only if ``self.train_state.step`` is above 0."""
        return self._exhibit(data)

    def _exhibit(self, data: Any) -> Preview:
        """Former name of :meth:`_preview` (0.1.0), for subclasses that define it."""
        return inputs_only(type(self).__name__, data)


def warn_of_misspelt(supervisor: Any, callbacks: Iterable[Any]) -> None:
    """Log a warning for each method of user-defined classes whose name is almost that of a stage, hook or event."""
    library = library_class(type(supervisor))
    methods = [name for name, value in vars(Stages).items() if isinstance(value, FunctionType)]
    stages = [name for name in methods if name.startswith("_") and not name.startswith("__")]
    own = own_methods(type(supervisor), library)
    for name in own:
        if name == "forward" and "_forward" not in own:
            _warn(supervisor, name, "_forward")
        elif name.startswith("_") and not hasattr(library, name):
            _warn_if_similar(supervisor, name, [stage for stage in stages if stage not in own])
    events = [name for name in vars(Callback) if name.startswith("on_")]
    for callback in callbacks:
        own = own_methods(type(callback), Callback)
        for name in own:
            if name.startswith("on_") and name not in events:
                _warn_if_similar(callback, name, events, similar=0.5)


def own_methods(cls: type, library: type) -> set[str]:
    """Return the names of the methods that user-defined classes between ``cls`` and ``library`` define."""
    bases = [base for base in cls.__mro__ if base is not library and not issubclass(library, base)]
    return {name for base in bases for name, value in vars(base).items() if isinstance(value, FunctionType)}


def _warn_if_similar(thing: Any, name: str, known: list[str], similar: float = _SIMILAR) -> None:
    if found := difflib.get_close_matches(name, known, 1, similar):
        _warn(thing, name, found[0])


def _warn(thing: Any, name: str, known: str) -> None:
    logger.warning("`%s.%s` is not called in training. Did you mean `%s`?", type(thing).__name__, name, known)
