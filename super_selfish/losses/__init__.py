"""Losses: functions of embeddings and logits."""

from super_selfish.losses.contrastive import contrastive_logits, info_nce

__all__ = ["contrastive_logits", "info_nce"]
