"""Pretext task of ExemplarNet: classify which image a random version is derived from."""

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
        lambda given: given is None or callable(given) or (isinstance(given, str) and given in PRESETS),
        "None, the name of a preset, a transform, or a function from an image to a version of it",
        words=tuple(PRESETS),
    ),
}
SEED = Rule(lambda seed: isinstance(seed, int) and not isinstance(seed, bool), "an integer")


_KINDS = {
    kind: tuple(name for name, operation in OPERATIONS.items() if operation.kind == kind)
    for kind in dict.fromkeys(operation.kind for operation in OPERATIONS.values())
}
_WEIGHTS = {"inversion": 0.15, "posterization": 0.15}  # sampling weights; 1 for other kinds


class ExemplarDataset(PretextDataset):
    """Random versions of images, where each image is a class.

    Item: (version C×H×W, class id). The classes are K = min(``n_classes``, images) images, selected by ``seed`` and
    numbered in the order of the data set; the length of this data set is K. A version is drawn by one of ``n_trans``
    compositions of operations. ``seed`` determines the compositions; their magnitudes are drawn for each version.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        transformations: Transform of the versions, or a callable as described at
            :class:`~super_selfish.pretext.views.CustomTransform`, instead of random compositions.
        n_classes: Maximum number of classes, at least 2.
        n_trans: Number of compositions.
        max_elms: Maximum number of operations of a composition.
        p: Probability of each of the ``max_elms`` operations, in [0, 1]. The operations of a composition are of
            different kinds.
        seed: Random seed for the choice of images and operations.

    Attributes:
        chosen: Indices of the images of the classes in the data set, int64 (K,).
        transforms: Transforms from which versions are drawn.

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
        """Whether reading an image runs user code, which may use global random generators."""
        return super().runs_user_code or any(transform.runs_user_code for transform in self.transforms)

    def __len__(self) -> int:
        return len(self.chosen)

    def original(self, label: int) -> Image:
        """The unchanged image of a class, H×W×C."""
        return self.images.read(int(self.chosen[label]))

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """A version of the image of class ``index``, and ``index``."""
        label = range(len(self))[index]
        # Differs from the paper: views are drawn again each time, not once before training
        transform = self.transforms[generator.integer(len(self.transforms))]
        return transform.augment(self.original(label), generator), label


def draw_transform(generator: KeyedGenerator, max_elms: int, p: float) -> ExemplarTransform:
    """Draw a random composition of operations of different kinds.

    Args:
        generator: Random generator; the only source of randomness.
        max_elms: Maximum number of operations; the number is also limited by the number of kinds.
        p: Probability of each operation, in [0, 1].

    Returns:
        The composition. Its number of operations is binomially distributed before the limit of kinds.
    """
    kept = sum(generator.chance(p) for _ in range(max_elms))
    # Differs from the paper: at most one of a kind, inversion and posterization seldom: more would destroy the image
    priority = {kind: generator.uniform() ** (1 / _WEIGHTS.get(kind, 1.0)) for kind in _KINDS}
    kinds = itertools.islice(sorted(priority, key=lambda kind: -priority[kind]), kept)
    return ExemplarTransform(tuple(_KINDS[kind][generator.integer(len(_KINDS[kind]))] for kind in kinds))
