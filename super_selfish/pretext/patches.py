"""The exercise of Contrastive Predictive Coding: overlapping patches of an image, each changed by itself."""

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
        "None, a preset, a recipe, or a function of an image",
        words=tuple(PRESETS),
    ),
}
_LEAST = 32  # px of a side, which networks for photographs need


def half_size(size: tuple[int, ...], half_crop_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Half the height and width of the patches of an image; None: an eighth of the image's."""
    if half_crop_size is None:
        return max(1, size[0] // 8), max(1, size[1] // 8)
    halves = (half_crop_size, half_crop_size) if isinstance(half_crop_size, int) else half_crop_size
    return halves[0], halves[1]


def grid_of(size: tuple[int, ...], half_crop_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Rows and columns of the patches of an image.

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
    """Rows and columns of the patches of an image, if they are as expected and as many as have to be predicted.

    Raises:
        ConfigurationError: If they are not.
    """
    grid, given = grid_of(size, half_crop_size), bottleneck_resolution
    if given is not None and (not isinstance(given, tuple | list) or tuple(given) != grid):
        raise ConfigurationError(
            "`bottleneck_resolution` is not the grid of the patches.",
            expected=f"None or {grid}, which follows from `half_crop_size` and images of {size[0]}×{size[1]} px",
            received=f"bottleneck_resolution={given!r}",
        )
    if min(grid[0] if side in ("top", "bottom") else grid[1] for side in sides) < k + 1:
        raise ConfigurationError(
            f"The grid of patches is too small to predict {k} steps.",
            expected=f"at least {k + 1} patches from side to side",
            received=f"{grid[0]}×{grid[1]} patches of an image of {size[0]}×{size[1]} px",
            fix="Lower `half_crop_size`, or predict fewer steps: loss=CPCLoss(k=..., ignore=...).",
        )
    return grid


def seen_patch(
    size: tuple[int, ...], half_crop_size: int | Sequence[int] | None, patch_size: object
) -> tuple[int, int]:
    """Height and width of the patches that the network sees.

    Args:
        size: Height and width of the images.
        half_crop_size: Half of what is cut.
        patch_size: Side, or (height, width), that they are brought to; None: as they are cut, but enlarged where the
            short side is less than 32 px.
    """
    if isinstance(patch_size, int):
        return patch_size, patch_size
    if isinstance(patch_size, tuple | list):
        return int(patch_size[0]), int(patch_size[1])
    height, width = (2 * half for half in half_size(size, half_crop_size))
    factor = max(1.0, _LEAST / min(height, width))
    return round(factor * height), round(factor * width)


class ContrastivePredictiveCodingDataset(PretextDataset):
    """Patches of each image that overlap by half, each augmented by itself.

    Item: (patches P×C×2h×2w,), row by row. There are H // h - 1 rows and W // w - 1 columns of them, from the upper
    left corner on. Before it is cut, the image is mirrored with probability ``flip``.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        half_crop_size: h and w: half the sides of the patches in px, and the distance from one to the next; one number
            for both; None: an eighth of the image's sides, which gives 7×7 patches at most sizes.
        views: Makes a view of a patch, of the same size: a recipe, or a callable as described at
            :class:`~super_selfish.pretext.views.CustomTransform`; None: :class:`CPCTransform`.
        flip: Probability of mirroring the image.

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
        """Whether reading an image runs a user's code, which may draw from global generators."""
        return super().runs_user_code or self.transform.runs_user_code

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The patches, P×2h×2w×C."""
        image = self.images.read(index)
        rows, columns = grid_of(image.shape[:2], self.half_crop_size)
        height, width = half_size(image.shape[:2], self.half_crop_size)
        if generator.chance(self.flip):
            image = functional.flip(image)
        corners = [(row * height, column * width) for row in range(rows) for column in range(columns)]
        cut = [image[top : top + 2 * height, left : left + 2 * width] for top, left in corners]
        made = self.transform.make_all(cut, [self.transform.plan(2 * height, 2 * width, generator) for _ in cut])
        found = {(view.shape, view.dtype) for view in made}
        if len(found) > 1 or made[0].shape != cut[0].shape:
            raise DataError(
                "`views` changed the size of patches.",
                expected=f"views of {2 * height}×{2 * width}×{image.shape[2]}, all of one type of numbers",
                received=", ".join(f"{'×'.join(map(str, shape))} of {kind}" for shape, kind in found),
            )
        return (np.stack(made),)


def check_patches(dataset: object) -> None:
    """Make sure, before training, that views leave patches as large as they were.

    Raises:
        ConfigurationError: If a user's views do not.
    """
    if not isinstance(dataset, ContrastivePredictiveCodingDataset) or not dataset.transform.runs_user_code:
        return
    try:
        dataset.images.read(0)
    except DataError:
        return  # whether that is an error is said when training comes to it
    try:
        dataset.sample(0, KeyedGenerator(0))
    except DataError as error:
        raise ConfigurationError(f"`views` cannot be used. {error}") from error


ContrastivePreditiveCodingDataset = ContrastivePredictiveCodingDataset
"""The name of 2020, as it was spelled."""
