"""Pretext task of contrastive predictive coding: overlapping, independently augmented patches of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from super_selfish.errors import PROBABILITY, ConfigurationError, DataError, Rule, validate_arguments
from super_selfish.images import functional
from super_selfish.pretext.base import PretextDataset, Sample
from super_selfish.pretext.views import Views, as_transform
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms.base import is_size
from super_selfish.transforms.cpc import ContrastivePredictiveCodingAugmentations
from super_selfish.transforms.presets import PRESETS

RULES = {
    "half_crop_size": Rule(is_size, "None, half a side in px, or (height, width)"),
    "views": Rule(
        lambda views: views is None or callable(views) or (isinstance(views, str) and views in PRESETS),
        "None, the name of a preset, a transform, or a function of an image",
        words=tuple(PRESETS),
    ),
}
_MIN_SIDE = 32  # smallest side of patches in px; networks for photographs require it


def half_size(size: tuple[int, ...], half_crop_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Half the height and width of the patches of an image in px. None: an eighth of the image size."""
    if half_crop_size is None:
        return max(1, size[0] // 8), max(1, size[1] // 8)
    halves = (half_crop_size, half_crop_size) if isinstance(half_crop_size, int) else half_crop_size
    return halves[0], halves[1]


def grid_of(size: tuple[int, ...], half_crop_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Number of rows and columns of patches of an image.

    Raises:
        ConfigurationError: If the image is smaller than a patch.

    Examples:
        >>> grid_of((225, 225), None), grid_of((97, 130), (16, 16))
        ((7, 7), (5, 7))
    """
    height, width = half_size(size, half_crop_size)
    rows, columns = size[0] // height - 1, size[1] // width - 1
    if min(rows, columns) < 1:
        raise ConfigurationError(
            "`half_crop_size` is too large for the images.",
            expected=f"at most {size[0] // 2}×{size[1] // 2} px, for images of {size[0]}×{size[1]} px",
            received=f"half_crop_size={half_crop_size!r}",
        )
    return rows, columns


def checked_grid(
    size: tuple[int, ...],
    half_crop_size: int | Sequence[int] | None,
    bottleneck_resolution: Sequence[int] | None,
    sides: Sequence[str],
    k: int,
) -> tuple[int, int]:
    """Number of rows and columns of patches of an image, after checks.

    Raises:
        ConfigurationError: If they differ from ``bottleneck_resolution``, or there are too few to predict ``k`` steps.
    """
    grid, given = grid_of(size, half_crop_size), bottleneck_resolution
    if given is not None and (not isinstance(given, tuple | list) or tuple(given) != grid):
        raise ConfigurationError(
            "`bottleneck_resolution` differs from the grid of patches.",
            expected=f"None or {grid}, which follows from `half_crop_size` and images of {size[0]}×{size[1]} px",
            received=f"bottleneck_resolution={given!r}",
        )
    if min(grid[0] if side in ("top", "bottom") else grid[1] for side in sides) < k + 1:
        raise ConfigurationError(
            f"The grid of patches is too small to predict {k} steps.",
            expected=f"at least {k + 1} patches in each direction of prediction",
            received=f"{grid[0]}×{grid[1]} patches of an image of {size[0]}×{size[1]} px",
            fix="Lower `half_crop_size`, or predict fewer steps: loss=CPCLoss(k=..., ignore=...).",
        )
    return grid


def seen_patch(
    size: tuple[int, ...], half_crop_size: int | Sequence[int] | None, patch_size: object
) -> tuple[int, int]:
    """Height and width of the network input in px.

    Args:
        size: Height and width of the images in px.
        half_crop_size: Half the side of the patches in px, or half of (height, width).
        patch_size: Size to which patches are resized: side of a square, or (height, width). None: patches keep their
            size, but a short side below 32 px is enlarged to 32 px.
    """
    if isinstance(patch_size, int):
        return patch_size, patch_size
    if isinstance(patch_size, tuple | list):
        return int(patch_size[0]), int(patch_size[1])
    height, width = (2 * half for half in half_size(size, half_crop_size))
    factor = max(1.0, _MIN_SIDE / min(height, width))
    return round(factor * height), round(factor * width)


class ContrastivePredictiveCodingDataset(PretextDataset):
    """Independently augmented patches of each image that overlap by half.

    Item: (patches P×C×2h×2w,), in row-major order. There are H // h - 1 rows and W // w - 1 columns of patches,
    starting at the upper left corner. Before patches are extracted, the image is flipped with probability ``flip``.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        half_crop_size: h and w in px, or one number for both: half the sides of the patches, and the stride between
            patches. None: an eighth of the image size, which gives 7×7 patches at most sizes.
        views: Transform from a patch to a view of the same size, or a callable as described at
            :class:`~super_selfish.pretext.views.CustomTransform`. None: :class:`CPCTransform`.
        flip: Probability of a horizontal flip of the image, in [0, 1].

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> (patches,) = ContrastivePredictiveCodingDataset(np.zeros((2, 225, 225, 3), np.uint8))[0]
        >>> patches.shape
        torch.Size([49, 3, 56, 56])

    References:
        Hénaff et al., "Data-Efficient Image Recognition with Contrastive Predictive Coding", 2020.
    """

    batched = True

    @validate_arguments({**RULES, "flip": PROBABILITY})
    def __init__(
        self,
        dataset: object,
        half_crop_size: int | Sequence[int] | None = (28, 28),
        *,
        views: Views | None = None,
        flip: float = 0.5,
    ) -> None:
        super().__init__(dataset)
        self.half_crop_size = half_crop_size
        self.transform = ContrastivePredictiveCodingAugmentations if views is None else as_transform(views)
        self.flip = flip

    @property
    def runs_user_code(self) -> bool:
        """Whether reading an image runs user code, which may use global random generators."""
        return super().runs_user_code or self.transform.runs_user_code

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The patches, P×2h×2w×C."""
        image = self.images.read(index)
        rows, columns = grid_of(image.shape[:2], self.half_crop_size)
        height, width = half_size(image.shape[:2], self.half_crop_size)
        if generator.chance(self.flip):
            image = functional.flip(image)
        corners = [(row * height, column * width) for row in range(rows) for column in range(columns)]
        patches = [image[top : top + 2 * height, left : left + 2 * width] for top, left in corners]
        plans = [self.transform.plan(2 * height, 2 * width, generator) for _ in patches]
        views = self.transform.make_all(patches, plans)
        kinds = {(view.shape, view.dtype) for view in views}
        if len(kinds) > 1 or views[0].shape != patches[0].shape:
            raise DataError(
                "`views` changed the size of patches.",
                expected=f"views of {2 * height}×{2 * width}×{image.shape[2]}, all of one dtype",
                received=", ".join(f"{'×'.join(map(str, shape))} of {dtype}" for shape, dtype in kinds),
            )
        return (np.stack(views),)


def check_patches(dataset: object) -> None:
    """Check, before training, that custom ``views`` keep the size of patches.

    Raises:
        ConfigurationError: If they do not.
    """
    if not isinstance(dataset, ContrastivePredictiveCodingDataset) or not dataset.transform.runs_user_code:
        return
    try:
        dataset.images.read(0)
    except DataError:
        return  # handled by the loader during training
    try:
        dataset.sample(0, KeyedGenerator(0))
    except DataError as error:
        raise ConfigurationError(f"`views` cannot be used. {error}") from error


ContrastivePreditiveCodingDataset = ContrastivePredictiveCodingDataset
"""Misspelled name in the release of 2020."""
