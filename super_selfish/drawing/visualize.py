"""Write items of a data set as image files."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from torch import Tensor

from super_selfish.datasets.scaling import as_float
from super_selfish.errors import DataError, check_argument, is_count, validate_keywords
from super_selfish.files import write_figure
from super_selfish.pretext.base import custom_sample


@validate_keywords()
def visualize(
    dataset: Any, idx: int = 0, folder_path: str | os.PathLike[str] = "", batched: bool = False
) -> list[Path]:
    """Write the images of an item as PNG files, ``<idx>_<field>.png`` or ``<idx>_<field>_<number>.png``.

    One channel is written as greyscale, two as red and green, three as RGB; of more channels, the first three are
    written. Images with values outside [0, 1] are min-max scaled. To draw the pretext task with captions, use
    :meth:`Supervisor.preview`.

    Args:
        dataset: Data set whose items contain images as tensors (C, H, W), arrays (H, W, C) or PIL images.
        idx: Index of the item.
        folder_path: Output folder; it is created if it does not exist.
        batched: Whether the fields of the item are batches of images (N, C, H, W).

    Returns:
        Paths of the files.

    Raises:
        ConfigurationError: If ``idx`` is out of range.
        DataError: If the item contains no images.
        CheckpointError: If a file cannot be written.

    Examples:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in visualize([(torch.rand(3, 32, 32), 5)], folder_path=folder)]
        ['0_0.png']
    """
    check_argument(is_count(idx, 0) and idx < len(dataset), "idx", idx, f"an integer from 0 to {len(dataset) - 1}")
    item = custom_sample(dataset[idx])
    fields = item if isinstance(item, tuple | list) else (item,)
    tensors = [as_float(field) if isinstance(field, np.ndarray) else field for field in fields]
    tensors = [part / 255 if isinstance(part, Tensor) and part.dtype == torch.uint8 else part for part in tensors]
    images: dict[str, Tensor] = {}
    for place, field in enumerate(tensors):
        if not isinstance(field, Tensor) or field.ndim != 3 + batched:
            continue
        if batched:
            images |= {f"{idx}_{place}_{number}": image for number, image in enumerate(field)}
        else:
            images[f"{idx}_{place}"] = field
    if not images:
        expected = "tensors (N, C, H, W)" if batched else "tensors (C, H, W), arrays (H, W, C) or PIL images"
        received = ", ".join(
            str(tuple(part.shape)) if isinstance(part, Tensor) else str(type(part)) for part in tensors
        )
        raise DataError("The item contains no images.", expected=expected, received=received)
    folder = Path(folder_path)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, image in images.items():
        paths.append(folder / f"{name}.png")
        picture = Pillow.fromarray(_pixels(image))
        write_figure(paths[-1], functools.partial(picture.save, format="PNG"))
    return paths


def _pixels(image: Tensor) -> npt.NDArray[np.uint8]:
    """Convert an image (C, H, W) to an H×W or H×W×3 array of uint8."""
    values = image.detach().cpu().double().numpy()
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        values = (values - low) / max(high - low, 1e-12)
    values = np.moveaxis(values, 0, -1)
    if values.shape[2] == 2:
        values = np.concatenate([values, np.zeros_like(values[:, :, :1])], axis=2)
    shown = values[:, :, 0] if values.shape[2] == 1 else values[:, :, :3]
    return np.asarray((shown * 255).round(), dtype=np.uint8)
