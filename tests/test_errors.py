"""Errors that suggest what was meant: unknown keyword arguments, words of closed sets, and names of modules."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
from torch import nn

import super_selfish
from super_selfish.cli.values import options
from super_selfish.errors import ConfigurationError, UnknownArgument, check_choice, validate_arguments
from super_selfish.models import CombinedNet
from super_selfish.models.named import named_backbone
from super_selfish.suggestions import did_you_mean
from super_selfish.supervisors import LabelSupervisor, Supervisor, algorithm_names, all_supervisors
from super_selfish.transformer import SelfSupervisedFeatures
from super_selfish.transforms.exemplar import ExemplarTransform

METHODS = ("supervise", "train_loader", "get_backbone", "extract", "preview", "evaluate_pretext", "preprocess", "save")
METHODS += ("load",)
MODULES = [super_selfish, *(importlib.import_module(f"super_selfish.{name}") for name in ("data", "evaluation"))]
MODULES += [importlib.import_module(f"super_selfish.{name}") for name in ("reports", "training")]


def public_functions() -> list[Callable[..., Any]]:
    """All functions with arguments that modules for users list."""
    functions = {getattr(module, name) for module in MODULES for name in module.__all__}
    found = (each for each in functions if inspect.isfunction(each) and inspect.signature(each).parameters)
    return sorted(found, key=lambda each: (each.__name__, each.__module__))


def words(annotation: Any) -> list[str]:
    """The strings among the values of an annotation."""
    literals = [part for part in options(annotation) if typing.get_origin(part) is Literal]
    return [word for part in literals for word in typing.get_args(part) if isinstance(word, str)]


def own_choices() -> list[tuple[str, str, str]]:
    """Every string that is an allowed value of a constructor's argument: algorithm, argument, value."""
    found = []
    for name, cls in all_supervisors().items():
        for argument, annotation in typing.get_type_hints(cls.__init__).items():
            found += [(name, argument, word) for word in words(annotation)]
    return found


def training_choices() -> list[tuple[str, str]]:
    """Every string that is an allowed value of an argument of ``supervise``: argument, value."""
    hints = typing.get_type_hints(Supervisor.supervise)
    return [(argument, word) for argument, annotation in hints.items() for word in words(annotation)]


def images() -> Any:
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def supervisor() -> Supervisor:
    return all_supervisors()["rotate_net"](images(), backbone="small_resnet")


@pytest.mark.parametrize("name", all_supervisors())
def test_unknown_arguments_of_constructors(name: str) -> None:
    cls = all_supervisors()[name]
    names = set(inspect.signature(cls).parameters)
    assert {"resolution", "weights"} <= names
    for argument in (argument for argument in names if len(argument) > 4 and argument[:-1] not in names):
        with pytest.raises(UnknownArgument, match=f"Did you mean '{argument}'") as caught:
            cls("nowhere", **{argument[:-1]: 3})  # before the images are opened
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ConfigurationError)
        assert f"Received: {argument[:-1]}=3." in str(caught.value)
    with pytest.raises(UnknownArgument, match="zyx") as caught:
        cls("nowhere", zyx=3)
    assert "mean" not in str(caught.value).split("Received")[1]


def test_unknown_arguments_of_other_supervisors() -> None:
    net = CombinedNet(nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(UnknownArgument, match="'resolution'"):
        LabelSupervisor(net, resolutoin=3)  # type: ignore[call-arg]
    with pytest.raises(UnknownArgument, match="'dataset'"):
        Supervisor(net, datset=3)  # type: ignore[call-arg]

    class Custom(all_supervisors()["rotate_net"]):  # type: ignore[misc]
        def __init__(self, *args: Any, angle: int = 0, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.angle = angle

    assert Custom(angle=3, resolution=32, backbone="small_resnet").preprocessing.resolution == (32, 32)
    with pytest.raises(UnknownArgument, match="'rotations'"):
        Custom(rotation=3)


@pytest.mark.parametrize("name", METHODS)
def test_unknown_arguments_of_methods(name: str, supervisor: Supervisor) -> None:
    method = getattr(supervisor, name)
    argument = next(argument for argument in reversed(inspect.signature(method).parameters))
    with pytest.raises(UnknownArgument, match=f"`{name}`.*'{argument}'"):
        method(**{f"{argument}x": 3})


@pytest.mark.parametrize("function", public_functions(), ids=lambda function: function.__name__)
def test_unknown_arguments_of_functions(function: Callable[..., Any]) -> None:
    with pytest.raises(UnknownArgument, match=f"`{function.__name__}` has no argument `zyx`"):
        function(zyx=3)


def test_unknown_arguments_of_validated_constructors() -> None:
    class Images:
        @validate_arguments({})
        def __init__(self, count: int = 1) -> None:
            self.count = count

    assert Images(count=2).count == 2
    with pytest.raises(UnknownArgument, match=r"`Images`.*'count'"):
        Images(cuont=2)  # type: ignore[call-arg]


@pytest.mark.parametrize("arguments", [{"epohcs": 3}, {"batchsize": 3}, {"learning_rate": 0.1}])
def test_supervise_changes_nothing_on_an_unknown_argument(arguments: dict[str, Any], supervisor: Supervisor) -> None:
    with pytest.raises(UnknownArgument, match=r"'epochs'|'batch_size'|'lr'"):
        supervisor.supervise(**arguments)
    assert supervisor.explicit_arguments == frozenset()


@pytest.mark.parametrize(("name", "argument", "word"), own_choices())
def test_choices_of_constructors(name: str, argument: str, word: str) -> None:
    if len(word) > 2:
        with pytest.raises(ConfigurationError, match=f"Did you mean '{word}'"):
            all_supervisors()[name](images(), **{"backbone": "small_resnet", argument: f"{word}{word[-1]}"})


@pytest.mark.parametrize(("argument", "word"), training_choices())
def test_choices_of_training(argument: str, word: str, supervisor: Supervisor) -> None:
    if len(word) > 2:
        with pytest.raises(ConfigurationError, match=f"`{argument}`.*Did you mean '{word}'"):
            supervisor.supervise(**{argument: f"{word}{word[-1]}"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        ({"precision": "fp61"}, "'fp16'"),
        ({"precision": 16}, "'16'"),
        ({"precision": "bfloat16"}, "'bf16'"),
        ({"sync_bn": "true"}, "True"),
        ({"optimizer": "adma"}, "'adam'"),
        ({"lr_scheduler": "cosin"}, "'cosine'"),
    ],
)
def test_other_words_for_choices(arguments: dict[str, Any], suggestion: str, supervisor: Supervisor) -> None:
    with pytest.raises(ConfigurationError) as caught:
        supervisor.supervise(**arguments)
    assert suggestion in str(caught.value).partition("Did you mean")[2]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("small_resnt", "small_resnet"), ("resnet81", "resnet18"), ("efficientnet-b77", "efficientnet-b7"), ("qqq", None)],
)
def test_names_of_backbones(name: str, suggestion: str | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        named_backbone(name)
    assert str(caught.value).partition("Did you mean ")[2] == ("" if suggestion is None else f"{suggestion!r}?")


def test_words_in_sequences() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'bottom'"):
        all_supervisors()["contrastive_predictive_coding"](images(), sides=("top", "botom"))
    with pytest.raises(ConfigurationError, match="Did you mean 'rotate'"):
        ExemplarTransform(("rotat", "hue"))


def test_unknown_arguments_of_the_transformer() -> None:
    assert set(SelfSupervisedFeatures(epochs=3).get_params()) >= {"epochs", "algorithm"}
    with pytest.raises(UnknownArgument, match="'epochs'"):
        SelfSupervisedFeatures(epohcs=3)  # type: ignore[call-arg]


def test_names_of_algorithms() -> None:
    with pytest.raises(ConfigurationError, match="'momentum_contrast'"):
        SelfSupervisedFeatures("moco").fit(images())


@pytest.mark.parametrize("module", [super_selfish, importlib.import_module("super_selfish.supervisors")])
def test_names_of_modules(module: ModuleType) -> None:
    classes = {name: cls.__name__ for name, cls in all_supervisors().items()}
    wanted = {name[:-1]: name for name in module.__all__ if len(name) > 5 and name[0] != "_"}
    wanted |= {name.removesuffix("Supervisor"): name for name in classes.values()}
    wanted |= {alias: classes[name] for alias, name in algorithm_names().items()}
    for wrong in wanted.keys() - vars(module).keys():  # a submodule is no mistake
        name = wanted[wrong]
        with pytest.raises(AttributeError, match=f"Did you mean '{name}'"):
            getattr(module, wrong)
    for wrong in ("qqq", "_qqq", "__wrapped__"):
        with pytest.raises(AttributeError) as caught:
            getattr(module, wrong)
        assert "mean" not in str(caught.value)


def test_aliases_belong_to_one_algorithm() -> None:
    owners: dict[str, set[str]] = {}
    for name, cls in all_supervisors().items():
        for spelling in (name, *cls.aliases, cls.__name__.removesuffix("Supervisor")):
            owners.setdefault(spelling.lower().replace("_", ""), set()).add(name)
    assert {spelling: names for spelling, names in owners.items() if len(names) > 1} == {}


def test_suggestions() -> None:
    assert did_you_mean("Auto", ("auto", True)) == "Did you mean 'auto'?"
    assert did_you_mean(None, ("auto",)) is None
    assert did_you_mean("xyz", ("auto",)) is None
    assert did_you_mean("fp16", ("32", "bf16")) != "Did you mean '32'?"
    check_choice("resume", True, (False, "auto", True))
    with pytest.raises(ConfigurationError, match="`resume` is unknown"):
        check_choice("resume", 1, (False, "auto", True))
