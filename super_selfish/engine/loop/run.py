"""One run of training: what happens between the stages, whoever wrote them.

Nothing here needs the loop: the optimizer's hooks and the loader's iterator drive it, so a user's own ``_epochs`` or
``_update`` is watched, counted and protected like ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from signal import Signals
from typing import Any, Protocol

import torch
from torch import Tensor

from super_selfish.distributed import current, mean_of_ranks, world
from super_selfish.distributed.tensors import communication_device
from super_selfish.engine.core.callback import Callback, call_all
from super_selfish.engine.core.clock import Clock
from super_selfish.engine.loop.guard import Guard
from super_selfish.engine.loop.precision import Precision
from super_selfish.engine.loop.signals import Stop
from super_selfish.engine.optim.optimizers import lay_out_gradients, refuse_closure
from super_selfish.errors import ConfigurationError
from super_selfish.loading.loader import TrainLoader, TrainState

_END = object()


class Trainee(Protocol):
    """What a run needs of a supervisor."""

    _history: list[dict[str, Any]]
    _forecast: Any

    def _after_update(self) -> None: ...

    def _skip_update(self) -> None: ...


class MonitoredLoader:
    """The loader that ``_epochs`` iterates: it times the wait for each batch and marks the boundary between steps.

    Everything else is the loader's own: ``len()``, ``batch_size``, ``dataset``, ``peek()``.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __len__(self) -> int:
        return len(self._run.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run.loader, name)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._run.loader)
        while True:
            self._run.close_boundary()
            before = time.perf_counter()
            try:
                data = next(batches, _END)
            except Exception:
                self._run.stop.handle()  # the signal that ends this process may have ended those that read
                raise
            self._run.clock.wait(time.perf_counter() - before)
            if data is _END:
                self._run.close_pass()
                return
            yield data


class Run:
    """Counts, protects and reports one call of ``supervise``.

    Args:
        supervisor: What is trained.
        loader: Where batches come from.
        optimizer: Whose steps are the heart-beat.
        epochs: Planned in this call.
        callbacks: Told of every step and epoch.
        checkpointer: The callback that writes checkpoints.
        precision: In which networks compute.
        guard: Looks at losses and gradients before each update.
        stop: Tells whether the run is to stop.
        averaging: Called after each update: follows the weights.

    Attributes:
        losses: Sum of the losses of the epoch's updates; None before the first.
        count: How many batches that sum is of.
        pending: Sum of the losses of the update under way.
        pending_count: How much of a batch that is of.
        agreed: Whether all processes know that they are to stop.
    """

    def __init__(
        self,
        supervisor: Trainee,
        loader: TrainLoader,
        optimizer: torch.optim.Optimizer,
        epochs: int,
        callbacks: Sequence[Callback],
        *,
        checkpointer: Callback | None = None,
        precision: Precision | None = None,
        guard: Guard | None = None,
        stop: Stop | None = None,
        averaging: Callable[[], None] | None = None,
    ) -> None:
        self.supervisor = supervisor
        self.loader = loader
        self.optimizer = optimizer
        self.epochs = epochs
        self.callbacks = tuple(callbacks)
        self.checkpointer = Callback() if checkpointer is None else checkpointer
        self.precision = Precision("32", torch.device("cpu")) if precision is None else precision
        self.guard = Guard("raise", 0) if guard is None else guard
        self.stop = Stop() if stop is None else stop
        self.averaging = averaging
        self.clock = Clock()
        self.steps = 0
        self.finished_epochs = 0
        self._begin = time.perf_counter()
        self._begun_at = loader.train_state.batch
        self.losses: Tensor | None = None
        self.pending: Tensor | None = None
        self.count = self.pending_count = 0.0
        self._stepped = self._left_out = self._exchanged = False
        self.agreed = False
        self._handles: list[Any] = []
        self._begun_callbacks: list[Callback] = []
        self.epoch_ended = False
        self.stored = False

    @property
    def train_state(self) -> TrainState:
        """How far training has come."""
        return self.loader.train_state

    def attach(self) -> None:
        """Hook into the optimizer."""
        self.guard.snapshot()
        self._handles.append(self.optimizer.register_step_pre_hook(self._before_step))
        self._handles.append(self.optimizer.register_step_post_hook(self._after_step))

    def detach(self) -> None:
        """Undo :meth:`attach`."""
        while self._handles:
            self._handles.pop().remove()

    def record_loss(self, loss: Any) -> None:
        """Add a loss that ``_forward`` returned to the epoch's mean, without reading it.

        Raises:
            ConfigurationError: If it is not a scalar tensor with a gradient.
        """
        if not isinstance(loss, Tensor) or loss.ndim != 0 or not loss.requires_grad:
            received = repr(type(loss))
            if isinstance(loss, Tensor):
                received = f"a tensor of shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
            raise ConfigurationError(
                "`_forward` must return the loss.", expected="a scalar tensor with a gradient", received=received
            )
        value = loss.detach().float() * self.loader.share
        self.pending = value if self.pending is None else self.pending + value
        self.pending_count += self.loader.share

    def mean_loss(self) -> float:
        """Mean loss of the epoch so far; makes a GPU wait."""
        count = self.count + self.pending_count
        return (
            sum(float(part) for part in (self.losses, self.pending) if part is not None) / count if count else math.nan
        )

    @property
    def planned_steps(self) -> int:
        """Updates of all epochs of this call, if each of their batches leads to one."""
        return self.epochs * self.loader.batches - self._begun_at

    def seconds_left(self) -> float:
        """Time until the planned epochs are done, at the speed so far."""
        return (time.perf_counter() - self._begin) / max(1, self.steps) * max(0, self.planned_steps - self.steps)

    def emit(self, event: str) -> None:
        """Invoke every callback.

        The checkpointer comes first after a step, so that an error in a callback cannot lose the step, and last after
        every other event, so that what callbacks add to the history is stored.
        """
        first = event == "on_step_end"
        order = (self.checkpointer, *self.callbacks) if first else (*self.callbacks, self.checkpointer)
        call_all(order, event, self, self._begun_callbacks)

    def sync_processes(self) -> None:
        """Among several processes: mean gradients and loss, and whether any of them is to stop; once an update."""
        if world() == 1 or self._exchanged:
            return
        self._exchanged = True
        parameters = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        device = gradients[0].device if gradients else torch.device("cpu")
        asked = torch.tensor([float(self.stop.received is not None)], device=communication_device(device))
        loss = torch.zeros((), device=device) if self.pending is None else self.pending.clone()
        mean_of_ranks([asked, *gradients, loss])
        self.pending = None if self.pending is None else loss
        if float(asked) > 0:
            self.agreed = True
            self.stop.received = self.stop.received or Signals.SIGTERM

    def _before_step(self, optimizer: torch.optim.Optimizer, *given: Any) -> None:
        refuse_closure(*given)
        self.sync_processes()
        lay_out_gradients(optimizer)
        if not self.guard.passes(self, self.pending):
            self.discard_update()
            self._left_out = True

    def overflowed(self) -> None:
        """An update was left out because scaled gradients overflow, or because the loss is not finite at all.

        Raises:
            NonFiniteLoss: If that may not be skipped.
        """
        if self.guard.policy != "ignore" and self.pending is not None and not torch.isfinite(self.pending):
            self.guard.count_nonfinite(self)
        self.discard_update()

    def discard_update(self) -> None:
        """Forget what an update that is not made would have brought with it."""
        self.guard.restore()
        self._exchanged = False
        self.pending, self.pending_count = None, 0.0
        self.supervisor._skip_update()

    def _after_step(self, *_: Any) -> None:
        self.steps += 1
        self._exchanged = False
        before = self.train_state.samples
        self.epoch_ended = self.loader.commit() or self.epoch_ended
        self.clock.images += self.train_state.samples - before
        self._take_losses()
        if not self._left_out:
            with torch.no_grad():
                self.supervisor._after_update()
                if self.averaging is not None:
                    self.averaging()
                self.guard.snapshot()
        self._left_out = False
        self._stepped = True
        current().heartbeat(self.train_state.step)

    def _take_losses(self) -> None:
        if self.pending is not None:
            self.losses = self.pending if self.losses is None else self.losses + self.pending
            self.count += self.pending_count
        self.pending, self.pending_count = None, 0.0

    def close_boundary(self) -> None:
        """Between two steps everything is consistent: report the step, and stop if that is asked for."""
        self.report()
        if self.loader.between_steps and (world() == 1 or self.agreed):
            self.stop.handle()

    def report(self) -> None:
        """Report the step, and the epoch if it is over."""
        if self._stepped:
            self._stepped = False
            self.emit("on_step_end")
            self._close_epoch()

    def close_pass(self) -> None:
        """A pass may end with batches that were read but not trained; the epoch is over all the same."""
        if self.loader.pass_ended:
            self.loader.pass_ended = False
            self.epoch_ended = True
            self._close_epoch()

    def _close_epoch(self) -> None:
        if self.epoch_ended:
            self.epoch_ended = False
            self.finished_epochs += 1
            self.supervisor._history.append(
                {
                    "epoch": self.train_state.epoch,
                    "loss": self.mean_loss(),
                    "images_per_second": self.clock.images_per_second,
                    "data_wait": self.clock.data_wait,
                }
            )
            self.losses, self.count = None, 0.0
            self.pending, self.pending_count = None, 0.0
            self.emit("on_epoch_end")
            self.clock.restart()
