"""Augmented views of images for contrastive algorithms."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.datasets.scaling import as_float
from super_selfish.errors import ConfigurationError, DataError, Rule, check_argument
from super_selfish.images.arrays import to_image
from super_selfish.images.functional import Image
from super_selfish.pretext.base import PretextDataset, Sample, first_items
from super_selfish.renamed import old_names
from super_selfish.seeding import KeyedGenerator, global_seed
from super_selfish.transforms.base import Transform, is_size
from super_selfish.transforms.presets import Preset, preset

Views = Transform | Callable[[Any], Any] | Preset

_SMALL = 64 * 64  # area of small images in px


class CustomTransform(Transform):
    """Wraps a user-supplied callable as a transform. Global random generators are seeded before each call.

    Transforms of torchvision v2 get a tensor C×H×W, and transforms of albumentations get an array H×W×C. Other
    callables get a PIL image if the image is 8-bit greyscale or RGB, and a tensor C×H×W otherwise. Tensors are uint8,
    or floats in [0, 1].

    Args:
        transform: Function from an image to a PIL image, a tensor C×H×W or an array H×W×C.

    Raises:
        ConfigurationError: If ``transform`` is not callable.
    """

    runs_user_code = True

    def __init__(self, transform: Callable[..., Any]) -> None:
        if not callable(transform) or isinstance(transform, type):
            raise ConfigurationError(
                "`views` is not a transform of images.",
                expected="a transform such as MoCoTransform(), one of torchvision v2 or albumentations, or a function",
                received=repr(transform),
            )
        self.transform = transform
        origins = [base.__module__ for base in type(transform).__mro__]
        self.named = any(origin.startswith("albumentations") for origin in origins)
        self.tensors = any(origin.startswith("torchvision.transforms.v2") for origin in origins)

    def __repr__(self) -> str:
        return f"CustomTransform({self.transform!r})"

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """The view that the callable returns."""
        key = generator.bits()
        reseed = getattr(self.transform, "set_random_seed", None)  # albumentations has its own generators
        with global_seed(key):
            if reseed is not None:
                reseed(key & 0x7FFFFFFF)
            view = self.transform(image=image)["image"] if self.named else self.transform(self._given(image))
        try:
            return to_image(view)
        except DataError as error:
            raise DataError(f"`views` did not return an image. {error}") from error

    def _given(self, image: Image) -> Any:
        if image.dtype == np.uint8 and image.shape[2] in (1, 3) and not self.tensors:
            return Pillow.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        if image.dtype == np.uint8:
            return torch.from_numpy(np.moveaxis(image, -1, 0).copy())
        return as_float(image)


def as_transform(views: Views) -> Transform:
    """Convert a transform, the name of a preset or a callable to a transform."""
    if isinstance(views, str):
        return preset(views)
    return views if isinstance(views, Transform) else CustomTransform(views)


class AugmentationDataset(PretextDataset):
    """Two views of each image: item (first view C×H×W, second view C×H×W).

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        transformations: Transform of both views, or a callable as described at :class:`CustomTransform`.
        transformations2: Transform of the second view. None: the same as for the first.
        clean1: Use the image itself as the first view.
        clean2: Use the image itself as the second view.

    Raises:
        ConfigurationError: If the transformations are not callable.

    Examples:
        >>> from super_selfish.data import MoCoTransform
        >>> first, second = AugmentationDataset(np.zeros((2, 48, 32, 3), np.uint8), MoCoTransform())[0]
        >>> first.shape, second.shape
        (torch.Size([3, 48, 32]), torch.Size([3, 48, 32]))
    """

    def __init__(
        self,
        dataset: object,
        transformations: Views,
        transformations2: Views | None = None,
        clean1: bool = False,
        clean2: bool = False,
    ) -> None:
        super().__init__(dataset)
        first = as_transform(transformations)
        second = first if transformations2 is None else as_transform(transformations2)
        self.transforms: tuple[Transform | None, ...] = (None if clean1 else first, None if clean2 else second)

    @property
    def runs_user_code(self) -> bool:
        """Whether reading an image runs user code, which may use global random generators."""
        return super().runs_user_code or any(
            transform is not None and transform.runs_user_code for transform in self.transforms
        )

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The two views; the second is drawn after the first."""
        return self.finish([self.begin(index, generator)])[0]

    @property
    def together(self) -> int:
        """Number of images that the loader passes to :meth:`finish` at once: 32 small images, or one large image."""
        with contextlib.suppress(DataError):  # handled by the loader during training
            header = self.images.header(0)
            return 32 if header.height * header.width <= _SMALL else 1
        return 1

    def begin(self, index: int, generator: KeyedGenerator) -> Any:
        """The image, and the random parameters of its views."""
        image = self.images.read(index)
        height, width = image.shape[:2]
        return image, [
            None if transform is None else transform.plan(height, width, generator) for transform in self.transforms
        ]

    def finish(self, begun: Sequence[Any]) -> list[Sample]:
        """The views of images.

        Args:
            begun: Results of :meth:`begin`.
        """
        images = [image for image, _ in begun]
        views = [
            images if transform is None else transform.make_all(images, [plans[place] for _, plans in begun])
            for place, transform in enumerate(self.transforms)
        ]
        return list(zip(*views, strict=True))


class AugmentationIndexedDataset(AugmentationDataset):
    """Two views of each image with the index of the image: item (first view, second view, index).

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        transformations: Transform of both views, or a callable as described at :class:`CustomTransform`.
        transformations2: Transform of the second view. None: the same as for the first.
        clean1: Use the image itself as the first view.
        clean2: Use the image itself as the second view.
        views: Number of views; 1 for items (view, index).

    Raises:
        ConfigurationError: If the transformations are not callable, or ``views`` is neither 1 nor 2.

    Examples:
        >>> from super_selfish.data import MoCoTransform
        >>> images = AugmentationIndexedDataset(np.zeros((9, 48, 32, 3), np.uint8), MoCoTransform(), views=1)
        >>> view, index = images[8]
        >>> view.shape, index
        (torch.Size([3, 48, 32]), 8)
    """

    def __init__(
        self,
        dataset: object,
        transformations: Views,
        transformations2: Views | None = None,
        clean1: bool = False,
        clean2: bool = False,
        *,
        views: int = 2,
    ) -> None:
        check_argument(views in (1, 2), "views", views, "1 or 2")
        super().__init__(dataset, transformations, transformations2, clean1, clean2)
        self.transforms = self.transforms[:views]

    def begin(self, index: int, generator: KeyedGenerator) -> Any:
        """The index, the image, and the random parameters of its views."""
        return index, super().begin(index, generator)

    def finish(self, begun: Sequence[Any]) -> list[Sample]:
        """The views of images, followed by the index of the image.

        Args:
            begun: Results of :meth:`begin`.
        """
        views = super().finish([image for _, image in begun])
        return [(*sample, index) for sample, (index, _) in zip(views, begun, strict=True)]


def two_views(views: Views | Sequence[Views]) -> Callable[[object], AugmentationDataset]:
    """A function from a data set of images to one of items (first view, second view).

    Args:
        views: Transform or callable of both views, or a pair of these.

    Raises:
        ConfigurationError: If ``views`` is neither.
    """
    pair = tuple(views) if isinstance(views, tuple | list) else (views, views)
    if len(pair) != 2:
        raise ConfigurationError(
            "`views` must define two views.",
            expected="a transform or callable, or a pair of these",
            received=repr(views),
        )
    first, second = (as_transform(part) for part in pair)
    return lambda images: AugmentationDataset(images, first, second)


VIEW_SIZE = Rule(is_size, "None, a side in px, or (height, width)")
"""Rule for the argument ``view_size``."""


def input_size(view_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width of the views in px. None: the size of the images."""
    return (view_size, view_size) if isinstance(view_size, int) else view_size


def check_one_source(views: object, data_augmentation: object) -> None:
    """Check that at most one argument defines the views.

    Raises:
        ConfigurationError: If both arguments are passed.
    """
    only_one = views is None or data_augmentation is None
    check_argument(only_one, "views", views, "either `views` or `data_augmentation`")


def check_views(dataset: Any, preprocessing: Preprocessing, size: int | tuple[int, int] | None, count: int = 2) -> None:
    """Check, before training, that views have the input size of the network.

    Args:
        dataset: Data set of items that start with views.
        preprocessing: Preprocessing of the images.
        size: Expected size in px: side of a square, or (height, width). None: the size of the images.
        count: Number of views per item.

    Raises:
        ConfigurationError: If the first item has too few views, or views have another shape.
    """
    if not (items := first_items(dataset)):
        return
    item = items[0]
    parts = item[:count] if isinstance(item, tuple | list) else (item,)
    views = [as_float(part) if isinstance(part, np.ndarray) else part for part in parts]
    if len(views) < count or any(not isinstance(view, Tensor) or view.ndim != 3 for view in views):
        raise ConfigurationError(
            f"The items of the data set do not start with {'a view' if count == 1 else 'two views'} of an image.",
            expected=f"items ({'view, ...' if count == 1 else 'view, view'}) of tensors C×H×W or PIL images",
            received=", ".join(type(part).__name__ for part in parts),
        )
    height, width = input_size(size) or preprocessing.resolution
    for view in views:
        if tuple(view.shape) != (preprocessing.channels, height, width):
            raise ConfigurationError(
                "The views do not have the input size of the network.",
                expected="×".join(map(str, (preprocessing.channels, height, width))),
                received="×".join(map(str, view.shape)),
                fix=f"Pass view_size={tuple(view.shape[1:])}."
                if view.shape[0] == preprocessing.channels
                else "Views must keep the number of channels.",
            )


__getattr__ = old_names(__name__)
