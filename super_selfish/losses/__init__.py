"""Losses: functions of embeddings and logits."""

from super_selfish.losses.contrastive import contrastive_logits, info_nce
from super_selfish.losses.grouped import GroupedLoss
from super_selfish.losses.reconstruction import masked_mse

__all__ = ["GroupedLoss", "contrastive_logits", "info_nce", "masked_mse"]
