"""Reconstruction losses."""

from __future__ import annotations

from torch import Tensor


def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean squared error over the masked pixels of each image, averaged over the images.

    Images have equal weight, regardless of their number of masked pixels. The loss of an image without masked pixels is
    0. The loss of a batch therefore equals the mean over micro-batches of equal size.

    Args:
        prediction: Predicted images (batch, channels, height, width).
        target: Target images (batch, channels, height, width).
        mask: Boolean mask (batch, 1, height, width), True at pixels that contribute to the loss.

    Examples:
        >>> import torch
        >>> mask = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
        >>> mask[0, 0, 0, 0] = True
        >>> masked_mse(torch.full((1, 3, 2, 2), 3.0), torch.ones(1, 3, 2, 2), mask)
        tensor(4.)
    """
    weights = mask.to(prediction.dtype)
    errors = ((prediction - target).square() * weights).sum((1, 2, 3))
    return (errors / (weights.sum((1, 2, 3)) * prediction.shape[1]).clamp_min(1.0)).mean()
