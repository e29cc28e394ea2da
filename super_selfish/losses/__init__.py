"""Loss functions of embeddings, logits and images."""

from super_selfish.losses.contrastive import contrastive_logits, info_nce
from super_selfish.losses.grouped import GroupedLoss
from super_selfish.losses.nce import NCELoss
from super_selfish.losses.predictive import CPCLoss
from super_selfish.losses.reconstruction import masked_mse
from super_selfish.losses.regression import regression_loss

__all__ = ["CPCLoss", "GroupedLoss", "NCELoss", "contrastive_logits", "info_nce", "masked_mse", "regression_loss"]


def __dir__() -> list[str]:
    return sorted(__all__)
