"""Data sets whose items tell which image they are of."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from super_selfish.errors import ConfigurationError, is_count
from super_selfish.pretext.base import sample_key

logger = logging.getLogger("super_selfish")


def check_indexed(dataset: Any, images: int) -> None:
    """Make sure, before training, that items tell which image they are of: the first two and the last are tried.

    Raises:
        ConfigurationError: If the last field of an item is not its own index.
    """
    if not hasattr(dataset, "__getitem__"):
        return
    for index in sorted({0, min(1, images - 1), images - 1}):
        try:
            with sample_key(0, 0, index):
                item = dataset[index]
        except Exception:  # a user's data set may raise anything: training says so when it comes to it, or skips it
            logger.debug("Item %d cannot be read.", index, exc_info=True)
            continue
        last = item[-1] if isinstance(item, Sequence) and item else None
        if isinstance(last, Tensor | np.generic) and last.ndim == 0:
            last = last.item()
        if not is_count(last, 0) or last != index:
            raise ConfigurationError(
                "The bank has to know which image an item is of.",
                expected=f"items that end in the index of the image, from 0 to {images - 1}: item {index} in {index}",
                received=f"an item that ends in {last if is_count(last, 0) else type(last).__name__}",
                fix="For instance AugmentationIndexedDataset(images, recipe).",
            )
