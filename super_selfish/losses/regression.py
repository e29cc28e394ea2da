"""The regression loss of BYOL."""

from __future__ import annotations

from torch import Tensor


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the squared L2 distance of normalised embeddings, averaged over the batch.

    The distance equals 2 − 2 · cosine similarity: 0 for equal, 2 for orthogonal, and 4 for opposite embeddings.

    Args:
        prediction: L2-normalised predictions (batch, dim).
        target: L2-normalised targets (batch, dim).

    Returns:
        The loss, a scalar.

    Examples:
        >>> import torch
        >>> first, second = torch.eye(2)
        >>> [regression_loss(first[None], other[None]).item() for other in (first, second, -first)]
        [0.0, 2.0, 4.0]

    References:
        Grill et al., "Bootstrap Your Own Latent", 2020, eq. 2.
    """
    return (prediction - target).square().sum(1).mean()
