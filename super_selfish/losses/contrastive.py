"""InfoNCE: tell the positive from the negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from super_selfish.errors import check_argument


def contrastive_logits(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Similarities of each query with its key, which comes first, and with its negatives, over a temperature.

    Args:
        query: (batch, dim), rows of length one.
        key: (batch, dim), row by row the positives of the queries.
        negatives: (negatives, dim) shared by all queries, or (batch, negatives, dim).
        temperature: Positive.

    Returns:
        (batch, 1 + negatives).
    """
    positive = torch.einsum("bd,bd->b", query, key)
    others = torch.einsum("bd,nd->bn" if negatives.ndim == 2 else "bd,bnd->bn", query, negatives)
    return torch.cat([positive[:, None], others], dim=1) / temperature


def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float = 0.07) -> Tensor:
    """Cross entropy of finding each query's key among the negatives, mean over the batch.

    ``−log( exp(q·k/τ) / (exp(q·k/τ) + Σₙ exp(q·n/τ)) )``. Equal similarities give ln(1 + negatives).

    Args:
        query: (batch, dim), rows of length one.
        key: (batch, dim), row by row the positives of the queries.
        negatives: (negatives, dim) shared by all queries, or (batch, negatives, dim).
        temperature: τ, positive.

    Returns:
        A scalar.

    Raises:
        ConfigurationError: If the temperature is not positive.

    Examples:
        >>> zeros = torch.zeros(2, 8)
        >>> round(info_nce(zeros, zeros, torch.zeros(128, 8)).item(), 4)
        4.8598

    References:
        van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4.
    """
    check_argument(temperature > 0, "temperature", temperature, "a number above 0", "Papers use 0.07 to 0.2.")
    logits = contrastive_logits(query, key, negatives, temperature)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
