"""From images to features."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.utils.data import DataLoader

from super_selfish.data.collate import Batch, Collator, Item, to_device
from super_selfish.data.preprocessing import ImageDataset, Preprocessing, fit_preprocessing
from super_selfish.data.sources import open_source
from super_selfish.models.shapes import expected_channels

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class _Images:
    """Preprocessed images with their labels, for a data loader."""

    def __init__(self, images: ImageDataset) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        image, label = self.images.item(index)
        return Item(index, (image, -1 if label is None else label, label is not None))


def extract_features(
    backbone: nn.Module,
    data: object,
    *,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
) -> tuple[Features, Labels | None]:
    """Features of images from a backbone in eval mode, without augmentation.

    Args:
        backbone: Images (batch, C, H, W) in [0, 1] to features.
        data: A folder (labels are its subfolders), a data set, an array, a tensor, or (images, labels).
        preprocessing: What images become first; None: what the backbone was trained with, if it came from
            ``supervisor.get_backbone()``, otherwise what suits the data.
        batch_size: Images at a time.
        num_workers: Processes that read ahead.

    Returns:
        Float32 features (N, D), maps averaged over space, and integer labels (N,), or None if there are none.

    Raises:
        DataError: If an image cannot be read.
        ConfigurationError: If the data is none of the above.

    Example:
        >>> x, y = extract_features(nn.Flatten(), (np.zeros((4, 32, 32, 3), np.uint8), [0, 1, 0, 1]))
        >>> x.shape, y
        ((4, 3072), array([0, 1, 0, 1]))
    """
    features, labels, _ = extract_named(
        backbone, data, preprocessing=preprocessing, batch_size=batch_size, num_workers=num_workers
    )
    return features, labels


def extract_named(
    backbone: nn.Module,
    data: object,
    *,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
) -> tuple[Features, Labels | None, list[str]]:
    """As :func:`extract_features`, with the name of every image."""
    images = prepared(backbone, data, preprocessing)
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    loader: DataLoader[Any] = DataLoader(
        _Images(images),  # type: ignore[arg-type]
        batch_size=batch_size,
        collate_fn=Collator(),
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    features: list[Tensor] = []
    labels: list[Tensor] = []
    labelled = True
    try:
        with torch.no_grad():
            for batch in loader:
                pixels, label, has_label = to_device(batch, device)
                features.append(pooled(backbone(normalized(pixels, images.preprocessing))).float().cpu())
                labels.append(label.cpu())
                labelled = labelled and bool(has_label.all())
    finally:
        for module, mode in modes.items():
            module.training = mode
    names = [images.name(index) for index in range(len(images))]
    return torch.cat(features).numpy(), torch.cat(labels).numpy() if labelled else None, names


def prepared(backbone: nn.Module, data: object, preprocessing: Preprocessing | None) -> ImageDataset:
    """Data as images that fit a backbone."""
    if isinstance(data, ImageDataset) and preprocessing is None:
        return data
    source = open_source(data)
    chosen = preprocessing if preprocessing is not None else getattr(backbone, "preprocessing", None)
    if not isinstance(chosen, Preprocessing):
        chosen = fit_preprocessing(source, channels=expected_channels(backbone))
    return ImageDataset(source, chosen)


def pooled(features: Tensor) -> Tensor:
    """A map (batch, C, H, W) averaged over space; a vector as it is."""
    return features.mean((2, 3)) if features.ndim == 4 else features


def normalized(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Images in [0, 1] with the preprocessing's mean and standard deviation, if it has them."""
    if preprocessing.mean is None or preprocessing.std is None:
        return images
    mean = torch.tensor(preprocessing.mean, device=images.device).view(-1, 1, 1)
    return images.sub(mean).div(torch.tensor(preprocessing.std, device=images.device).view(-1, 1, 1))


def preprocess_batch(images: Any, preprocessing: Preprocessing) -> Tensor:
    """One image, a list of them or a batch, as float32 (N, C, H, W) on the CPU."""
    single = isinstance(images, str | PILImage.Image) or hasattr(images, "__fspath__")
    if isinstance(images, np.ndarray | Tensor):
        single = images.ndim < 4
    dataset = ImageDataset(open_source([images] if single else images), preprocessing)
    items = [Item(index, (dataset.read(index),)) for index in range(len(dataset))]
    batch: Batch = Collator()(items)
    return normalized(to_device(batch, torch.device("cpu"))[0], preprocessing)
