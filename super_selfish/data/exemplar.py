"""ExemplarNet's exercise: of which image is this a version?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from super_selfish.data import warps
from super_selfish.data.functional import Image
from super_selfish.data.pool import POOL, Operation, Uniform, deform
from super_selfish.data.presets import PRESETS
from super_selfish.data.pretext import PretextDataset, Sample
from super_selfish.data.recipes import Recipe
from super_selfish.data.views import Views, as_recipe
from super_selfish.errors import PROBABILITY, Rule, check_argument, check_arguments, is_count
from super_selfish.seeding import Stream, make_key, splitmix64

RULES = {
    "n_classes": Rule(lambda count: is_count(count, 2), "an integer of at least 2"),
    "n_trans": Rule(lambda count: is_count(count, 1), "an integer of at least 1"),
    "max_elms": Rule(lambda count: is_count(count, 0), "an integer of at least 0"),
    "p": PROBABILITY,
    "transformations": Rule(
        lambda made: made is None or callable(made) or (isinstance(made, str) and made in PRESETS),
        "None, a preset, a recipe, or a function that makes a version of an image",
    ),
}
SEED = Rule(lambda seed: isinstance(seed, int) and not isinstance(seed, bool), "an integer")

# Differs from the paper: AutoAugment's operations, elastic deformation, sharpness and occlusion come in addition
OPERATIONS: dict[str, Operation] = {
    **{name: POOL[name] for name in ("translate", "scale", "shear_x", "shear_y", "elastic", "hue", "sharpness")},
    **{name: POOL[name] for name in ("autocontrast", "equalize", "principal_contrast", "gamma", "colour", "grey")},
    **{name: POOL[name] for name in ("saturation_value", "cutout", "invert", "solarize", "posterize")},
    "rotate": POOL["rotate"]._replace(draw=Uniform("angle", -20.0, 20.0)),
    "contrast": POOL["contrast"]._replace(draw=Uniform("factor", 0.5, 2.0, log=True)),
    "brightness": POOL["brightness"]._replace(draw=Uniform("factor", 0.7, 1.4, log=True)),
}
"""What recipes are made of, within the paper's ranges where it has any."""

_KINDS = {
    kind: tuple(name for name, operation in OPERATIONS.items() if operation.kind == kind)
    for kind in dict.fromkeys(operation.kind for operation in OPERATIONS.values())
}
_SHARES = {"inversion": 0.15, "posterization": 0.15}  # of the weight of other kinds


@dataclass(frozen=True)
class ExemplarRecipe(Recipe):
    """Some operations, each time with other magnitudes.

    Shifts, rotation, scaling and shear are done in one warp, before all else.

    Args:
        names: Of :data:`OPERATIONS`, at most one of a kind.

    Raises:
        ConfigurationError: If an operation is unknown, or two are of one kind.

    Examples:
        >>> ExemplarRecipe(("rotate", "hue")).augment(np.zeros((8, 9, 3), np.uint8), Stream(0)).shape
        (8, 9, 3)
    """

    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kinds = [OPERATIONS[name].kind for name in self.names if name in OPERATIONS]
        sound = len(kinds) == len(self.names) == len(set(kinds))
        check_argument(sound, "names", self.names, f"some of {', '.join(OPERATIONS)}, at most one of a kind")

    def augment(self, image: Image, stream: Stream) -> Image:
        """A version of an image; without operations, the image itself."""
        chosen = [OPERATIONS[name] for name in self.names]
        affine = [operation for operation in chosen if operation.apply is warps.affine]
        placed = {key: value for operation in affine for key, value in operation.draw(stream, image.shape).items()}
        version = image
        for operation in chosen:  # all geometry is one warp, where it comes first
            if operation.apply is deform:
                origin = warps.origin_of(image.shape, **placed)
                version, placed = deform(image, origin=origin, **operation.draw(stream, image.shape)), {}
        version = warps.affine(image, **placed) if placed else version
        for operation in chosen:
            if operation.apply not in (warps.affine, deform):
                version = operation(version, stream)
        return version


class ExemplarDataset(PretextDataset):
    """Some images, each a class of its own, whose members are random versions of the image.

    Item: (version C×H×W, class id). The classes are C = min(``n_classes``, images) different images, chosen by ``seed``
    and numbered in the order of the data set; C is the length. A version is made by one of ``n_trans`` recipes,
    also fixed by ``seed``, with magnitudes drawn each time.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        transformations: Makes the versions instead: a recipe, or a callable as described at
            :class:`~super_selfish.data.views.ForeignRecipe`.
        n_classes: Images at most, at least 2.
        n_trans: Recipes.
        max_elms: Places of a recipe.
        p: Probability that a place has an operation, which is of another kind than the others of the recipe.
        seed: Of the choice of images, and of the operations of the recipes.

    Attributes:
        chosen: Index in the data set of the image of each class, int64 (C,).
        recipes: What makes the versions.

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> image, label = ExemplarDataset(np.zeros((20, 32, 48, 3), np.uint8), n_classes=10)[7]
        >>> image.shape, label
        (torch.Size([3, 32, 48]), 7)

    References:
        Dosovitskiy et al., "Discriminative Unsupervised Feature Learning with Exemplar Convolutional Neural Networks",
        2014.
    """

    def __init__(
        self,
        dataset: object,
        transformations: Views | None = None,
        n_classes: int = 8000,
        n_trans: int = 100,
        max_elms: int = 10,
        p: float = 0.5,
        *,
        seed: int = 0,
    ) -> None:
        check_arguments({**RULES, "seed": SEED}, locals())
        super().__init__(dataset)
        self.recipes: tuple[Recipe, ...]
        if transformations is None:
            self.recipes = tuple(draw_recipe(Stream(seed, "recipe", i), max_elms, p) for i in range(n_trans))
        else:
            self.recipes = (as_recipe(transformations),)
        # Differs from the paper: whole images instead of patches of 32 px at places of strong gradients
        order = np.argsort(splitmix64(make_key(seed, "classes"), len(self.images)), kind="stable")
        self.chosen = np.sort(order[:n_classes])

    @property
    def foreign(self) -> bool:
        """Whether reading an image runs a user's code, which may draw from global generators."""
        return super().foreign or any(recipe.foreign for recipe in self.recipes)

    def __len__(self) -> int:
        return len(self.chosen)

    def original(self, label: int) -> Image:
        """The image of a class as it is, H×W×C."""
        return self.images.read(int(self.chosen[label]))

    def sample(self, index: int, stream: Stream) -> Sample:
        """A version of the image of class ``index``, and ``index``."""
        label = range(len(self))[index]
        # Differs from the paper: versions are drawn anew each time, not once before training
        recipe = self.recipes[stream.integer(len(self.recipes))]
        return recipe.augment(self.original(label), stream), label


def draw_recipe(stream: Stream, max_elms: int, p: float) -> ExemplarRecipe:
    """Draw which operations a recipe has.

    Args:
        stream: The only source of randomness.
        max_elms: Places, each of which is kept with probability ``p``.
        p: That probability.

    Returns:
        A recipe of as many operations, each of another kind; of all kinds, if there are fewer.
    """
    kept = sum(stream.chance(p) for _ in range(max_elms))
    # Differs from the paper: at most one of a kind, inversion and posterization seldom: more would destroy the image
    luck = {kind: stream.uniform() ** (1 / _SHARES.get(kind, 1.0)) for kind in _KINDS}
    kinds = itertools.islice(sorted(luck, key=lambda kind: -luck[kind]), kept)
    return ExemplarRecipe(tuple(_KINDS[kind][stream.integer(len(_KINDS[kind]))] for kind in kinds))
