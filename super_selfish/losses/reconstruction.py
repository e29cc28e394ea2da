"""Errors of images that were painted again."""

from __future__ import annotations

from torch import Tensor


def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error over the masked pixels alone, 0 if there are none.

    Args:
        prediction: (batch, channels, height, width).
        target: The same.
        mask: (batch, 1, height, width) of bool, True where the error counts.
    """
    kept = mask.to(prediction.dtype)
    errors = (prediction - target).square() * kept
    return errors.sum() / (kept.sum() * prediction.shape[1]).clamp_min(1.0)
