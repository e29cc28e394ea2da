"""Deprecated names of 0.1.0: aliases for code, and the conversion of names stored in files."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

STORED_NAMES = {
    "BYOLRecipe": "BYOLTransform",
    "CMCRecipe": "CMCTransform",
    "CPCRecipe": "CPCTransform",
    "CropColourRecipe": "CropColourTransform",
    "ExemplarRecipe": "ExemplarTransform",
    "ForeignRecipe": "CustomTransform",
    "JigsawRecipe": "JigsawTransform",
    "MoCoRecipe": "MoCoTransform",
    "PIRLImageRecipe": "PIRLImageTransform",
    "PIRLRecipe": "PIRLTransform",
}
"""Present names of renamed classes by the old names that files may contain."""

_VIEWS = {old: new for old, new in STORED_NAMES.items() if old not in ("CropColourRecipe", "ForeignRecipe")}
_MODULES: dict[str, dict[str, str]] = {
    "data": {"Recipe": "Transform", **_VIEWS},
    "engine.callbacks.tensorboard": {"TensorBoard": "TensorBoardCallback"},
    "loading.loader": {"Cursor": "TrainState"},
    "models": {"follow": "update_ema"},
    "models.averages": {"follow": "update_ema"},
    "pretext.pirl": {"PIRLImageRecipe": "PIRLImageTransform", "PIRLRecipe": "PIRLTransform"},
    "pretext.preview": {"Panel": "CaptionedImage"},
    "pretext.views": {"ForeignRecipe": "CustomTransform", "as_recipe": "as_transform"},
    "seeding": {"Stream": "KeyedGenerator", "stream_from_torch": "generator_from_torch"},
    "training": {"TensorBoard": "TensorBoardCallback"},
    "transformer": {"stored": "supervisor_state", "rebuilt": "rebuild_supervisor"},
    "transforms.base": {"Recipe": "Transform"},
    "transforms.byol": {"BYOLRecipe": "BYOLTransform"},
    "transforms.cmc": {"CMCRecipe": "CMCTransform"},
    "transforms.cpc": {"CPCRecipe": "CPCTransform"},
    "transforms.crop_and_colour": {"CropColourRecipe": "CropColourTransform"},
    "transforms.exemplar": {"ExemplarRecipe": "ExemplarTransform"},
    "transforms.jigsaw": {"JigsawRecipe": "JigsawTransform"},
    "transforms.moco": {"MoCoRecipe": "MoCoTransform"},
}

_STORED = re.compile(rf"\b({'|'.join(STORED_NAMES)})\b")


def with_present_names(described: Any) -> Any:
    """Replace old class names in a stored description of networks, criteria and transforms.

    Args:
        described: JSON as returned by :func:`super_selfish.engine.core.identity.describe`.

    Examples:
        >>> with_present_names([{"own": "CMCRecipe(size=32)"}, None])
        [{'own': 'CMCTransform(size=32)'}, None]
    """
    if isinstance(described, str):
        return _STORED.sub(lambda found: STORED_NAMES[found[1]], described)
    if isinstance(described, list):
        return [with_present_names(part) for part in described]
    return (
        {key: with_present_names(part) for key, part in described.items()} if isinstance(described, dict) else described
    )


def old_names(module: str) -> Callable[[str], Any]:
    """Return a module ``__getattr__`` that resolves old names and issues a ``FutureWarning``.

    Args:
        module: ``__name__`` of the module.
    """
    names = _MODULES[module.removeprefix("super_selfish.")]

    def getter(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn(f"{module}.{name}", names[name])
        return getattr(sys.modules[module], names[name])

    return getter


def old_attribute(old: str, new: str, written: str | None = None) -> Any:
    """Return a property that reads and writes an attribute by its old name and issues a ``FutureWarning``.

    Args:
        old: The old name.
        new: The present name.
        written: Name of the attribute that an assignment sets; None: the present name.
    """

    def getter(instance: Any) -> Any:
        _warn(f"{type(instance).__name__}.{old}", new)
        return getattr(instance, new)

    def setter(instance: Any, value: Any) -> None:
        _warn(f"{type(instance).__name__}.{old}", new)
        setattr(instance, written or new, value)

    return property(getter, setter, doc=f"Deprecated alias of ``{new}``.")


class RenamedMembers:
    """Base of classes with renamed members.

    A member that a subclass defines by its old or new name is available by both names. A subclass that defines only the
    old name causes a ``FutureWarning``.
    """

    renamed_members: ClassVar[Mapping[str, str]] = {}
    """Present names by old names."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for old, new in cls.renamed_members.items():
            own = vars(cls)
            if new in own:
                setattr(cls, old, own[new])
            elif old in own:
                _warn(f"{cls.__qualname__}.{old}", new, level=3)
                setattr(cls, new, own[old])


class SupervisorNames(RenamedMembers):
    """Renamed members of supervisors."""

    renamed_members: ClassVar[Mapping[str, str]] = {
        "_expectation": "_expected_loss",
        "players": "parameters_by_loss",
        "codes": "embeddings",
        "beside_nearest": "preview_neighbours",
        "judged": "discriminator_logits",
        "says": "adversarial_loss",
        "makers_turn": "is_generator_step",
    }
    cursor = old_attribute("cursor", "train_state", "_train_state")
    seen_size = old_attribute("seen_size", "input_size")


class RunNames:
    """Renamed members of runs."""

    cursor = old_attribute("cursor", "train_state")


class UserCodeNames(RenamedMembers):
    """Renamed members of pretext data sets and transforms."""

    renamed_members: ClassVar[Mapping[str, str]] = {"foreign": "runs_user_code"}


def _warn(old: str, new: str, level: int = 3) -> None:
    warnings.warn(f"`{old}` is deprecated. Use `{new}` instead.", FutureWarning, stacklevel=level)
