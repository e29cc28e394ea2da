"""What is known of an algorithm, as attributes of its class: its paper, its family, what its images must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from super_selfish.distributed.placement import Placed
from super_selfish.engine.optim.recipes import DEFAULT, Recipe

Family = Literal["patch", "predictive", "generative", "contrastive"]
"""By pretext task: order of patches, a property of the image, its pixels, or agreement of embeddings."""


@dataclass(frozen=True)
class Paper:
    """The publication that an algorithm is from.

    Attributes:
        authors: Names as they are cited.
        title: Title of the publication.
        year: Year of the publication.
        arxiv: Identifier on arXiv; None: it is not there.
        url: Address of the publication where it is not on arXiv.
    """

    authors: str
    title: str
    year: int
    arxiv: str | None = None
    url: str | None = None

    @property
    def link(self) -> str | None:
        """Address of the publication."""
        return self.url if self.arxiv is None else f"https://arxiv.org/abs/{self.arxiv}"

    def __str__(self) -> str:
        return f'{self.authors}, "{self.title}", {self.year}'


@dataclass(frozen=True)
class Needs:
    """What images and batches must be for an algorithm to learn from them.

    Attributes:
        rgb: The images must have three channels.
        canonical_orientation: The images must have an upright position, as photographs of objects have.
        side: Smallest side in px.
        batch: Smallest batch, and smallest micro-batch.
    """

    rgb: bool = False
    canonical_orientation: bool = False
    side: int = 32
    batch: int = 1


class Facts(Placed):
    """Attributes of an algorithm's class that documentation, command line, recipes and comparisons read."""

    paper: ClassVar[Paper | None] = None
    """The publication."""

    family: ClassVar[Family | None] = None
    """The kind of pretext task."""

    learns_by: ClassVar[str] = ""
    """The pretext task in a few words, to follow "learns by"."""

    use_when: ClassVar[str] = ""
    """Which images and budgets it suits, in a few words, to follow "use it when"."""

    needs: ClassVar[Needs] = Needs()
    """What images and batches must be."""

    recipes: ClassVar[Mapping[str, Recipe]] = MappingProxyType({})
    """Training recipes by name: ``"auto"`` and ``"paper"``."""

    auto_gain: ClassVar[float | None] = None
    """Points of a linear probe by which ``recipe="auto"`` beat the defaults, where more than 3 (docs/learning.md)."""

    network_arguments: ClassVar[tuple[str, ...]] = ("backbone", "predictor")
    """Constructor arguments that are networks: a weights file cannot be loaded without those that the user built."""

    former_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """What constructor arguments had as their value before they existed: weights files without them were made so."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of the algorithm on the command line."""

    relative_cost: ClassVar[float | None] = None
    """Training time per image, relative to instance discrimination; None: not measured."""

    @classmethod
    def training_recipe(cls, name: str, epochs: int = 1000) -> Recipe | None:  # noqa: ARG003 - for subclasses
        """The training recipe that ``supervise(recipe=name)`` uses; None: the class has none of that name.

        Args:
            name: ``"auto"``, ``"paper"`` or ``"adapt"``.
            epochs: Length of the run.
        """
        if name in cls.recipes:
            return cls.recipes[name]
        auto = cls.recipes.get("auto", DEFAULT)
        return {"auto": auto, "adapt": auto.adapted()}.get(name)
