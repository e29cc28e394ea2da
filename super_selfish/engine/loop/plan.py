"""The length of a run: planned and resumed steps, remaining time, and requests to end it early."""

from __future__ import annotations

from super_selfish.distributed.tensors import gather_objects
from super_selfish.engine.core.clock import Clock
from super_selfish.errors import ConfigurationError
from super_selfish.loading.loader import TrainLoader


class EndOfTraining(BaseException):
    """Ends the loop over epochs when a callback requested it; not an error."""


class RunPlan:
    """The length of a run.

    Args:
        loader: The training loader.
        epochs: Number of epochs planned for this call of ``supervise``.
        resumed_epochs: Number of epochs of the training that earlier calls completed.

    Attributes:
        steps: Number of steps in this call so far.
        discarded_steps: Number of steps that were skipped because of infinite values.
        finished_epochs: Number of epochs completed in this call.
        clock: Durations of steps and epochs.
        stop_reason: Why the training ends early, on which all processes agree; None: it does not.
    """

    def __init__(self, loader: TrainLoader, epochs: int, resumed_epochs: int = 0) -> None:
        self.loader = loader
        self.epochs = epochs
        self.resumed_epochs = resumed_epochs
        self.steps = self.discarded_steps = 0
        self.finished_epochs = 0
        self.clock = Clock()
        self.stop_reason: str | None = None
        self._requested: str | None = None
        self._begun_at = loader.train_state.batch
        self._passes = 0

    @property
    def resumed_steps(self) -> int:
        """Number of steps, at one step per batch, that were made before this call resumed the training."""
        return self.resumed_epochs * self.loader.batches + self._begun_at

    @property
    def planned_steps(self) -> int:
        """Number of steps planned for this call, at one step per batch."""
        return self.epochs * self.loader.batches - self._begun_at

    def seconds_left(self) -> float:
        """Estimated remaining time in seconds, at the average speed so far."""
        return self.clock.seconds_per_step * max(0, self.planned_steps - self.steps)

    def count_pass(self) -> None:
        """Count a pass over the data.

        Raises:
            ConfigurationError: If there was no step in two of them; after one, a step for all batches may follow.
        """
        self._passes += 1
        if self._passes > 1:
            self.check_trained()

    def check_trained(self) -> None:
        """Check that there was a step, unless none was planned or all were skipped.

        Raises:
            ConfigurationError: If there was none.
        """
        if self.steps or self.discarded_steps or not self.epochs or self.stop_reason:
            return
        raise ConfigurationError(
            "The training made no step of an optimizer, so nothing was trained or saved.",
            expected="loss.backward() and optimizer.step() for each batch, in `_update` or `_epochs`",
            received=f"passes over the data: {self._passes}, steps: 0",
            fix="If an overridden stage updates the weights by hand, call self.stepped() after each update.",
        )

    def request_stop(self, reason: str) -> None:
        """End the training after this epoch as if it were complete; ``reason`` is printed."""
        self._requested = self._requested or reason

    def share_stop_request(self) -> None:
        """Let all processes stop if one of them requested it; called at the beginning and after each epoch."""
        self.stop_reason = next((reason for reason in gather_objects(self._requested) if reason), None)

    def describe_resumption(self) -> str:
        """From which step the training continues."""
        steps, epochs = self.resumed_steps + self.planned_steps, self.resumed_epochs + self.epochs
        return f"continuing after step {self.resumed_steps} of {steps}, in epoch {self.resumed_epochs + 1} of {epochs}."

    def describe_interruption(self, what: str, stored: int | None, wanted: bool) -> str:
        """How to continue an interrupted training, and from which step.

        Args:
            what: What happened, such as ``"Interrupted"``.
            stored: ``train_state.step`` of the newest checkpoint; None: there is none.
            wanted: Whether checkpoints are enabled.
        """
        step = self.resumed_steps + self.steps
        what = f"{what} after step {step} of {self.resumed_steps + self.planned_steps}."
        if stored is None:
            return f"{what} No checkpoint was written{'' if wanted else ', because of checkpoint_every=0'}."
        lost = self.loader.train_state.step - stored
        where = f"after step {step - lost}" if lost else "from here"
        return f"{what} To continue {where}, call supervise(..., resume=True) with the same arguments."

    def describe_early_end(self) -> str:
        """After which epoch the training ends, and why."""
        epochs = self.resumed_epochs + self.epochs
        return f"Training ends after epoch {self.resumed_epochs + self.finished_epochs} of {epochs}: {self.stop_reason}"
