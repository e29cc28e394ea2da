"""Errors of images that were painted again."""

from __future__ import annotations

from torch import Tensor


def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error over the masked pixels of each image alone, mean over the images.

    Each image counts alike, however many of its pixels are masked; one without any counts as 0. So the loss of a batch
    is the mean of the losses of its parts.

    Args:
        prediction: (batch, channels, height, width).
        target: The same.
        mask: (batch, 1, height, width) of bool, True where the error counts.

    Examples:
        >>> import torch
        >>> mask = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
        >>> mask[0, 0, 0, 0] = True
        >>> masked_mse(torch.full((1, 3, 2, 2), 3.0), torch.ones(1, 3, 2, 2), mask)
        tensor(4.)
    """
    kept = mask.to(prediction.dtype)
    errors = ((prediction - target).square() * kept).sum((1, 2, 3))
    return (errors / (kept.sum((1, 2, 3)) * prediction.shape[1]).clamp_min(1.0)).mean()
