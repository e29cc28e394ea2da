"""Checks of evaluation baselines: untrained networks whose features are usable, and images in both train and test."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.distributed.norms import BATCH_NORMS
from super_selfish.errors import DataError
from super_selfish.evaluation.features import as_network_input, prepared
from super_selfish.models.combined import in_eval_mode

MOST_IMAGES = 64
"""Number of images of the batch statistics of an untrained network."""

Rows = npt.NDArray[Any] | Sequence[npt.NDArray[Any]]

_SIDE = 16
_LEAST_SPREAD = 0.01  # standard deviation of normalised features, as a fraction of that of uniform features
_SEVERAL = 1.05  # effective rank


@torch.no_grad()
def adapt_batch_norm(network: nn.Module, data: ImageSource) -> bool:
    """Set the running statistics of batch norm in an untrained network to those of some images.

    With the initial statistics (mean 0, variance 1), activations shrink from layer to layer in eval mode, until all
    images have the same features.

    Args:
        network: The network, with a ``preprocessing`` attribute; its weights and its mode are not changed.
        data: Images; up to 64 of them are used, evenly spaced.

    Returns:
        Whether the network has batch norm.
    """
    layers = [part for part in network.modules() if isinstance(part, BATCH_NORMS) and part.running_mean is not None]
    if not layers:
        return False
    images = prepared(network, data, None)
    found = []
    for index in evenly_spaced(len(images), MOST_IMAGES):
        try:
            found.append(images.read(index))
        except DataError:
            continue
    if len(found) < 2:
        return False
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    before = [layer.momentum for layer in layers]
    with in_eval_mode(network):
        for layer in layers:
            layer.momentum = 1.0
            layer.train()
        network(as_network_input(found, images.preprocessing).to(device))
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum
    return True


def is_degenerate(quality: Mapping[str, Any]) -> bool:
    """Whether all images have nearly the same features.

    Args:
        quality: Metrics as returned by ``Quality.as_dict``.

    Examples:
        >>> is_degenerate({"std": 0.12, "std_uniform": 0.125, "effective_rank": 31.0})
        False
        >>> is_degenerate({"std": 0.0, "std_uniform": 0.125, "effective_rank": 1.0})
        True
    """
    return bool(quality["std"] < _LEAST_SPREAD * quality["std_uniform"] or quality["effective_rank"] < _SEVERAL)


@contextlib.contextmanager
def recorded_images(network: nn.Module) -> Iterator[list[npt.NDArray[Any]]]:
    """Context manager: record the images that a network is called with, averaged to at most 16×16, in a list."""
    found: list[npt.NDArray[Any]] = []

    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG001 - signature of the hook
        found.extend(reduced(inputs[0]).cpu().numpy())

    handle = network.register_forward_pre_hook(record)
    try:
        yield found
    finally:
        handle.remove()


def reduced(images: torch.Tensor) -> torch.Tensor:
    """Average images (batch, C, H, W) to at most 16×16 px, and flatten them: (batch, values)."""
    height, width = (min(_SIDE, side) for side in images.shape[2:])
    return nn.functional.adaptive_avg_pool2d(images, (height, width)).flatten(1)


class Pixels(nn.Module):
    """Images averaged to at most 16×16 px, as features."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (batch, C · 16 · 16)."""
        return reduced(x)


def shared_images(x: Rows, test_x: Rows | None = None) -> list[str]:
    """Describe images that occur in both the training and the test set; empty if there are none.

    Args:
        x: Pixels or other values that identify an image, one row per training image.
        test_x: The same of the test images; None: random parts of ``x`` are tested.

    Examples:
        >>> shared_images(np.eye(3), np.ones((2, 3)))
        []
        >>> shared_images(np.eye(3), np.eye(3)[:2])
        ['2 of 2 test images are also among the training images, so the scores are too high']
    """
    rows = [_digest(row) for row in x]
    if test_x is None:
        repeated = len(rows) - len(set(rows))
        if not repeated:
            return []
        return [f"{repeated} of {len(rows)} images are duplicates of others, so the scores may be too high"]
    known = set(rows)
    shared = sum(_digest(row) in known for row in test_x)
    if not shared:
        return []
    return [f"{shared} of {len(test_x)} test images are also among the training images, so the scores are too high"]


def _digest(row: npt.NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()
