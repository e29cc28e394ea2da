"""Attributes of a supervisor: internal ones, user-defined ones, and those that are stored in checkpoints."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any, Generic, TypeVar, overload

from torch import Tensor, nn
from typing_extensions import Self

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.engine.core.deferred import DeferredState
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.core.stages import Stages
from super_selfish.errors import ConfigurationError, check_argument
from super_selfish.loading.loader import TrainState
from super_selfish.models.combined import CombinedNet

Value = TypeVar("Value")


def check_network(model: object) -> None:
    """Check that a model is a ``CombinedNet``.

    Raises:
        ConfigurationError: If it is not.
    """
    if not isinstance(model, CombinedNet):
        raise ConfigurationError(
            "A supervisor trains a backbone followed by a predictor.",
            expected="model=CombinedNet(backbone, predictor)",
            received=type(model).__name__,
        )


class PublicAlias(Generic[Value]):
    """A public alias of a private attribute.

    The library reads the private attribute only. A user-defined attribute with the public name therefore shadows the
    alias and changes nothing else.

    Args:
        private: Name of the private attribute.
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
        children = dict(instance.named_children())  # nn.Module looks up submodules only after this descriptor
        return children[self.name] if self.name in children else getattr(instance, self.private)


class Attributes(Stages):
    """Separates internal from user-defined attributes of a supervisor, and stores those that have state."""

    history = PublicAlias[list[dict[str, Any]]]("_history")
    """One entry per epoch: epoch, loss, images_per_second, data_wait, and the columns of callbacks."""
    train_state = PublicAlias[TrainState]("_train_state")
    """Training progress over all calls of ``supervise``: epoch, batch, step and samples."""
    skipped = PublicAlias[dict[int, str]]("_skipped")
    """Unreadable images that were skipped, by index, with the reason."""
    forecast = PublicAlias[Any]("_forecast")
    """Predicted time and memory of the last run with at least two steps; None before."""
    settings = PublicAlias[Settings | None]("_settings")
    """Arguments of the last call of ``supervise``; None before."""
    run = PublicAlias[Any]("_run")
    """The last run, as passed to callbacks; None before."""
    run_id = PublicAlias[str]("_run_id")
    """Identifier of the training, kept when it is resumed."""
    stored = PublicAlias[dict[str, Any]]("_stored")
    """What the loaded weights file says about its training."""
    tracked = PublicAlias[dict[str, Any]]("_tracked")
    """State passed to :meth:`track`, by name."""
    _run: Any
    _tracked: dict[str, Any]
    _deferred: DeferredState

    def __setattr__(self, name: str, value: Any) -> None:
        self._check_attribute(name, value)
        super().__setattr__(name, value)
        if isinstance(value, nn.Module):
            self._load_deferred()

    def _check_attribute(self, name: str, value: Any) -> None:
        """Check that an assignment does not break an attribute, property or method that the library uses.

        Raises:
            ConfigurationError: If it does; the message names the attribute.
        """
        kinds: dict[str, Any] = {
            "model": CombinedNet,
            "average": CombinedNet | None,
            "preprocessing": Preprocessing,
            "_train_state": TrainState,
        }
        if isinstance(value, nn.Module) and isinstance(dict(self.named_children()).get(name), CombinedNet):
            kinds[name] = CombinedNet  # for example, a target network
        if name in kinds and not isinstance(value, kinds[name]):
            raise ConfigurationError(
                f"`{name}` is a reserved attribute.",
                expected=str(getattr(kinds[name], "__name__", kinds[name])),
                received=f"{name}={type(value).__name__}",
                fix="Use another name, or wrap networks as CombinedNet(backbone, predictor).",
            )
        is_value = value is not None and not callable(value)
        if name in ("loss", "fake_loss") and is_value and callable(getattr(self, name, None)):
            raise ConfigurationError(
                f"`{name}` is the criterion of every supervisor.",
                expected="a criterion such as nn.CrossEntropyLoss(), or a function",
                received=f"{name}={type(value).__name__}",
                fix="Use another name for the value of a loss.",
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
                expected="another name for a custom attribute",
                received=f"{name}={type(value).__name__}",
                fix="Call `.to(device)` to move a supervisor." if name == "device" else None,
            )

    # What is stored

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer, and load its deferred state if the loaded file contains it."""
        super().register_buffer(name, tensor, persistent)
        self._load_deferred(name)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a parameter, and load its deferred state if the loaded file contains it."""
        super().register_parameter(name, param)
        self._load_deferred(name)

    def _load_deferred(self, registered: str = "") -> None:
        deferred: DeferredState | None = vars(self).get("_deferred")
        if deferred is not None:
            deferred.on_register(self, registered)

    def track(self, name: str, thing: Any) -> Any:
        """Save the state of an object in every checkpoint. Modules and buffers are saved without this call.

        If a stage of an earlier call of ``supervise`` tracked an object, a later call may reuse its name.

        Args:
            name: Name of the object in the checkpoint.
            thing: An object with ``state_dict()`` and ``load_state_dict()``. The state may consist of tensors, numbers,
                strings, lists and dictionaries.

        Returns:
            The object.

        Raises:
            ConfigurationError: If the object lacks one of these methods, or the name is in use.
        """
        complete = all(callable(getattr(thing, method, None)) for method in ("state_dict", "load_state_dict"))
        check_argument(complete, "thing", thing, "something with state_dict() and load_state_dict()")
        present = self._tracked.get(name, thing)
        if present is not thing and name not in self._deferred.replaceable:
            raise ConfigurationError(
                f"`{name}` is tracked already.",
                expected="a name that is not taken",
                received=f"track({name!r}, ...) of a {type(present).__name__} and of a {type(thing).__name__}",
            )
        self._tracked[name] = thing
        self._deferred.on_track(name, thing)
        return thing
