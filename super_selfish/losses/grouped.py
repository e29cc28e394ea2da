"""A sum of criteria over groups of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError


class GroupedLoss(nn.Module):
    """Sum of a criterion over groups of logits. Each group has one target channel.

    Args:
        loss: Class of the criterion, instantiated as ``loss(reduction=reduction)``.
        groups: Number of logits of each group.
        reduction: Reduction of each criterion: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ConfigurationError: If there are no groups, or a group is empty.

    Examples:
        >>> logits, targets = torch.zeros(2, 150, 4, 4), torch.zeros(2, 2, 4, 4, dtype=torch.int64)
        >>> round(GroupedLoss()(logits, targets).item(), 3)
        8.517
    """

    def __init__(
        self,
        loss: Callable[..., nn.Module] = nn.CrossEntropyLoss,
        groups: Sequence[int] = (50, 100),
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if not groups or min(groups) < 1:
            raise ConfigurationError(
                "`groups` is invalid.", expected="a positive number of logits per group", received=f"groups={groups!r}"
            )
        self.groups = tuple(groups)
        self.loss = loss(reduction=reduction)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the sum of the losses of all groups.

        Args:
            logits: Logits (batch, sum of groups, ...).
            targets: Targets (batch, number of groups, ...). For cross entropy: class indices in [0, logits of the
                group - 1].

        Raises:
            ConfigurationError: If the numbers of channels do not match the groups.
        """
        if logits.shape[1] != sum(self.groups) or targets.shape[1] != len(self.groups):
            raise ConfigurationError(
                "The channels of logits or targets do not match the groups.",
                expected=f"{sum(self.groups)} channels of logits and {len(self.groups)} of targets",
                received=f"{logits.shape[1]} channels of logits and {targets.shape[1]} of targets",
            )
        pairs = zip(torch.split(logits, list(self.groups), dim=1), targets.unbind(1), strict=True)
        return torch.stack([self.loss(group, target) for group, target in pairs]).sum(0)
