"""The loss of Contrastive Predictive Coding."""

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
    """Cross entropy of classifying the target ``step`` rows below a prediction among all targets of the batch.

    ``Σₛ mean over b, r, c of −log( exp(α p·t₊) / Σₜ exp(α p·t) )``, where s are the steps from ``ignore`` + 1 to ``k``,
    p is the prediction for step s at row r and column c of image b, t₊ the target of the same image at row r + s and
    column c, and t all targets of the batch. At chance level, the loss per step is ln(number of targets).

    Args:
        target_shaper: Network applied to the targets (batch, features, rows, columns) and trained with the loss. None:
            no network.
        k: Number of rows to predict ahead.
        ignore: Number of initial steps to skip, because their patches overlap with the context.
        N: Number of negatives per prediction, sampled at random without the positive. None: all other targets of the
            batch.
        reduction: Reduction over the predictions of each step: ``"mean"``, ``"sum"``, or ``"none"`` for a vector of all
            losses.
        scale: Scale α of the logits.

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
                "All steps are ignored.", expected="ignore < k", received=f"k={k}, ignore={ignore}"
            )
        super().__init__()
        self.target_shaper = target_shaper
        self.k = k
        self.ignore = ignore
        self.N = N
        self.reduction = reduction
        self.scale = scale

    def forward(self, predictions: Tensor, targets: Tensor, first: int = 0) -> Tensor:
        """Compute the loss.

        Args:
            predictions: Predictions (batch, steps, features, rows, columns) for the steps ``ignore`` + 1 to ``k``; or
                (batch, k · features, rows, columns) for the steps 1 to ``k``: the first ``ignore`` are skipped.
            targets: Targets (images, features, rows, columns) of the batch and, optionally, of further images.
            first: Index of the first image of the batch in ``targets``.

        Raises:
            ConfigurationError: If the shapes do not match.
        """
        if self.target_shaper is not None:
            targets = self.target_shaper(targets)
        predictions = self._by_step(predictions, targets)
        losses = []
        candidates = targets.movedim(1, -1).flatten(0, 2)  # (batch · rows · columns, features)
        for step, predicted in enumerate(predictions.unbind(1), self.ignore + 1):
            labels = self.labels(targets, step).view(len(targets), -1)[first : first + len(predictions)].flatten()
            valid = predicted[:, :, : predicted.shape[2] - step].movedim(1, -1).flatten(0, 2)
            losses.append(self._cross_entropy(valid, candidates, labels))
        return torch.cat(losses) if self.reduction == "none" else torch.stack(losses).sum()

    def _by_step(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Predictions (batch, steps, features, rows, columns), of the steps that are not ignored."""
        features = targets.shape[1]
        if predictions.ndim == 4 and predictions.shape[1] == self.k * features:
            by_step = predictions.reshape(len(predictions), self.k, features, *predictions.shape[2:])
            return by_step[:, self.ignore :]
        if predictions.ndim != 5 or predictions.shape[2] != features:
            raise ConfigurationError(
                "The predictions do not fit the targets.",
                expected=f"(batch, steps, {features}, rows, columns), or (batch, {self.k} · {features}, rows, columns) "
                f"for all k={self.k} steps",
                received=f"predictions of {tuple(predictions.shape)}, targets of {tuple(targets.shape)}",
            )
        return predictions

    @staticmethod
    def labels(targets: Tensor, step: int) -> Tensor:
        """Return the flat indices of the positives of a step: b · rows · columns + (r + step) · columns + c.

        Args:
            targets: Targets (batch, features, rows, columns).
            step: Step from 1 to rows - 1.

        Raises:
            ConfigurationError: If ``step`` is not below the number of rows.
        """
        batch, _, rows, columns = targets.shape
        if rows <= step:
            raise ConfigurationError(
                f"The grid of targets is too small for step {step}.",
                expected=f"at least {step + 1} rows and columns",
                received=f"{rows} rows and {columns} columns, in the direction of prediction",
            )
        indices = torch.arange(batch * rows * columns, device=targets.device).view(batch, rows, columns)
        return indices[:, step:].flatten()

    def _cross_entropy(self, predictions: Tensor, candidates: Tensor, labels: Tensor) -> Tensor:
        if self.N is None or len(candidates) - 1 <= self.N:
            return F.cross_entropy(self.scale * predictions @ candidates.T, labels, reduction=self.reduction)
        sample = torch.randperm(len(candidates), device=labels.device)[: self.N + 1]
        excluded = sample == labels[:, None]  # (predictions, N + 1)
        excluded[:, -1] |= ~excluded.any(1)  # exactly N negatives, whether the positive was sampled or not
        positive = torch.einsum("ad,ad->a", predictions, candidates[labels])
        negative = (predictions @ candidates[sample].T).masked_fill(excluded, -torch.inf)
        logits = self.scale * torch.cat([positive[:, None], negative], dim=1)
        return F.cross_entropy(logits, torch.zeros_like(labels), reduction=self.reduction)
