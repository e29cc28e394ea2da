"""Feature extraction with a backbone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.utils.data import DataLoader

from super_selfish.datasets.labels import report_classes, with_classes
from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing, fit_preprocessing
from super_selfish.datasets.sources import ImageSource, open_source
from super_selfish.errors import DataError, unreadable, validate_keywords
from super_selfish.images.buffers import Buffers
from super_selfish.loading.collate import Batch, Collator, Item, to_device
from super_selfish.models.combined import in_eval_mode
from super_selfish.models.shapes import expected_channels

logger = logging.getLogger("super_selfish")

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class _Images:
    """Preprocessed images with their labels, for a data loader."""

    def __init__(self, images: ImageDataset) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        try:
            image, label = self.images.item(index)
        except DataError as error:
            return Item(index, failures=[(index, str(error))])
        return Item(index, (image, -1 if label is None else label, label is not None))


@validate_keywords()
def extract_features(
    backbone: nn.Module,
    data: object,
    *,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    on_error: str = "raise",
    classes: Sequence[str] | None = None,
) -> tuple[Features, Labels | None]:
    """Extract features of images with a backbone in eval mode, without augmentation.

    Args:
        backbone: Network from images (batch, C, H, W) in [0, 1] to features.
        data: A folder (whose subfolders are the classes), a data set, an array, a tensor, or (images, labels).
        preprocessing: Preprocessing of the images. None: the preprocessing of the backbone's training, if it comes from
            ``supervisor.get_backbone()``; otherwise it is fitted to the data.
        batch_size: Number of images per batch.
        num_workers: Number of data-loading workers.
        on_error: What to do with unreadable images: ``"raise"``, or ``"skip"``, which leaves out their rows.
        classes: Class names by label, such as ``open_source("train").class_names``; labels are indices into it. Other
            classes are numbered after these, and logged. None: the numbering of the data.

    Returns:
        Float32 features (N, D), where feature maps are average-pooled, and integer labels (N,), or None
        if an image has none.

    Raises:
        DataError: If an image cannot be read, or no image is of a class in ``classes``.
        ConfigurationError: If the type of ``data`` is not supported, or ``classes`` is not a list of names.

    Examples:
        >>> x, y = extract_features(nn.Flatten(), (np.zeros((4, 32, 32, 3), np.uint8), [0, 1, 0, 1]))
        >>> x.shape, y
        ((4, 3072), array([0, 1, 0, 1]))
    """
    settings: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers, "on_error": on_error}
    images: ImageSource = prepared(backbone, data, preprocessing)
    if classes is not None:
        images = with_classes(images, classes)
    features, labels, _ = extract_named(backbone, images, preprocessing=preprocessing, **settings)
    if classes is not None and labels is not None:
        report_classes(range(len(classes)), labels.tolist(), images.class_names)
    return features, labels


def extract_named(
    backbone: nn.Module,
    data: object,
    *,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    on_error: str = "raise",
) -> tuple[Features, Labels | None, list[str]]:
    """Like :func:`extract_features`, and also return the name of each image."""
    images = prepared(backbone, data, preprocessing)
    settings: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers, "on_error": on_error}
    batches = list(feature_batches(backbone, images, **settings))
    features = [batch.features for batch in batches if len(batch.features)]
    if not features:
        raise DataError(
            "None of the images can be read.", expected="at least one", received=f"{len(images)} unreadable images"
        )
    labels = [label for batch in batches for label in batch.labels]
    names = [images.name(index) for batch in batches for index in batch.indices]
    if None not in labels:
        return torch.cat(features).numpy(), np.array(labels, np.int64), names
    if (missing := labels.count(None)) < len(labels):
        logger.warning(
            "%d of %d images have no label, such as %s. No labels are used. Leave these images out to use the others.",
            missing,
            len(labels),
            names[labels.index(None)],
        )
    return torch.cat(features).numpy(), None, names


class FeatureBatch(NamedTuple):
    """Features of consecutive images.

    Attributes:
        indices: Indices of the images; those of unreadable images are missing.
        features: Float32 (len(indices), D) on the CPU; feature maps are average-pooled.
        labels: Label of each image, or None.
        end: Index of the next image.
    """

    indices: list[int]
    features: Tensor
    labels: list[int | None]
    end: int


def feature_batches(
    backbone: nn.Module,
    images: ImageDataset,
    *,
    start: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
    on_error: str = "raise",
) -> Iterator[FeatureBatch]:
    """Iterate over the features of images, in order, from image ``start``; other arguments as for `extract_features`.

    Raises:
        UnreadableImage: If an image cannot be read, unless ``on_error`` is ``"skip"``.
    """
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    loader: DataLoader[Any] = DataLoader(
        _Images(images),  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=range(start, len(images)),
        collate_fn=_readable,
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    buffers = Buffers()
    for number, batch in enumerate(loader, start=1):
        if batch.failures and on_error == "raise":
            raise unreadable(batch.failures[0][1])
        for index, reason in batch.failures:
            logger.warning("Skipped image %d: %s", index, reason)
        end = min(start + number * batch_size, len(images))
        if batch.data is None:
            yield FeatureBatch([], torch.zeros(0), [], end)
            continue
        with in_eval_mode(backbone), torch.no_grad():  # not around `yield`, which would change the caller's mode
            pixels, label, has_label = to_device(batch, device, images.preprocessing, buffers=buffers)
            features = pooled(backbone(pixels)).float().cpu()
        labels = [one if known else None for one, known in zip(label.tolist(), has_label.tolist(), strict=True)]
        yield FeatureBatch(list(batch.indices), features, labels, end)


def prepared(backbone: nn.Module, data: object, preprocessing: Preprocessing | None) -> ImageDataset:
    """Convert data to a data set of images, preprocessed for a backbone."""
    chosen = preprocessing if preprocessing is not None else getattr(backbone, "preprocessing", None)
    if isinstance(chosen, Preprocessing):
        return ImageDataset.from_(data, chosen)
    if isinstance(data, ImageDataset):
        return data
    source = open_source(data)
    return ImageDataset(source, fit_preprocessing(source, channels=expected_channels(backbone)))


def _readable(items: list[Item]) -> Batch:
    """A batch of the readable images, with the errors of the unreadable ones."""
    batch = Collator()([item for item in items if item.sample is not None] or items)
    batch.failures = [failure for item in items for failure in item.failures]
    return batch


def pooled(features: Tensor) -> Tensor:
    """Average-pool feature maps (batch, C, H, W); other features are returned unchanged."""
    return features.mean((2, 3)) if features.ndim == 4 else features


def preprocess_batch(images: Any, preprocessing: Preprocessing) -> Tensor:
    """Preprocess an image, a list of images or a batch: float32 (N, C, H, W) on the CPU."""
    single = isinstance(images, str | PILImage.Image) or hasattr(images, "__fspath__")
    if isinstance(images, np.ndarray | Tensor):
        single = images.ndim < 4
    dataset = ImageDataset.from_([images] if single else images, preprocessing)
    return as_network_input([dataset.read(index) for index in range(len(dataset))], preprocessing)


def as_network_input(images: Sequence[Any], preprocessing: Preprocessing) -> Tensor:
    """Collate images of an :class:`ImageDataset` to float32 (N, C, H, W) on the CPU; N may be 0."""
    if not images:
        return torch.zeros(0)
    batch: Batch = Collator()([Item(index, (image,)) for index, image in enumerate(images)])
    pixels: Tensor = to_device(batch, torch.device("cpu"), preprocessing)[0]
    return pixels
