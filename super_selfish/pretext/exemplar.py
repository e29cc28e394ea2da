"""ExemplarNet's exercise: of which image is this a version?"""

from __future__ import annotations

import itertools

import numpy as np

from super_selfish.errors import PROBABILITY, Rule, is_count, validate_arguments
from super_selfish.images.functional import Image
from super_selfish.pretext.base import PretextDataset, Sample
from super_selfish.pretext.views import Views, as_transform
from super_selfish.seeding import KeyedGenerator, make_key, splitmix64
from super_selfish.transforms.base import Transform
from super_selfish.transforms.exemplar import OPERATIONS, ExemplarTransform
from super_selfish.transforms.presets import PRESETS

RULES = {
    "n_classes": Rule(lambda count: is_count(count, 2), "an integer of at least 2"),
    "n_trans": Rule(lambda count: is_count(count, 1), "an integer of at least 1"),
    "max_elms": Rule(lambda count: is_count(count, 0), "an integer of at least 0"),
    "p": PROBABILITY,
    "transformations": Rule(
        lambda made: made is None or callable(made) or (isinstance(made, str) and made in PRESETS),
        "None, a preset, a recipe, or a function that makes a version of an image",
        words=tuple(PRESETS),
    ),
}
SEED = Rule(lambda seed: isinstance(seed, int) and not isinstance(seed, bool), "an integer")


_KINDS = {
    kind: tuple(name for name, operation in OPERATIONS.items() if operation.kind == kind)
    for kind in dict.fromkeys(operation.kind for operation in OPERATIONS.values())
}
_SHARES = {"inversion": 0.15, "posterization": 0.15}  # of the weight of other kinds


class ExemplarDataset(PretextDataset):
    """Some images, each a class of its own, whose members are random versions of the image.

    Item: (version C×H×W, class id). The classes are C = min(``n_classes``, images) different images, chosen by ``seed``
    and numbered in the order of the data set; C is the length. A version is made by one of ``n_trans`` recipes,
    also fixed by ``seed``, with magnitudes drawn each time.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        transformations: Makes the versions instead: a recipe, or a callable as described at
            :class:`~super_selfish.pretext.views.CustomTransform`.
        n_classes: Images at most, at least 2.
        n_trans: Recipes.
        max_elms: Places of a recipe.
        p: Probability that a place has an operation, which is of another kind than the others of the recipe.
        seed: Of the choice of images, and of the operations of the recipes.

    Attributes:
        chosen: Index in the data set of the image of each class, int64 (C,).
        transforms: What makes the versions.

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

    @validate_arguments({**RULES, "seed": SEED})
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
        super().__init__(dataset)
        self.transforms: tuple[Transform, ...]
        if transformations is None:
            self.transforms = tuple(
                draw_transform(KeyedGenerator(seed, "recipe", i), max_elms, p) for i in range(n_trans)
            )
        else:
            self.transforms = (as_transform(transformations),)
        # Differs from the paper: whole images instead of patches of 32 px at places of strong gradients
        order = np.argsort(splitmix64(make_key(seed, "classes"), len(self.images)), kind="stable")
        self.chosen = np.sort(order[:n_classes])

    @property
    def runs_user_code(self) -> bool:
        """Whether reading an image runs a user's code, which may draw from global generators."""
        return super().runs_user_code or any(transform.runs_user_code for transform in self.transforms)

    def __len__(self) -> int:
        return len(self.chosen)

    def original(self, label: int) -> Image:
        """The image of a class as it is, H×W×C."""
        return self.images.read(int(self.chosen[label]))

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """A version of the image of class ``index``, and ``index``."""
        label = range(len(self))[index]
        # Differs from the paper: versions are drawn anew each time, not once before training
        transform = self.transforms[generator.integer(len(self.transforms))]
        return transform.augment(self.original(label), generator), label


def draw_transform(generator: KeyedGenerator, max_elms: int, p: float) -> ExemplarTransform:
    """Draw which operations a recipe has.

    Args:
        generator: The only source of randomness.
        max_elms: Places, each of which is kept with probability ``p``.
        p: That probability.

    Returns:
        A recipe of as many operations, each of another kind; of all kinds, if there are fewer.
    """
    kept = sum(generator.chance(p) for _ in range(max_elms))
    # Differs from the paper: at most one of a kind, inversion and posterization seldom: more would destroy the image
    luck = {kind: generator.uniform() ** (1 / _SHARES.get(kind, 1.0)) for kind in _KINDS}
    kinds = itertools.islice(sorted(luck, key=lambda kind: -luck[kind]), kept)
    return ExemplarTransform(tuple(_KINDS[kind][generator.integer(len(_KINDS[kind]))] for kind in kinds))
