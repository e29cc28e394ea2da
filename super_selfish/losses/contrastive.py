"""The InfoNCE loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from super_selfish.errors import check_argument


def contrastive_logits(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Compute the similarities of each query to its key and to its negatives, divided by the temperature.

    Args:
        query: L2-normalised queries (batch, dim).
        key: L2-normalised keys (batch, dim). Row i is the positive of query i.
        negatives: Negatives (negatives, dim), shared by all queries, or (batch, negatives, dim).
        temperature: Positive temperature.

    Returns:
        Logits (batch, 1 + negatives). The positive comes first.
    """
    positive = torch.einsum("bd,bd->b", query, key)
    negative = torch.einsum("bd,nd->bn" if negatives.ndim == 2 else "bd,bnd->bn", query, negatives)
    return torch.cat([positive[:, None], negative], dim=1) / temperature


def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float = 0.07) -> Tensor:
    """Compute the InfoNCE loss: the cross entropy of classifying the key among the negatives.

    ``−log( exp(q·k/τ) / (exp(q·k/τ) + Σₙ exp(q·n/τ)) )``, averaged over the batch. At chance level, with equal
    similarities, the loss is ln(1 + negatives).

    Args:
        query: L2-normalised queries (batch, dim).
        key: L2-normalised keys (batch, dim). Row i is the positive of query i.
        negatives: Negatives (negatives, dim), shared by all queries, or (batch, negatives, dim).
        temperature: Positive temperature τ.

    Returns:
        The loss, a scalar.

    Raises:
        ConfigurationError: If ``temperature`` is not positive.

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
