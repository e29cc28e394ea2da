"""Metadata of an algorithm as class attributes: paper, family, requirements on the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from super_selfish.distributed.placement import Placed
from super_selfish.engine.optim.recipes import DEFAULT, Recipe

Family = Literal["patch", "predictive", "generative", "contrastive"]
"""Family of the pretext task: patch order, a property of the image, its pixels, or agreement of embeddings."""


@dataclass(frozen=True)
class Paper:
    """The publication that introduced an algorithm.

    Attributes:
        authors: Authors as cited.
        title: Title of the publication.
        year: Year of the publication.
        arxiv: Identifier on arXiv; None: not on arXiv.
        url: URL of a publication that is not on arXiv.
    """

    authors: str
    title: str
    year: int
    arxiv: str | None = None
    url: str | None = None

    @property
    def link(self) -> str | None:
        """URL of the publication."""
        return self.url if self.arxiv is None else f"https://arxiv.org/abs/{self.arxiv}"

    def __str__(self) -> str:
        return f'{self.authors}, "{self.title}", {self.year}'


@dataclass(frozen=True)
class Needs:
    """Requirements of an algorithm on images and batches.

    Attributes:
        rgb: The images must have three channels.
        canonical_orientation: The images must have a canonical orientation, as photographs of objects do.
        side: Minimum side length, in px.
        batch: Minimum size of batches and micro-batches.
    """

    rgb: bool = False
    canonical_orientation: bool = False
    side: int = 32
    batch: int = 1


class Facts(Placed):
    """Class attributes of an algorithm, used by documentation, command line, recipes and benchmarks."""

    paper: ClassVar[Paper | None] = None
    """The publication."""

    family: ClassVar[Family | None] = None
    """The kind of pretext task."""

    learns_by: ClassVar[str] = ""
    """Short description of the pretext task; completes "learns by ..."."""

    use_when: ClassVar[str] = ""
    """Suitable images and budgets; completes "use it when ..."."""

    needs: ClassVar[Needs] = Needs()
    """Requirements on images and batches."""

    recipes: ClassVar[Mapping[str, Recipe]] = MappingProxyType({})
    """Training recipes by name: ``"auto"`` and ``"paper"``."""

    first_choice: ClassVar[bool] = False
    """Whether the algorithm is a good first choice with ``recipe="auto"`` where its requirements are met."""

    auto_gain: ClassVar[float | None] = None
    """Gain of ``recipe="auto"`` over the defaults in linear-probe accuracy, in percentage points, if above 3."""

    network_arguments: ClassVar[tuple[str, ...]] = ("backbone", "predictor")
    """Constructor arguments that are networks. User-supplied ones are needed again to load a weights file."""

    uses_map: ClassVar[bool] = False
    """Whether the pretext task uses the feature map of the backbone, not its pooled features."""

    former_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Values that stand for constructor arguments missing in older weights files, by argument name."""

    renamed_arguments: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Present names of constructor arguments that older weights files have under another name, by the old name."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of the algorithm on the command line."""

    relative_cost: ClassVar[float | None] = None
    """Training time per image relative to instance discrimination; None: not measured."""

    @classmethod
    def training_recipe(cls, name: str, epochs: int = 1000) -> Recipe | None:  # noqa: ARG003 - for subclasses
        """Return the training recipe for ``supervise(recipe=name)``; None: the algorithm has no such recipe.

        Args:
            name: ``"auto"``, ``"paper"`` or ``"adapt"``.
            epochs: Number of epochs of the run.
        """
        if name in cls.recipes:
            return cls.recipes[name]
        auto = cls.recipes.get("auto", DEFAULT)
        return {"auto": auto, "adapt": auto.adapted()}.get(name)
