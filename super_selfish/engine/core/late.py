"""What stages make once a supervisor is built, and the stored state that waits for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from super_selfish.errors import CheckpointMismatch
from super_selfish.models.combined import resizable_tensors

_KINDS = ("buffer", "tensor")


class LateState:
    """Tells what was made after construction, and keeps the stored state of what is yet to be made.

    Attributes:
        awaited: Tensors of a file by name, whose module, parameter or buffer was not made yet.
        tracked: States of a checkpoint by name, whose thing was not tracked yet.
        replaceable: Names under which a stage of an earlier run tracked something.
        optional: Names of those awaited tensors that are buffers, and stand in until a stage registers them.
    """

    def __init__(self) -> None:
        self.awaited: dict[str, Tensor] = {}
        self.tracked: dict[str, Any] = {}
        self.optional: set[str] = set()
        self.replaceable: set[str] = set()
        self._tracked_now: set[str] | None = None  # by stages of the run; None: outside of a run
        self._known: dict[str, str] = {}
        self._initial: dict[str, torch.Size] | None = None

    @contextlib.contextmanager
    def during_run(self, module: nn.Module) -> Iterator[None]:
        """Within the block, what is made and tracked is a stage's; the next run may track other things by its names."""
        self._tracked_now = set()
        if self._initial is None:
            self._initial = {key: value.shape for key, value in module.state_dict().items()}
        try:
            yield
        finally:
            self.replaceable |= self._tracked_now
            self._tracked_now = None

    def tracks(self, name: str, thing: Any) -> None:
        """Something is tracked: bring it to the state that was stored, if there is one."""
        self.replaceable.discard(name)
        if self._tracked_now is not None:
            self._tracked_now.add(name)
        if name in self.tracked:
            thing.load_state_dict(self.tracked.pop(name))

    def made(self, module: nn.Module) -> dict[str, str]:
        """Tensors made or resized since the first run began, by name: ``"buffer"`` or ``"tensor"``."""
        if self._initial is None:
            return dict(self._known)
        buffers = {name for name, _ in module.named_buffers(recurse=False)}
        resizable = resizable_tensors(module)
        found = {
            key: "buffer" if key in buffers else "tensor"
            for key, value in module.state_dict().items()
            if self._initial.get(key) != value.shape and key not in resizable
        }
        return self._known | found

    def expect(self, module: nn.Module, tensors: Mapping[str, Tensor], late: Mapping[str, str]) -> dict[str, Tensor]:
        """Set aside the tensors of a file that a stage has yet to make or to resize.

        Args:
            module: The supervisor.
            tensors: Of the file, by name.
            late: What :meth:`made` returned when it was written.

        Returns:
            The tensors that are to be loaded now, under the names that ``module`` has.
        """
        self._known = {str(key): kind for key, kind in late.items() if kind in _KINDS}
        own = module.state_dict()
        fixed = {key: value for key, value in tensors.items() if key not in self._known}
        for key in self._known.keys() & tensors.keys():
            if key in own and own[key].shape == tensors[key].shape:
                fixed[key] = tensors[key]
                continue
            self.awaited[key] = tensors[key]
            if key in own:
                fixed[key] = own[key]  # as it is, until a stage resizes it
        return fixed

    def receive(self, other: LateState) -> None:
        """Take over what another has set aside."""
        self.awaited, self.optional, self._known = other.awaited, other.optional, other._known

    def stand_in(self, module: nn.Module) -> None:
        """Give the module the buffers that are awaited, so that they can be read before a stage registers them."""
        names = [key for key in self.awaited if self._known[key] == "buffer" and "." not in key]
        held, self.awaited = self.awaited, {}  # what follows is not a stage's doing
        for name in names:
            device = next((value.device for value in module.parameters()), torch.device("cpu"))
            value = held[name].to(device, copy=True)
            if hasattr(module, name):  # registered as None, or in another size
                setattr(module, name, value)
                del held[name]
            else:
                module.register_buffer(name, value)
                self.optional.add(name)
        self.awaited = held

    def take(self, module: nn.Module) -> None:
        """Copy awaited tensors into those that have been made since."""
        if self.awaited:
            waiting = {key: value for key, value in self.awaited.items() if key not in self.optional}
            for key in copy_fitting(module, waiting):
                del self.awaited[key]

    def registered(self, module: nn.Module, name: str) -> None:
        """A stage has registered a buffer or parameter of this name."""
        self.optional.discard(name)
        self.take(module)

    def check(self, origin: str) -> None:
        """Make sure, after the first step, that nothing of a file was left aside.

        Raises:
            CheckpointMismatch: With what no stage has made.
        """
        for name in self.optional:
            self.awaited.pop(name, None)
        self.optional = set()
        left = sorted([*self.awaited, *self.tracked])
        if left:
            raise CheckpointMismatch(
                f"`{origin}` was read for this training, but no stage has made what it holds.",
                expected=", ".join(left[:8]),
                received="modules of other names or shapes, or none",
                fix="Make them before the first step, as when the file was written, or start over.",
            )


def copy_fitting(module: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Copy tensors in place into those of a module that have the same name and shape; returns their names."""
    own = module.state_dict()
    fitting = [key for key, value in tensors.items() if key in own and own[key].shape == value.shape]
    with torch.no_grad():
        for key in fitting:
            own[key].copy_(tensors[key])
    return fitting
