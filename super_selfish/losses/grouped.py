"""One criterion for each group of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError


class GroupedLoss(nn.Module):
    """Sum over groups of a criterion on the group's channels of the logits against its channel of the targets.

    Args:
        loss: Class of the criterion, called as ``loss(reduction=reduction)``.
        groups: Logits of each group.
        reduction: Of each group's criterion: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ConfigurationError: If a group is empty.

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
                "`groups` make no loss.", expected="a number of logits for each group", received=f"groups={groups!r}"
            )
        self.groups = tuple(groups)
        self.loss = loss(reduction=reduction)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum of the groups' losses.

        Args:
            logits: (batch, sum of groups, ...).
            targets: (batch, groups, ...): for cross entropy, class ids from 0 to the group's logits - 1.

        Raises:
            ConfigurationError: If the channels are not those of the groups.
        """
        if logits.shape[1] != sum(self.groups) or targets.shape[1] != len(self.groups):
            raise ConfigurationError(
                "Logits or targets do not fit the groups.",
                expected=f"{sum(self.groups)} channels of logits and {len(self.groups)} of targets",
                received=f"{logits.shape[1]} and {targets.shape[1]}",
            )
        parts = zip(torch.split(logits, list(self.groups), dim=1), targets.unbind(1), strict=True)
        return torch.stack([self.loss(part, target) for part, target in parts]).sum(0)
