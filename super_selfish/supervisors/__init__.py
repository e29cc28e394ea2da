"""Self-supervised learning algorithms.

Each module of this package defines one algorithm as a subclass of ``Supervisor``. Modules are discovered automatically;
the explicit imports below are for type checkers.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from super_selfish.engine.bank import BankSupervisor
from super_selfish.engine.gan import GanSupervisor
from super_selfish.engine.label import LabelSupervisor
from super_selfish.engine.supervisor import Supervisor
from super_selfish.suggestions import did_you_mean

if TYPE_CHECKING:
    from super_selfish.supervisors.bi_gan import BiGanSupervisor
    from super_selfish.supervisors.byol import BYOLSupervisor
    from super_selfish.supervisors.context_net import ContextNetSupervisor
    from super_selfish.supervisors.contrastive_multiview_coding import ContrastiveMultiviewCodingSupervisor
    from super_selfish.supervisors.contrastive_predictive_coding import ContrastivePredictiveCodingSupervisor
    from super_selfish.supervisors.denoise_net import DenoiseNetSupervisor
    from super_selfish.supervisors.exemplar_net import ExemplarNetSupervisor
    from super_selfish.supervisors.instance_discrimination import InstanceDiscriminationSupervisor
    from super_selfish.supervisors.jigsaw_net import JigsawNetSupervisor
    from super_selfish.supervisors.momentum_contrast import MomentumContrastSupervisor
    from super_selfish.supervisors.pirl import PIRLSupervisor
    from super_selfish.supervisors.rotate_net import RotateNetSupervisor
    from super_selfish.supervisors.split_brain_net import SplitBrainNetSupervisor

__all__ = [
    "BYOLSupervisor",
    "BankSupervisor",
    "BiGanSupervisor",
    "ContextNetSupervisor",
    "ContrastiveMultiviewCodingSupervisor",
    "ContrastivePredictiveCodingSupervisor",
    "DenoiseNetSupervisor",
    "ExemplarNetSupervisor",
    "GanSupervisor",
    "InstanceDiscriminationSupervisor",
    "JigsawNetSupervisor",
    "LabelSupervisor",
    "MomentumContrastSupervisor",
    "PIRLSupervisor",
    "RotateNetSupervisor",
    "SplitBrainNetSupervisor",
    "Supervisor",
    "all_supervisors",
]

_ALGORITHMS: dict[str, type[Supervisor]] = {}
for _module in pkgutil.iter_modules(__path__):
    for _member in list(vars(importlib.import_module(f"{__name__}.{_module.name}")).values()):
        if isinstance(_member, type) and issubclass(_member, Supervisor) and _member.__module__.endswith(_module.name):
            _ALGORITHMS[_member.algorithm()] = _member
_CLASSES = {_algorithm.__name__: _algorithm for _algorithm in _ALGORITHMS.values()}
__all__ += sorted(set(_CLASSES) - set(__all__))


def __getattr__(name: str) -> Any:
    """The class of an algorithm, by class name."""
    if name in _CLASSES:
        return _CLASSES[name]
    fix = None if name.startswith("_") else did_you_mean(name, public_names(__all__))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{f'. {fix}' if fix else ''}")


def __dir__() -> list[str]:
    return sorted(__all__)


def public_names(names: Iterable[str]) -> dict[str, str]:
    """What a module suggests for misspelt attributes: its names, and for short names of algorithms their classes."""
    classes = {word: repr(_ALGORITHMS[name].__name__) for word, name in algorithm_names().items()}
    stems = {name.removesuffix("Supervisor"): repr(name) for name in _CLASSES}
    return {**classes, **stems, **{name: repr(name) for name in names}}


def algorithm_names() -> dict[str, str]:
    """The names of all algorithms, by themselves and by their aliases.

    Examples:
        >>> algorithm_names()["moco"]
        'momentum_contrast'
    """
    aliases = {alias: name for name, algorithm in _ALGORITHMS.items() for alias in algorithm.aliases}
    return {**aliases, **{name: name for name in _ALGORITHMS}}


def all_supervisors() -> dict[str, type[Supervisor]]:
    """All algorithms: a dictionary from names to classes.

    Examples:
        >>> all_supervisors()["rotate_net"].__name__
        'RotateNetSupervisor'
    """
    return dict(_ALGORITHMS)
