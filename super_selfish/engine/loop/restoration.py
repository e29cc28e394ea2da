"""Steps that are undone by restoring the weights, such as those of a learning-rate finder, are not training."""

from __future__ import annotations

import copy
import logging
import weakref
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.clock import Clock
from super_selfish.engine.loop.guard import Guard
from super_selfish.engine.loop.losses import EpochLosses
from super_selfish.engine.loop.updates import TrainableParameters, Updates
from super_selfish.loading.loader import TrainLoader
from super_selfish.models.averages import MomentumSchedule
from super_selfish.models.combined import CombinedNet

logger = logging.getLogger("super_selfish")

_MAX_STEPS = 1000  # after this many steps, restored weights no longer undo them
_COUNTERS = ("steps", "finished_epochs", "epoch_ended", "_stepped", "_was_made", "_by_hand")


class StepWriter(Callback):
    """A callback that writes checkpoints."""

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of this run after a step."""
        raise NotImplementedError


class Restorable(Protocol):
    """The interface of a run for undone steps."""

    supervisor: SupervisorBase
    loader: TrainLoader
    losses: EpochLosses
    updates: Updates
    guard: Guard
    clock: Clock
    optimizers: tuple[Optimizer, ...]
    steps: int
    finished_epochs: int
    _parameters: TrainableParameters


class _Copy:
    """Weights and progress before a step, on the CPU.

    Args:
        run: The run.
    """

    def __init__(self, run: Restorable) -> None:
        supervisor, loader, losses = run.supervisor, run.loader, run.losses
        present = [each for each in run._parameters.present if not isinstance(each, nn.UninitializedParameter)]
        self.weights = [(weight, _copied(weight)) for weight in present]
        left_out = {id(weight) for weight in present}
        for network in supervisor.children():
            if any(id(weight) in left_out for weight in network.parameters()) or isinstance(network, CombinedNet):
                left_out |= set(map(id, network.buffers()))  # forward passes have changed them already
        own = supervisor.state_dict(keep_vars=True)
        self._tensors = {
            key: _copied(value) for key, value in own.items() if isinstance(value, Tensor) and id(value) not in left_out
        }
        self._schedules = [
            (each, each.state_dict()) for each in supervisor._tracked.values() if isinstance(each, MomentumSchedule)
        ]
        self._recorded, self._history = supervisor._recorded_weights, len(supervisor._history)
        self.train_state = copy.copy(supervisor._train_state)
        self._counters = {name: getattr(run, name) for name in _COUNTERS}
        self._pass, self._read = loader._pass, loader._pass.read
        self._losses = (losses.total, losses.count, dict(losses.logs))
        self._images, self._skipped = run.clock.images, run.guard.skipped
        self._optimizers, self._known = list(run.updates.seen), set(run.updates.known_ids)

    @property
    def steps(self) -> int:
        """Number of steps of the run."""
        return int(self._counters["steps"])

    @property
    def finished_epochs(self) -> int:
        """Number of epochs that the run has finished."""
        return int(self._counters["finished_epochs"])

    def equals_weights(self) -> bool:
        """Whether the weights are those of the copy; usually decided by the first of them."""
        return all(torch.equal(kept, weight.detach().cpu()) for weight, kept in self.weights)

    @torch.no_grad()
    def restore(self, run: Restorable, *, same_batch: bool) -> None:
        """Restore progress, moving averages, queues and banks.

        Args:
            run: The run.
            same_batch: Whether no batch was read since the copy was made.
        """
        supervisor, loader, own = run.supervisor, run.loader, run.supervisor.state_dict()
        for key, value in self._tensors.items():
            if key in own and own[key].shape == value.shape:
                own[key].copy_(value)
        for schedule, state in self._schedules:
            schedule.load_state_dict(state)
        supervisor._recorded_weights = self._recorded
        del supervisor._history[self._history :]
        vars(supervisor._train_state).update(vars(self.train_state))
        for name, value in self._counters.items():
            setattr(run, name, value)
        run.losses.total, run.losses.count, run.losses.logs = self._losses
        run.clock.images, run.guard.skipped = self._images, self._skipped
        run.updates.restore(self._optimizers, self._known)
        loader.pass_ended = False
        loader._pass.read = self._read if same_batch and loader._pass is self._pass else 0
        supervisor._skip_update()
        run.guard.snapshot()


class Restoration:
    """Undoes what was counted for steps after which the loop restores the weights.

    Weights and progress are copied before the first step of each optimizer, except in the library's own loop. If the
    weights change and are those of the copy again, the steps since then were no training. Steps of an optimizer that
    the run has from the beginning can be undone within an epoch only.

    Args:
        run: The run.
        checkpointer: Writes the checkpoints of the run.
    """

    def __init__(self, run: Restorable, checkpointer: StepWriter) -> None:
        self._run, self._checkpointer = run, checkpointer
        self._begun: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._copy: _Copy | None = None
        self._changed = self._is_within_epoch = False
        self._reads = 0

    def on_read(self) -> None:
        """Called when a batch is read."""
        self._reads += 1

    def before_step(self, optimizer: Optimizer) -> None:
        """Copy weights and progress before the first step of an optimizer."""
        run = self._run
        if optimizer in self._begun or run.updates.is_open:
            return
        self._begun.add(optimizer)
        is_planned = any(optimizer is each for each in run.optimizers)
        if is_planned and run.supervisor.accumulates:
            self._copy = None
            return
        self._copy, self._changed, self._is_within_epoch, self._reads = _Copy(run), False, is_planned, 0

    def after_step(self) -> None:
        """Observe whether a step has changed the weights."""
        if self._copy is None:
            return
        ended = self._is_within_epoch and self._run.finished_epochs > self._copy.finished_epochs
        if ended or self._run.steps - self._copy.steps > _MAX_STEPS:
            self._copy = None
        else:
            self._changed = self._changed or not self._copy.equals_weights()

    def undo_restored(self, *, over: bool = False) -> None:
        """Undo the steps since the copy if the weights were restored.

        Args:
            over: Whether the loop has ended; a complete epoch then stays, as the loop may restore the best weights.
        """
        run, before = self._run, self._copy
        if before is None or not self._changed or not before.equals_weights():
            return
        if (over or self._is_within_epoch) and run.finished_epochs > before.finished_epochs:
            return
        undone = run.steps - before.steps
        before.restore(run, same_batch=self._reads == 0)
        for weight, _ in before.weights:
            weight.grad = None
        self._checkpointer.forget_after(before.train_state.step)
        self._copy, self._changed = None, False
        self._begun.clear()
        logger.info(
            "The weights are those before the last %d steps again, so these steps do not count as training.", undone
        )


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()
