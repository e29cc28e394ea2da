"""The loss of Contrastive Predictive Coding: find what lies some steps further among all that the batch holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.errors import ConfigurationError, Rule, is_count, is_number, one_of, validate_arguments

RULES = {
    "target_shaper": Rule(lambda shaper: shaper is None or isinstance(shaper, nn.Module), "None, or an nn.Module"),
    "k": Rule(lambda k: is_count(k, 1), "an integer of at least 1"),
    "ignore": Rule(lambda ignore: is_count(ignore, 0), "an integer of at least 0"),
    "N": Rule(lambda count: count is None or is_count(count, 1), "None, or an integer of at least 1"),
    "reduction": one_of("mean", "sum", "none"),
    "scale": Rule(lambda scale: is_number(scale, 1e-6, 1e6), "a number above 0", "The paper's code uses 0.1."),
}


class CPCLoss(nn.Module):
    """Cross entropy of telling the target some rows further down from the other targets of the batch.

    ``Σₛ mean over b, r, c of −log( exp(α p·t₊) / Σₜ exp(α p·t) )`` where s are the steps from ``ignore`` + 1 to ``k``,
    p is the prediction for s made at row r and column c of image b, t₊ the target of this image at row r + s and
    column c, and t all targets of the batch. Equal products give ln(targets) a step.

    Args:
        target_shaper: Network of the targets (batch, features, rows, columns), trained with the loss; None: they are
            taken as they are.
        k: Steps that are predicted.
        ignore: The first of them that are left out, because their patches overlap with what was seen.
        N: Negatives of each prediction, drawn at random and never its positive; None: all other targets of the batch.
        reduction: Of each step over the predictions: ``"mean"``, ``"sum"``, or ``"none"`` for all losses in a row.
        scale: α, a factor of the products.

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> predictions, targets = torch.zeros(2, 2, 64, 7, 7), torch.zeros(2, 64, 7, 7)
        >>> round(CPCLoss()(predictions, targets).item(), 3)  # two steps, ln(98) each
        9.17

    References:
        van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4; Hénaff
        et al., "Data-Efficient Image Recognition with Contrastive Predictive Coding", 2020, eq. 1.
    """

    @validate_arguments(RULES)
    def __init__(
        self,
        target_shaper: nn.Module | None = None,
        k: int = 3,
        ignore: int = 1,
        N: int | None = None,
        reduction: str = "mean",
        *,
        scale: float = 0.1,
    ) -> None:
        if ignore >= k:
            raise ConfigurationError(
                "No step is left to be predicted.", expected="ignore below k", received=f"k={k}, ignore={ignore}"
            )
        super().__init__()
        self.target_shaper = target_shaper
        self.k = k
        self.ignore = ignore
        self.N = N
        self.reduction = reduction
        self.scale = scale

    def forward(self, predictions: Tensor, targets: Tensor, first: int = 0) -> Tensor:
        """The loss of predictions of what lies below.

        Args:
            predictions: (batch, steps, features, rows, columns), made at these rows for the steps ``ignore`` + 1 to
                ``k``.
            targets: (images, features, rows, columns), of the batch and perhaps of others.
            first: Which of them is the first of the batch.
        """
        if self.target_shaper is not None:
            targets = self.target_shaper(targets)
        losses = []
        candidates = targets.movedim(1, -1).flatten(0, 2)  # (batch · rows · columns, features)
        for step, predicted in enumerate(predictions.unbind(1), self.ignore + 1):
            labels = self.labels(targets, step).view(len(targets), -1)[first : first + len(predictions)].flatten()
            made = predicted[:, :, : predicted.shape[2] - step].movedim(1, -1).flatten(0, 2)
            losses.append(self._cross_entropy(made, candidates, labels))
        return torch.cat(losses) if self.reduction == "none" else torch.stack(losses).sum()

    @staticmethod
    def labels(targets: Tensor, step: int) -> Tensor:
        """Where the positives of a step stand among the targets: b · rows · columns + (r + step) · columns + c.

        Args:
            targets: (batch, features, rows, columns).
            step: From 1 to rows - 1.

        Raises:
            ConfigurationError: If there are no targets so far down.
        """
        batch, _, rows, columns = targets.shape
        if rows <= step:
            raise ConfigurationError(
                f"There is nothing {step} steps further.",
                expected=f"at least {step + 1} rows and columns of targets",
                received=f"{rows} rows and {columns} columns, in the direction of prediction",
            )
        places = torch.arange(batch * rows * columns, device=targets.device).view(batch, rows, columns)
        return places[:, step:].flatten()

    def _cross_entropy(self, made: Tensor, candidates: Tensor, labels: Tensor) -> Tensor:
        if self.N is None or len(candidates) - 1 <= self.N:
            return F.cross_entropy(self.scale * made @ candidates.T, labels, reduction=self.reduction)
        drawn = torch.randperm(len(candidates), device=labels.device)[: self.N + 1]
        own = drawn == labels[:, None]  # (predictions, N + 1)
        own[:, -1] |= ~own.any(1)  # so that each has N negatives, whether its positive was drawn or not
        positive = torch.einsum("ad,ad->a", made, candidates[labels])
        negative = (made @ candidates[drawn].T).masked_fill(own, -torch.inf)
        logits = self.scale * torch.cat([positive[:, None], negative], dim=1)
        return F.cross_entropy(logits, torch.zeros_like(labels), reduction=self.reduction)
