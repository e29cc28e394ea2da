"""Pretext task of contrastive multiview coding: lightness and colours of an image as two views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.images.functional import Image
from super_selfish.images.image_files import printable
from super_selfish.models.lab import FULL_RANGE
from super_selfish.pretext.base import PretextDataset, Sample, first_items
from super_selfish.pretext.views import AugmentationIndexedDataset
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms.lab import normalised_lab_of, roots


def lab_planes(image: Image, name: str) -> tuple[Tensor, Tensor]:
    """Lightness (1, H, W) and colours (2, H, W) of an RGB image, in [-1, 1].

    Args:
        image: RGB image H×W×3.
        name: Name of the image in error messages.

    Raises:
        DataError: If the image does not have three channels.
    """
    if image.shape[2] != 3:
        raise DataError(
            f"{name} cannot be split into lightness and colours.",
            expected="an RGB image",
            received=f"{image.shape[2]} channel{'s' if image.shape[2] > 1 else ''}",
        )
    lab = torch.from_numpy(np.moveaxis(normalised_lab_of(roots(image), FULL_RANGE), 2, 0))
    return lab[:1], lab[1:]


class AugmentationLabIndexedDataset(AugmentationIndexedDataset):
    """Lightness and colours of two views of each image: item (L, ab, L, ab, index).

    L (1×H×W) is (L - 50) / 50; ab (2×H×W) is (a - 6.025) / 92.208 and (b + 6.69) / 101.168. All sRGB colours are then
    in [-1, 1].

    Args:
        dataset: RGB images; anything that :func:`super_selfish.data.open_source` accepts.
        transformations: Transform of both views, or a callable as described at
            :class:`~super_selfish.pretext.views.CustomTransform`.
        transformations2: Transform of the second view. None: the same as for the first.
        clean1: Use the image itself as the first view.
        clean2: Use the image itself as the second view.
        views: Number of views; 1 for items (L, ab, index).

    Raises:
        ConfigurationError: If the transformations cannot be called, or ``views`` is neither 1 nor 2.
        DataError: When a view does not have three channels.

    Examples:
        >>> white = np.full((9, 48, 32, 3), 255, np.uint8)
        >>> from super_selfish.transforms.cmc import CMCTransform
        >>> lightness, colours, index = AugmentationLabIndexedDataset(white, CMCTransform(), views=1)[8]
        >>> lightness.shape, colours.shape, index, round(lightness.mean().item(), 3)
        (torch.Size([1, 48, 32]), torch.Size([2, 48, 32]), 8, 1.0)

    References:
        Tian, Krishnan and Isola, "Contrastive Multiview Coding", 2019.
    """

    def finish(self, begun: Sequence[Any]) -> list[Sample]:
        """Lightness and colours of the views, followed by the index."""

        def planes(views: list[Image], index: int) -> Iterator[Tensor]:
            what = f"A view of {printable(self.images.name(index))}"
            return (plane for view in views for plane in lab_planes(view, what))

        return [(*planes(views, index), index) for *views, index in super().finish(begun)]


class LDataset(PretextDataset):
    """The lightness of labelled images: item (L, label), with L (1×H×W) as (L - 50) / 50.

    Args:
        dataset: RGB images; anything that :func:`super_selfish.data.open_source` accepts.

    Raises:
        DataError: When an image without three channels is read.

    Examples:
        >>> lightness, label = LDataset((np.zeros((4, 32, 32, 3), np.uint8), [0, 1, 0, 1]))[1]
        >>> lightness.shape, round(lightness.mean().item(), 3), label
        (torch.Size([1, 32, 32]), -1.0, 1)
    """

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:  # noqa: ARG002 - nothing is random here
        """Lightness and label."""
        image, label = self.images.item(index)
        return lab_planes(image, printable(self.images.name(index)))[0], label


def check_lab_views(dataset: Any, preprocessing: Preprocessing, size: int | tuple[int, int] | None) -> None:
    """Check, before training, that items consist of lightness and colours with the input size of the networks.

    Args:
        dataset: Data set of items (L, ab, index) or (L, ab, L, ab, index).
        preprocessing: Preprocessing of the images.
        size: Expected size in px: side of a square, or (height, width). None: the size of the images.

    Raises:
        ConfigurationError: If the fields of the first item have other shapes.
    """
    if not (items := first_items(dataset)):
        return
    item = items[0]
    fields = item[:-1] if isinstance(item, tuple) else ()
    height, width = preprocessing.resolution if size is None else (size, size) if isinstance(size, int) else size
    wanted = [(1, height, width), (2, height, width)] * max(1, len(fields) // 2)
    found = [tuple(field.shape) if isinstance(field, Tensor) else type(field).__name__ for field in fields]
    if found != wanted or len(found) > 4:
        sizes = {shape[1:] for shape in found if len(shape) == 3 and isinstance(shape, tuple)}
        only_size = len(sizes) == 1 and [shape[0] for shape in found] == [shape[0] for shape in wanted]
        raise ConfigurationError(
            "The items of the data set do not fit the networks, which take lightness and colours of views.",
            expected=f"items (L, ab, index) or (L, ab, L, ab, index), with L of {wanted[0]} and ab of {wanted[1]}",
            received=", ".join(map(str, found)) + " before the index" if found else type(item).__name__,
            fix=f"Pass view_size={sizes.pop()}."
            if only_size
            else "Use AugmentationLabIndexedDataset(images, transform), for example.",
        )
