"""Attributes of a supervisor: the library's own, those that a user sets, and what is stored of them."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any, Generic, TypeVar, overload

from torch import Tensor, nn
from typing_extensions import Self

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.engine.core.late import LateState
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.core.stages import Stages
from super_selfish.errors import ConfigurationError, check_argument
from super_selfish.loading.loader import TrainState
from super_selfish.models.combined import CombinedNet

Value = TypeVar("Value")


def check_network(model: object) -> None:
    """Make sure that a model is a ``CombinedNet``.

    Raises:
        ConfigurationError: If it is not.
    """
    if not isinstance(model, CombinedNet):
        raise ConfigurationError(
            "A supervisor trains a backbone with a predictor behind it.",
            expected="model=CombinedNet(backbone, predictor)",
            received=type(model).__name__,
        )


class Shown(Generic[Value]):
    """A public name of a private attribute; an attribute that a user sets under that name hides it, and nothing else.

    Args:
        private: The attribute that the library uses.
    """

    def __init__(self, private: str) -> None:
        self.private = private

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: nn.Module, owner: type) -> Value: ...

    def __get__(self, instance: nn.Module | None, owner: type) -> Any:
        if instance is None:
            return self
        children = dict(instance.named_children())  # a user's module is not found before this descriptor
        return children[self.name] if self.name in children else getattr(instance, self.private)


class Attributes(Stages):
    """Keeps what the library and its users set on a supervisor apart, and stores what has state."""

    history = Shown[list[dict[str, Any]]]("_history")
    train_state = Shown[TrainState]("_cursor")
    skipped = Shown[dict[int, str]]("_skipped")
    forecast = Shown[Any]("_forecast")
    settings = Shown[Settings | None]("_settings")
    run = Shown[Any]("_run")
    run_id = Shown[str]("_run_id")
    stored = Shown[dict[str, Any]]("_stored")
    tracked = Shown[dict[str, Any]]("_tracked")
    _run: Any
    _tracked: dict[str, Any]
    _late: LateState

    def __setattr__(self, name: str, value: Any) -> None:
        self._check_attribute(name, value)
        super().__setattr__(name, value)
        if isinstance(value, nn.Module):
            self._take_late()

    def _check_attribute(self, name: str, value: Any) -> None:
        """Refuse to replace what the library calls by something else.

        Raises:
            ConfigurationError: With the name of the attribute.
        """
        kinds: dict[str, Any] = {
            "model": CombinedNet,
            "average": CombinedNet | None,
            "preprocessing": Preprocessing,
        }
        if isinstance(value, nn.Module) and isinstance(dict(self.named_children()).get(name), CombinedNet):
            kinds[name] = CombinedNet  # a target network, say
        if name in kinds and not isinstance(value, kinds[name]):
            raise ConfigurationError(
                f"`{name}` is an attribute of the library's.",
                expected=str(getattr(kinds[name], "__name__", kinds[name])),
                received=f"{name}={type(value).__name__}",
                fix="Wrap networks as CombinedNet(backbone, predictor), or use another name.",
            )
        owner = next((cls for cls in type(self).__mro__ if name in vars(cls)), None)
        if owner is None or not owner.__module__.startswith("super_selfish."):
            return
        found = inspect.getattr_static(owner, name)
        read_only = isinstance(found, property) and found.fset is None
        is_method = isinstance(found, FunctionType | classmethod | staticmethod)
        if read_only or (is_method and (not callable(value) or isinstance(value, nn.Module))):
            raise ConfigurationError(
                f"`{name}` is a {'property' if read_only else 'method'} of every supervisor.",
                expected="another name for an attribute of your own",
                received=f"{name}={type(value).__name__}",
                fix="Call `.to(device)` to move a supervisor." if name == "device" else None,
            )

    # What is stored

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a buffer, with its state in the file that was loaded if there is one."""
        super().register_buffer(name, tensor, persistent)
        self._take_late(name)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a parameter, with its state in the file that was loaded if there is one."""
        super().register_parameter(name, param)
        self._take_late(name)

    def _take_late(self, registered: str = "") -> None:
        late: LateState | None = vars(self).get("_late")
        if late is not None:
            late.registered(self, registered)

    def track(self, name: str, thing: Any) -> Any:
        """Store something with every checkpoint: what has state, and is neither a module nor a buffer.

        A later call of ``supervise`` may track another thing under a name that a stage of an earlier one used.

        Args:
            name: Its name in the checkpoint.
            thing: With ``state_dict()``, of tensors, numbers, strings, lists and dictionaries, and
                ``load_state_dict()``.

        Returns:
            The thing.

        Raises:
            ConfigurationError: If it has no such methods, or the name is taken.
        """
        complete = all(callable(getattr(thing, method, None)) for method in ("state_dict", "load_state_dict"))
        check_argument(complete, "thing", thing, "something with state_dict() and load_state_dict()")
        present = self._tracked.get(name, thing)
        if present is not thing and name not in self._late.replaceable:
            raise ConfigurationError(
                f"`{name}` is tracked already.",
                expected="a name that is not taken",
                received=f"track({name!r}, ...) of a {type(present).__name__} and of a {type(thing).__name__}",
            )
        self._tracked[name] = thing
        self._late.tracks(name, thing)
        return thing
