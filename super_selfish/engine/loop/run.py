"""One training run: counting, checks and events around the stages, with custom ``_epochs`` and ``_update`` too.

Hooks of the optimizers and the iterator of the loader drive it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from super_selfish.distributed import current, world
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import Callback, call_all
from super_selfish.engine.core.followers import Followers
from super_selfish.engine.loop.exchange import Exchange
from super_selfish.engine.loop.guard import Guard
from super_selfish.engine.loop.losses import EpochLosses
from super_selfish.engine.loop.plan import EndOfTraining, RunPlan
from super_selfish.engine.loop.precision import Precision
from super_selfish.engine.loop.restoration import Restoration, StepWriter
from super_selfish.engine.loop.signals import Stop
from super_selfish.engine.loop.updates import SpentGradients, TrainableParameters, UntrackedChange, Updates
from super_selfish.engine.optim.optimizers import lay_out_gradients, refuse_closure
from super_selfish.loading.loader import TrainLoader, TrainState
from super_selfish.renamed import RunNames


class Run(RunPlan, RunNames):
    """Counts the steps of one call of ``supervise``, checks them and invokes callbacks.

    Args:
        supervisor: The supervisor that is trained.
        loader: The training loader.
        optimizers: Optimizers that ``_init_data_optimizer`` returned.
        epochs: Number of epochs planned for this call.
        callbacks: Callbacks invoked after every step and epoch.
        start_epoch: Number of epochs of the supervisor before this training began.
        checkpointer: The callback that writes checkpoints.
        precision: Numerical precision of the networks.
        guard: Checks losses and gradients before each step.
        averaging: Function that updates the average of the weights after each step, or None.
        resumed_epochs: Number of epochs of the training that earlier calls completed.

    Attributes:
        stop: Records requests to stop.
        losses: Losses of the epoch and of the current step.
        updates: Observes the steps of all optimizers of the weights.
    """

    def __init__(
        self,
        supervisor: SupervisorBase,
        loader: TrainLoader,
        optimizers: Sequence[torch.optim.Optimizer],
        epochs: int,
        callbacks: Sequence[Callback],
        *,
        start_epoch: int,
        checkpointer: StepWriter,
        precision: Precision,
        guard: Guard,
        averaging: Callable[[], None] | None,
        resumed_epochs: int = 0,
    ) -> None:
        self.supervisor = supervisor
        super().__init__(loader, epochs, resumed_epochs)
        self.optimizers = tuple(optimizers)
        self.start_epoch = start_epoch
        self.callbacks, self.checkpointer = tuple(callbacks), checkpointer
        self.precision, self.guard, self.stop = precision, guard, Stop()
        self.averaging = averaging
        self.losses = EpochLosses()
        self._stepped = self._was_made = self._by_hand = False
        self._exchange = Exchange(supervisor)
        self._begun_callbacks: list[Callback] = []
        self.epoch_ended = self.stored = False
        self._spent = SpentGradients()
        events = (self._before_step, self._complete_update, lambda: loader.between_steps and not self.losses.seen)
        self.restoration = Restoration(self, checkpointer)
        self.updates = Updates(supervisor, optimizers, *events, self._spent, self.restoration.after_step)
        self._parameters = TrainableParameters(supervisor)
        self._untracked_change: UntrackedChange | None = None
        self._followers = Followers(supervisor)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer; the first one if there are several."""
        return self.optimizers[0]

    @property
    def train_state(self) -> TrainState:
        """Training progress."""
        return self.loader.train_state

    def attach(self) -> None:
        """Register hooks on optimizers, and on the weights if the loop or the update is custom."""
        self.guard.snapshot()
        self.updates.attach()
        self._parameters = TrainableParameters(self.supervisor)
        if not self.supervisor.accumulates:
            self._spent.attach(self._parameters.present)
            self._untracked_change = UntrackedChange(self._parameters)

    def detach(self) -> None:
        """Undo :meth:`attach`."""
        self.updates.detach()
        self._spent.detach()

    def record_loss(self, result: Any) -> None:
        """Record the return value of ``_forward``. Its loss counts if its gradient is computed.

        Raises:
            ConfigurationError: If it is not a valid loss.
        """
        appended, self.supervisor._appended = self.supervisor._appended, []
        self.losses.record_loss(result, self.loader.share, self.supervisor.training, appended)

    def mean_loss(self) -> float:
        """Mean loss of the epoch so far; synchronises a GPU."""
        return self.losses.mean()

    def emit(self, event: str) -> None:
        """Invoke an event of every callback.

        After a step, the checkpointer is first, so that an error in a callback cannot lose the step. After other
        events, it is last, so that entries that callbacks add to the history are stored.
        """
        first = event == "on_step_end"
        order = (self.checkpointer, *self.callbacks) if first else (*self.callbacks, self.checkpointer)
        call_all(order, event, self, self._begun_callbacks)

    def sync_processes(self, *optimizers: torch.optim.Optimizer) -> None:
        """Average gradients and loss over processes, and share requests to stop; once per step.

        Args:
            *optimizers: Optimizers of the gradients; default: all that ``_init_data_optimizer`` returned.
        """
        self._exchange.mean(optimizers or self.optimizers, self.losses, self.stop)

    def sync_gradients(self) -> None:
        """Average gradients over processes for an update by hand; see :meth:`Supervisor.sync_gradients`."""
        self._exchange.mean_of(self._parameters.present, self.losses, self.stop)

    def _before_step(self, optimizer: torch.optim.Optimizer, *given: Any) -> None:
        refuse_closure(*given)
        if not self.updates.within_step:
            self.restoration.before_step(optimizer)
        self.sync_processes(optimizer)
        lay_out_gradients(optimizer)
        if self.guard.passes(self, optimizer, self.losses.pending):
            self._was_made = True
        else:
            self.discard_update()

    def overflowed(self) -> None:
        """Handle a step that was skipped because scaled gradients overflow or the loss is not finite.

        Raises:
            NonFiniteLoss: If the loss is not finite and the step must not be skipped.
        """
        self.guard.check_loss(self, self.losses.pending)
        self.discard_update()

    def discard_update(self) -> None:
        """Discard the state of a skipped step."""
        self.discarded_steps += 1
        self.guard.restore()
        self._exchange.begin()
        self.losses.discard()
        self.supervisor._skip_update()

    def stepped(self) -> None:
        """Count an update made without a torch optimizer; see :meth:`Supervisor.stepped`."""
        if self.updates.is_open:
            self._complete_update()
        elif self._by_hand or self.loader.in_batch or self.losses.seen or not self.steps:
            self._exchange.refuse_local_update()
            self._by_hand = True
            self.guard.check_loss(self, self.losses.pending, made=True)
            self._was_made = True
            self._spent.add(self._parameters.present)
            self._complete_update()

    def weights_state(self) -> str:
        """Describe the state of the weights when a step is rejected."""
        if self._by_hand:
            return "The weights hold this update already."
        if self.updates.is_open:
            return "Another optimizer has already stepped on this batch, so the weights hold a part of this update."
        if self._untracked_change is not None:
            return "This step was not made."
        return "The parameters are those before this step, and no file was changed."

    def _complete_update(self) -> None:
        self._spent.add(self.updates.close())
        if (added := self._parameters.renew()) is not None:
            self.updates.parameters_changed()
            self._spent.attach([] if self._untracked_change is None else added)
        self._spent.add([] if self._by_hand else self.updates.outside(self._parameters.present))
        self.steps += 1
        self.clock.step()
        self._exchange.begin()
        self.clock.images -= self.train_state.samples
        self.epoch_ended = self.loader.commit() or self.epoch_ended
        self.clock.images += self.train_state.samples
        self.losses.commit()
        if self._was_made:
            with torch.no_grad(), self.updates.paused():
                self.supervisor._after_update()
                if self.averaging is not None:
                    self.averaging()
                self.guard.snapshot()
        self._was_made, self._stepped = False, True
        if self._untracked_change is not None:
            self._untracked_change.forget()
        current().heartbeat(self.train_state.step)

    def begin_read(self) -> None:
        """Called before a batch is read: completes the step on the previous batch."""
        self.updates.leave_steps()
        if self.updates.is_open:
            self._complete_update()
        self.close_boundary()
        self.restoration.on_read()

    def begin_forward(self) -> None:
        """Called before ``_forward``: completes the last step in a loop that does not use our loader."""
        self.supervisor._appended.clear()
        if self.loader.between_steps and not self.updates.is_open and not self.updates.within_step:
            self.close_boundary()

    def close_boundary(self) -> None:
        """Report the last step, and stop if requested. State is consistent between two steps.

        Raises:
            ConfigurationError: If the weights changed without an optimizer step.
            EndOfTraining: If a callback requested to stop after the epoch that has ended.
        """
        self.restoration.undo_restored()
        self._check_untracked_change()
        self._spent.drop()
        if self.steps == 0:
            self._followers.refresh()
        self.report()
        if self.loader.between_steps and (world() == 1 or self._exchange.agreed):
            self.stop.handle()
        if self.stop_reason and self.loader.between_steps:
            raise EndOfTraining(self.stop_reason)

    def finish(self) -> None:
        """Complete and report the last step, after the loop."""
        if self.updates.is_open:
            self._complete_update()
        self.restoration.undo_restored(over=True)
        self._check_untracked_change(over=True)
        self.check_trained()
        self.report()

    def _check_untracked_change(self, *, over: bool = False) -> None:
        touched = self.loader.in_batch or self.losses.trained
        if self._untracked_change is not None and (touched or self.steps == 0):
            self._untracked_change.check(expected=not (touched or over))

    @property
    def ends_epoch(self) -> bool:
        """Whether the current batch is the last of the epoch."""
        open_end = self.updates.is_open and self.loader.reaches_end
        return self.epoch_ended or self.loader.ends_untrained or open_end

    def report(self) -> None:
        """Invoke callbacks for the last step, and for the epoch if it is complete."""
        if self._stepped:
            self._stepped = False
            self.emit("on_step_end")
            self._close_epoch()

    def close_pass(self) -> None:
        """End the epoch after a pass over the data, even if its last batches were not trained on."""
        self.precision.close_pass()
        self.count_pass()
        if self.loader.pass_ended:
            self.loader.pass_ended = False
            self.epoch_ended = True
            self._close_epoch()

    def _close_epoch(self) -> None:
        if self.epoch_ended:
            self.epoch_ended = False
            self.finished_epochs += 1
            columns = self.losses.close_epoch()
            speed = {"images_per_second": self.clock.images_per_second, "data_wait": self.clock.data_wait}
            entry = {"epoch": self.train_state.epoch, "loss": columns.pop("loss"), **speed, **columns}
            self.supervisor._history.append(entry)
            self._followers.record()
            self.emit("on_epoch_end")
            self._parameters.reread()
            self.share_stop_request()
            self.clock.restart()
