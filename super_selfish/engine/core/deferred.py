"""Deferred loading of state that stages create after construction.

A stage such as ``_init_data_optimizer`` may register modules, parameters and buffers. When a file is loaded, these do
not exist yet. Their stored state is kept here and loaded as soon as they are created.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from super_selfish.errors import CheckpointMismatch
from super_selfish.models.combined import resizable_tensors, tensors_of

_KINDS = ("buffer", "tensor")


class DeferredState:
    """Records which tensors were created after construction, and keeps stored state until its owner is created.

    Attributes:
        pending: Loaded tensors whose parameter or buffer does not exist yet, by name.
        pending_tracked: Loaded states of objects that :meth:`Supervisor.track` has not received yet, by name.
        replaceable: Names that stages of earlier runs tracked, and that may be tracked again.
        placeholders: Names of pending buffers that are registered temporarily, until a stage registers them.
    """

    def __init__(self) -> None:
        self.pending: dict[str, Tensor] = {}
        self.pending_tracked: dict[str, Any] = {}
        self.placeholders: set[str] = set()
        self.replaceable: set[str] = set()
        self._tracked_now: set[str] | None = None  # in the current run; None outside of a run
        self._kinds: dict[str, str] = {}
        self._initial_shapes: dict[str, torch.Size] | None = None

    @contextlib.contextmanager
    def during_run(self, module: nn.Module) -> Iterator[None]:
        """Context manager of a run: names that are tracked within it may be tracked again in the next run."""
        self._tracked_now = set()
        if self._initial_shapes is None:
            self._initial_shapes = {key: value.shape for key, value in tensors_of(module).items()}
        try:
            yield
        finally:
            self.replaceable |= self._tracked_now
            self._tracked_now = None

    def on_track(self, name: str, thing: Any) -> None:
        """Called when an object is tracked: load its pending state, if any."""
        self.replaceable.discard(name)
        if self._tracked_now is not None:
            self._tracked_now.add(name)
        if name in self.pending_tracked:
            thing.load_state_dict(self.pending_tracked.pop(name))

    def created_tensors(self, module: nn.Module) -> dict[str, str]:
        """Return tensors created or resized since the first run began, by name: ``"buffer"`` or ``"tensor"``."""
        if self._initial_shapes is None:
            return dict(self._kinds)
        buffers = {name for name, _ in module.named_buffers(recurse=False)}
        resizable = resizable_tensors(module)
        found = {
            key: "buffer" if key in buffers else "tensor"
            for key, value in tensors_of(module).items()
            if self._initial_shapes.get(key) != value.shape and key not in resizable
        }
        return self._kinds | found

    def defer(self, module: nn.Module, tensors: Mapping[str, Tensor], created: Mapping[str, str]) -> dict[str, Tensor]:
        """Keep the tensors of a file that a stage is yet to create or resize.

        Args:
            module: The supervisor.
            tensors: All tensors of the file, by name.
            created: Result of :meth:`created_tensors` when the file was written.

        Returns:
            The tensors to load now, by their names in ``module``.
        """
        self._kinds = {str(key): kind for key, kind in created.items() if kind in _KINDS}
        own = tensors_of(module)
        loadable = {key: value for key, value in tensors.items() if key not in self._kinds}
        for key in self._kinds.keys() & tensors.keys():
            if key in own and own[key].shape == tensors[key].shape:
                loadable[key] = tensors[key]
                continue
            self.pending[key] = tensors[key]
            if key in own:
                loadable[key] = own[key]  # unchanged until a stage resizes it
        return loadable

    def copy_from(self, other: DeferredState) -> None:
        """Copy the pending tensors of another instance."""
        self.pending, self.placeholders, self._kinds = other.pending, other.placeholders, other._kinds

    def register_placeholders(self, module: nn.Module) -> None:
        """Register pending buffers, so that they can be read before a stage registers them."""
        names = [key for key in self.pending if self._kinds[key] == "buffer" and "." not in key]
        pending, self.pending = self.pending, {}  # so that registering a placeholder loads nothing
        for name in names:
            device = next((value.device for value in module.parameters()), torch.device("cpu"))
            value = pending[name].to(device, copy=True)
            if hasattr(module, name):  # registered as None, or in another size
                setattr(module, name, value)
                del pending[name]
            else:
                module.register_buffer(name, value)
                self.placeholders.add(name)
        self.pending = pending

    def load_pending(self, module: nn.Module) -> None:
        """Load pending tensors whose parameters or buffers exist by now."""
        if self.pending:
            waiting = {key: value for key, value in self.pending.items() if key not in self.placeholders}
            for key in copy_fitting(module, waiting):
                del self.pending[key]

    def on_register(self, module: nn.Module, name: str) -> None:
        """Called when a buffer or parameter is registered: load pending tensors."""
        self.placeholders.discard(name)
        self.load_pending(module)

    def check_all_loaded(self, origin: str) -> None:
        """Check after the first step that all pending state was loaded.

        Args:
            origin: Name of the training, for the error message.

        Raises:
            CheckpointMismatch: If state is left; the message names it.
        """
        for name in self.placeholders:
            self.pending.pop(name, None)
        self.placeholders = set()
        left = sorted([*self.pending, *self.pending_tracked])
        if left:
            raise CheckpointMismatch(
                f"`{origin}` contains the state of modules, buffers or tracked objects that no stage has created.",
                expected=", ".join(left[:8]),
                received="modules of other names or shapes, or none",
                fix="Create them before the first step, as in the training that wrote the file, or start over.",
            )


def copy_fitting(module: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Copy tensors in place to those of a module with the same name and shape, and return their names."""
    own = {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    fitting = [key for key, value in tensors.items() if key in own and own[key].shape == value.shape]
    with torch.no_grad():
        for key in fitting:
            own[key].copy_(tensors[key])
    return fitting
