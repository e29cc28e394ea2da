"""Losses: functions of embeddings and logits."""

from super_selfish.losses.contrastive import contrastive_logits, info_nce
from super_selfish.losses.reconstruction import masked_mse

__all__ = ["contrastive_logits", "info_nce", "masked_mse"]
