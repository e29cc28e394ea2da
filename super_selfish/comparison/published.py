"""Published weights as references: networks whose features are scored as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.engine.core.starting_weights import StartingWeights
from super_selfish.errors import ConfigurationError
from super_selfish.models.efficient import ReshapeChannels
from super_selfish.models.named import named_backbone
from super_selfish.models.named.timm_models import TIMM
from super_selfish.storage.published import PRETRAINED, PublishedWeights, is_published_name, published_weights


def as_published(weights: PublishedWeights | StartingWeights, backbone: str, settled: Preprocessing) -> nn.Module:
    """A named backbone with weights as they are, in eval mode, with the mean and standard deviation that they expect.

    Args:
        weights: The weights.
        backbone: Name of the backbone.
        settled: Preprocessing of the images: size and number of channels.

    Raises:
        CheckpointMismatch: If the weights do not fit the backbone.
    """
    starting = StartingWeights(weights) if isinstance(weights, PublishedWeights) else weights
    network = starting.into(named_backbone(backbone, settled.channels, settled.resolution))
    if starting.published is not None and isinstance(network, ReshapeChannels):
        network = network.backbone  # the bottleneck is not published
    object.__setattr__(network, "preprocessing", starting.scaled(settled))
    return network.eval()


def published_references(names: Iterable[str], backbone: Any) -> dict[str, tuple[str, PublishedWeights]]:
    """Read published weights, and name their rows.

    Args:
        names: For each, a name of weights of ``backbone``, such as ``"imagenet"``; or a backbone, whose default
            weights are meant; or ``"timm:<name>.<tag>"``, which is both.
        backbone: The backbone of the comparison.

    Returns:
        Backbone and weights by the name of the row, such as ``"resnet18 IMAGENET1K_V1, as is"``.

    Raises:
        ConfigurationError: If there are no such weights.
        CheckpointError: If they cannot be downloaded.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    found = {}
    for name in wanted:
        if not isinstance(name, str):
            raise ConfigurationError(
                "`weights` are names of published weights.",
                expected='such as "imagenet", "resnet18" or "timm:resnet18.a1_in1k"',
                received=repr(name)[:80],
                fix="Pass other networks as `references`.",
            )
        if name.startswith(TIMM):
            network, chosen = name, name if "." in name else PRETRAINED
        elif is_published_name(name):
            network, chosen = backbone, name
        else:
            network, chosen = name, PRETRAINED
        weights = published_weights(network, chosen)
        if weights is None:  # not with fetch=True
            continue
        found[f"{weights.name}, as is"] = (network, weights)
    return found
