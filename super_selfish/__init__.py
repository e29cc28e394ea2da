"""Self-supervised learning on images.

A folder of images and two lines give a backbone worth transferring::

    from super_selfish.supervisors import RotateNetSupervisor

    supervisor = RotateNetSupervisor("photos/")
    supervisor.supervise(lr=1e-3, epochs=50, batch_size=64, name="store/base")
    backbone = supervisor.get_backbone()

Later, in another process, ``super_selfish.load("store/base")`` gives the trained supervisor back, and
``.extract("photos/")`` the features of images. ``super_selfish.evaluation`` evaluates them.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from super_selfish.version import __version__ as __version__

if TYPE_CHECKING:
    from super_selfish.comparison.compare import compare as compare
    from super_selfish.models.combined import CombinedNet as CombinedNet
    from super_selfish.saved import load as load
    from super_selfish.storage.inspection import inspect as inspect
    from super_selfish.studies.study import study as study
    from super_selfish.supervisors import *  # noqa: F403 - the names that dir() shows

_MODULES = {
    "CombinedNet": "super_selfish.models.combined",
    "all_supervisors": "super_selfish.supervisors",
    "compare": "super_selfish.comparison.compare",
    "inspect": "super_selfish.storage.inspection",
    "load": "super_selfish.saved",
    "study": "super_selfish.studies.study",
}
_SUPERVISORS = "super_selfish.supervisors"


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: ``import super_selfish`` alone does not import torch."""
    if name == "__all__":
        supervisors = importlib.import_module(_SUPERVISORS)
        return sorted({"__version__", *_MODULES, *supervisors.__all__})
    module = _MODULES.get(name, _SUPERVISORS if name.endswith("Supervisor") else None)
    if module is None or not hasattr(importlib.import_module(module), name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_suggestion(name)}")
    return getattr(importlib.import_module(module), name)


def _suggestion(name: str) -> str:
    """A suggestion for a misspelt name; lookups of private names and of submodules import nothing."""
    if name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return ""
    errors, supervisors = importlib.import_module(f"{__name__}.errors"), importlib.import_module(_SUPERVISORS)
    fix = errors.did_you_mean(name, supervisors.public_names(__getattr__("__all__")))
    return f". {fix}" if fix else ""


def __dir__() -> list[str]:
    return list(__getattr__("__all__"))
