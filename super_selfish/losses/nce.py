"""The noise-contrastive estimation (NCE) loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.distributed import gather
from super_selfish.errors import COUNT, check_argument


class NCELoss(nn.Module):
    """Noise-contrastive estimation of ``P(i|v) = exp(v·mᵢ/τ) / Z`` with a constant Z.

    For an anchor with m negatives from n images, the loss is
    ``-ln[P⁺/(P⁺ + m/n)] - Σⱼ ln[(m/n)/(P⁻ⱼ + m/n)]``, averaged over the batch. Z is estimated once, as n times the mean
    of ``exp(v·m/τ)`` over the first training batch (with gradient accumulation, over the first micro-batch). It is part
    of the state.

    Args:
        images: Number n of images in the data set.

    Attributes:
        log_z: ln Z. It is undefined until ``known`` is True.
        known: Whether Z has been estimated.

    Raises:
        ConfigurationError: If ``images`` is not a positive integer.

    Examples:
        >>> loss = NCELoss(images=100)
        >>> round(loss(torch.zeros(2, 4097), torch.zeros(2, dtype=torch.int64)).item(), 4)
        9.3179

    References:
        Wu, Xiong, Yu and Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018,
        section 3.2.
    """

    log_z: Tensor
    known: Tensor

    def __init__(self, images: int) -> None:
        super().__init__()
        check_argument(COUNT.is_valid(images), "images", images, COUNT.expected)
        self.images = images
        self.register_buffer("log_z", torch.zeros(()))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))

    def forget(self) -> None:
        """Discard the estimate of Z. The next training batch provides a new one."""
        self.known.fill_(False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: Similarities ``v·m/τ`` (batch, candidates). -∞ excludes a candidate from the negatives of an anchor.
            target: Indices of the positives (batch,).

        Returns:
            The loss, a scalar.
        """
        included = logits > -math.inf
        if self.training:
            sums = gather(logits.detach().flatten().logsumexp(0)[None]).logsumexp(0)
            estimate = sums - gather(included.sum()[None]).sum().log() + math.log(self.images)
            self.log_z.copy_(torch.where(self.known, self.log_z, estimate))
            self.known.fill_(True)
        count = (included.sum(dim=1, keepdim=True) - 1).clamp(min=1)  # avoid log(0) for anchors without negatives
        noise = count.log() - math.log(self.images)  # ln(m/n)
        log_odds = logits - self.log_z - noise
        positive = log_odds.gather(1, target[:, None])
        # softplus(-x) for the positive and softplus(x) for each negative, where x are the log odds
        losses = F.softplus(log_odds).sum(dim=1) - F.softplus(positive)[:, 0] + F.softplus(-positive)[:, 0]
        return losses.mean()
