"""Attributes that a subclass sets never get in the way of the library's: they are apart, or refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import CombinedNet
from super_selfish.supervisors import all_supervisors

QUIET = {"verbose": False, "watch": 0, "name": "store/test", "batch_size": 4, "epochs": 1}
NAMES = ("run", "settings", "history", "train_state", "skipped", "forecast", "stored", "tracked", "run_id")


class Logger:
    """What users keep of their tracking tool."""

    def __init__(self) -> None:
        self.entries: list[float] = []


def set_before(base: type) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            vars(self).update(dict.fromkeys(NAMES, 5))
            super().__init__(*arguments, **options)

    return Own


def set_after(base: type) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            for name in NAMES:
                setattr(self, name, Logger())

        def _forward(self, data: Any) -> Any:
            loss = super()._forward(data)
            self.history.entries.append(loss.item())
            return loss

    return Own


def in_the_class(base: type) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        history: Any = []  # noqa: RUF012
        settings: Any = {"a": 1}  # noqa: RUF012

        def run(self) -> str:
            return "mine"

        def _forward(self, data: Any) -> Any:
            loss = super()._forward(data)
            self.history.append(loss.item())
            return loss

    return Own


@pytest.mark.parametrize("own", [set_before, set_after, in_the_class])
def test_attributes_of_ones_own_change_nothing(
    own: Callable[[type], type], algorithm: str, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    base = all_supervisors()[algorithm]
    plain = make(images(8)).supervise(**QUIET)
    weights = copy.deepcopy(plain.state_dict())
    supervisor = make(images(8), cls=own(base)).supervise(**QUIET)
    assert all(torch.equal(value, weights[key]) for key, value in supervisor.state_dict().items())
    read = make(None).load("store/test")
    assert read.history[0]["loss"] == plain.history[0]["loss"]
    assert read.train_state == plain.train_state
    make(images(8), cls=own(base)).supervise(resume=True, **QUIET | {"epochs": 2})


def test_public_names_are_those_of_the_library_otherwise(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(8))
    assert (supervisor.run, supervisor.settings, supervisor.history, supervisor.skipped) == (None, None, [], {})
    supervisor.supervise(**QUIET)
    assert len(supervisor.history) == supervisor.train_state.epoch == 1
    assert supervisor.settings.epochs == 1
    assert supervisor.run_id
    assert supervisor.stored == {}


def test_a_module_of_a_public_name_is_the_users(
    algorithm: str, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    class Own(all_supervisors()[algorithm]):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.history = nn.GRU(2, 2)

    supervisor = make(images(8), cls=Own).supervise(**QUIET)
    assert isinstance(supervisor.history, nn.GRU)
    assert "history.weight_hh_l0" in supervisor.state_dict()
    assert make(cls=Own).load("store/test").history.hidden_size == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "cpu"),
        ("feature_dim", 3),
        ("networks", []),
        ("extract", nn.Identity()),
        ("track", None),
        ("_update", 0.5),
        ("model", nn.Identity()),
        ("average", torch.zeros(2)),
        ("average", nn.Identity()),
        ("preprocessing", print),
        ("loss", 0.5),
        ("loss", torch.zeros(())),
    ],
)
def test_what_the_library_calls_is_refused_by_name(make: Callable[..., Any], name: str, value: Any) -> None:
    supervisor = make(None)
    with pytest.raises(ConfigurationError, match=name):
        setattr(supervisor, name, value)


def test_a_target_network_is_replaced_by_networks_alone(
    algorithm: str, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    supervisor = make(images(8))
    for name, part in list(supervisor.named_children()):
        if isinstance(part, CombinedNet):
            setattr(supervisor, name, copy.deepcopy(part))
            with pytest.raises(ConfigurationError, match=name):
                setattr(supervisor, name, nn.Identity())
