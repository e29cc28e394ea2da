"""Detection of training steps, also with custom optimizers and loops."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from super_selfish.engine.optim.optimizers import parameters_of, stored_optimizers
from super_selfish.errors import ConfigurationError

logger = logging.getLogger("super_selfish")

_SHOWN = 4  # maximum number of logged parameter names


class SpentGradients:
    """Clears gradients that a step has used, before the next backward pass would add to them."""

    def __init__(self) -> None:
        self._spent: list[Tensor] = []
        self._attached: set[int] = set()
        self._handles: list[Any] = []

    def attach(self, parameters: Iterable[Tensor]) -> None:
        """Register hooks that run in each backward pass through these parameters; at most one for each."""
        new = {id(weight): weight for weight in parameters if id(weight) not in self._attached}
        self._attached |= new.keys()
        self._handles += [
            weight.register_hook(self._on_gradient)  # type: ignore[no-untyped-call]
            for weight in new.values()
        ]

    def detach(self) -> None:
        """Remove the hooks."""
        self._attached.clear()
        while self._handles:
            self._handles.pop().remove()

    def add(self, parameters: Iterable[Tensor]) -> None:
        """Mark parameters whose gradients a step has used."""
        self._spent += parameters

    def drop(self) -> None:
        """Clear the gradients of marked parameters."""
        spent, self._spent = self._spent, []
        for weight in spent:
            weight.grad = None

    def _on_gradient(self, _gradient: Tensor) -> None:
        if self._spent:
            self.drop()


class Updates:
    """Observes the steps of all optimizers of a module, and groups those of several optimizers into one update.

    An update is complete when every parameter of the known optimizers has been stepped. Reading another batch, or
    stepping a parameter again, also completes it.

    Args:
        module: The module whose parameters are trained.
        optimizers: Optimizers that are known from the beginning.
        before_step: Called before each step, with the optimizer and the arguments of ``step()``.
        complete: Called when an update is complete.
        is_idle: Returns whether no batch was read or trained on since the last update.
        spent: Receives the parameters of each step.
        after_step: Called after each step.

    Attributes:
        seen: Optimizers that have stepped and were not passed to the constructor.
        known_ids: Identities of the parameters of the known optimizers, and of those that have stepped.
        is_open: Whether an optimizer has stepped since the last complete update.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizers: Sequence[Optimizer],
        before_step: Callable[..., None],
        complete: Callable[[], None],
        is_idle: Callable[[], bool],
        spent: SpentGradients,
        after_step: Callable[[], None],
    ) -> None:
        self.module = module
        self.known = list(optimizers)
        self.seen: list[Optimizer] = []
        self.is_open = self._is_paused = self._is_changed = False
        self._before_step, self._complete, self._is_idle, self._spent = before_step, complete, is_idle, spent
        self._after_step = after_step
        self.known_ids = {id(weight) for each in optimizers for weight in parameters_of(each)}
        self._stepped: dict[int, Tensor] = {}
        self._within: list[Optimizer] = []
        self._reported: set[int] | None = None  # parameters named in a warning; None: before the first update
        self._unreported: set[int] = set()
        self._outside: list[Tensor] | None = None  # reset when another optimizer steps
        self._ignored: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Register hooks on all optimizers."""
        self._handles.append(register_optimizer_step_pre_hook(self._before))
        self._handles.append(register_optimizer_step_post_hook(self._after))

    def detach(self) -> None:
        """Remove the hooks."""
        self._report()
        while self._handles:
            self._handles.pop().remove()

    @property
    def within_step(self) -> bool:
        """Whether ``step()`` of an optimizer is running, for example in its closure."""
        return bool(self._within)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context manager: ignore steps, which belong to the update that is being completed."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def leave_steps(self) -> None:
        """Discard steps that raised an exception."""
        self._within.clear()

    def close(self) -> list[Tensor]:
        """End an update, and return the parameters that were stepped."""
        stepped = list(self._stepped.values())
        self._stepped.clear()
        self.is_open = False
        return stepped

    def restore(self, seen: Iterable[Optimizer], known_ids: Iterable[int]) -> None:
        """Forget optimizers whose steps were undone.

        Args:
            seen: The optimizers in :attr:`seen` before these steps.
            known_ids: The :attr:`known_ids` before them.
        """
        self.seen, self.known_ids, self._outside = list(seen), set(known_ids), None

    def outside(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Return parameters that are in no optimizer; logs each of those with gradients once, at the next update.

        Gradients are looked at after the first update, and after :meth:`parameters_changed`.

        Args:
            parameters: All parameters that require a gradient.
        """
        if self._outside is None:
            own = self.known_ids | {
                id(weight) for each in stored_optimizers(self.module) for weight in parameters_of(each)
            }
            self._outside = [weight for weight in parameters if id(weight) not in own]
        self._report()  # an optimizer that stepped after the last update may have them
        if self._reported is None or self._is_changed:
            self._is_changed, self._reported = False, self._reported or set()
            self._unreported = {id(weight) for weight in self._outside if weight.grad is not None}
        return self._outside

    def parameters_changed(self) -> None:
        """Look at all parameters again in the next update: some were frozen, unfrozen or added."""
        self._outside, self._is_changed = None, True

    def _report(self) -> None:
        outside, self._unreported = self._unreported - self.known_ids - (self._reported or set()), set()
        self._reported = None if self._reported is None else self._reported | outside
        names = [name for name, weight in self.module.named_parameters() if id(weight) in outside]
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            shown = ", ".join(names[:_SHOWN]) + more
            logger.warning("Parameters that are in no optimizer are not trained: %s.", shown)

    def _counts(self, optimizer: Optimizer) -> bool:
        """Whether an optimizer has parameters of the module."""
        if any(optimizer is each for each in (*self.known, *self.seen)):
            return True
        if optimizer in self._ignored:
            return False
        own = {id(weight) for weight in self.module.parameters()}
        if any(id(weight) in own for weight in parameters_of(optimizer)):
            return True
        self._ignored.add(optimizer)
        return False

    def _before(self, optimizer: Optimizer, *given: Any) -> None:
        if self._is_paused or not self._counts(optimizer):
            return
        outermost = not self._within
        if outermost and any(id(weight) in self._stepped for weight in parameters_of(optimizer)):
            self._complete()
        self._before_step(optimizer, *given)
        self._within.append(optimizer)

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        if self._is_paused or not self._within or not self._counts(optimizer):
            return
        self._within.pop()
        if self._within:
            return  # called by the step of another optimizer
        self._after_step()
        stepped = {id(weight): weight for weight in parameters_of(optimizer)}
        self._spent.add(stepped.values())
        is_new = not self.known_ids.issuperset(stepped)
        if is_new:
            self.known_ids |= stepped.keys()
            self._outside = None
        if not any(optimizer is each for each in (*self.known, *self.seen)):
            self.seen.append(optimizer)
        if is_new and not self.is_open and self._is_idle():
            return  # belongs to the update that is already complete
        self._stepped |= stepped
        self.is_open = True
        if self.known_ids <= self._stepped.keys():
            self._complete()


class TrainableParameters:
    """Parameters of a module that require a gradient; they may be frozen, unfrozen or added during training.

    Args:
        module: The module.

    Attributes:
        present: The parameters at the last call of :meth:`renew`.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._all = list(module.parameters())
        self.present = [weight for weight in self._all if weight.requires_grad]

    def reread(self) -> None:
        """Read the parameters of the module again, which takes longer than reading whether they are frozen."""
        self._all = list(self.module.parameters())

    def renew(self) -> list[Tensor] | None:
        """Update :attr:`present`. Returns the new ones; None if nothing has changed."""
        before = self.present
        now = [weight for weight in self._all if weight.requires_grad]
        if len(now) == len(before) and all(one is other for one, other in zip(now, before, strict=True)):
            return None
        self.present, known = now, {id(weight) for weight in before}
        return [weight for weight in now if id(weight) not in known]


class UntrackedChange:
    """Detects weights that change without an optimizer step.

    Args:
        parameters: The trainable parameters.
    """

    def __init__(self, parameters: TrainableParameters) -> None:
        self.parameters = parameters
        self._previous: list[Tensor] | None = None

    def forget(self) -> None:
        """Forget the compared weights, after a step was observed."""
        self._previous = None

    def check(self, *, expected: bool) -> None:
        """Compare the weights with those at the last call, if no step was observed since.

        Args:
            expected: Whether a change is allowed, because nothing was trained.

        Raises:
            ConfigurationError: If they changed and no change is allowed.
        """
        present = [each for each in self.parameters.present if not isinstance(each, nn.UninitializedParameter)]
        if self._previous is None or expected or len(present) != len(self._previous):
            self._previous = [weight.detach().clone() for weight in present]
            return
        pairs = zip(self._previous, present, strict=True)
        if any(before.shape != now.shape or not torch.equal(before, now.detach()) for before, now in pairs):
            raise ConfigurationError(
                "The weights changed without a step of an optimizer, so no step would be counted or stored.",
                expected="step() of a torch.optim.Optimizer for each update of the weights",
                received="an update by hand, or by other methods of the optimizer than step()",
                fix="Call self.stepped() after each such update.",
            )
