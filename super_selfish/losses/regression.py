"""BYOL's loss: predict an embedding."""

from __future__ import annotations

from torch import Tensor


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of embeddings of length one, which is 2 − 2 cos, mean over the batch.

    Equal rows give 0, orthogonal ones 2, opposite ones 4.

    Args:
        prediction: (batch, dim), rows of length one.
        target: (batch, dim), rows of length one.

    Returns:
        A scalar.

    Examples:
        >>> import torch
        >>> first, second = torch.eye(2)
        >>> [regression_loss(first[None], other[None]).item() for other in (first, second, -first)]
        [0.0, 2.0, 4.0]

    References:
        Grill et al., "Bootstrap Your Own Latent", 2020, eq. 2.
    """
    return (prediction - target).square().sum(1).mean()
