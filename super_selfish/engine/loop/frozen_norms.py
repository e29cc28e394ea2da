"""Batch norm that stays in eval mode while the rest of the network is trained."""

from __future__ import annotations

from torch import nn

from super_selfish.distributed.norms import BATCH_NORMS
from super_selfish.engine.core.base import SupervisorBase


def norms_without_gradients(supervisor: SupervisorBase) -> list[nn.Module]:
    """Return the batch norms whose weights do not require gradients, except for those of moving averages."""
    averages = [getattr(supervisor, name) for name in supervisor._followers()]
    averages += [] if supervisor.average is None else [supervisor.average]
    followers = {id(module) for average in averages for module in average.modules()}
    return [
        module
        for module in supervisor.modules()
        if isinstance(module, BATCH_NORMS)
        and id(module) not in followers
        and any(True for _ in module.parameters(recurse=False))
        and not any(weight.requires_grad for weight in module.parameters(recurse=False))
    ]


def norms_of_backbones(supervisor: SupervisorBase) -> list[nn.Module]:
    """Return the batch norms of the backbones that have running statistics."""
    return [
        module
        for backbone in supervisor.backbones()
        for module in backbone.modules()
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None
    ]


def frozen_norms(
    supervisor: SupervisorBase, trained: tuple[nn.Module, ...], keep_backbone: bool = False
) -> tuple[nn.Module, ...]:
    """Return the frozen batch norms: those without gradients that are in eval mode, and their moving averages.

    Args:
        supervisor: The supervisor, before it is set to training mode.
        trained: Batch norms whose statistics an earlier run has updated. Runs end in eval mode, so they are not frozen.
        keep_backbone: All batch norms of the backbones are frozen too; their weights may have gradients.
    """
    found = [
        module
        for module in norms_without_gradients(supervisor)
        if not module.training and not any(module is other for other in trained)
    ]
    found += norms_of_backbones(supervisor) if keep_backbone else []
    frozen = {id(module) for module in found}
    for name, network in supervisor._followers().items():
        twins = dict(getattr(supervisor, name).named_modules())
        found += [twins[path] for path, module in network.named_modules() if id(module) in frozen and path in twins]
    return tuple(found)


def keep_norms_frozen(supervisor: SupervisorBase, recipe: str | None) -> None:
    """Keep batch norm frozen during a run that is in eval mode and has no gradients when the run begins.

    With ``recipe="adapt"``, batch norm of the backbones keeps the statistics of the trained weights, while its weights
    are trained. Otherwise, those of augmented images would replace them within a few hundred steps, and the features
    would be worse although the weights have hardly changed.
    """
    supervisor._frozen_norms = frozen_norms(supervisor, supervisor._trained_norms or (), recipe == "adapt")
    if supervisor._trained_norms is None:
        frozen = set(map(id, supervisor._frozen_norms))
        trained = [norm for norm in norms_without_gradients(supervisor) if id(norm) not in frozen]
        supervisor._trained_norms = tuple(trained)
