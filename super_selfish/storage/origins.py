"""Descriptions from which networks are built again: heads of standard layers, and backbones of this library."""

from __future__ import annotations

from typing import Any

from torch import nn

from super_selfish.errors import CheckpointCorrupt
from super_selfish.models.combined import CombinedNet

LAYERS: dict[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features"),
    "BatchNorm1d": ("num_features", "eps", "affine", "track_running_stats"),
    "LayerNorm": ("normalized_shape", "eps", "elementwise_affine"),
    "Dropout": ("p",),
    "Flatten": ("start_dim", "end_dim"),
    "GELU": ("approximate",),
    "ReLU": (),
    "SiLU": (),
    "Tanh": (),
    "Identity": (),
}
"""Layers of ``torch.nn`` that a head may consist of, with the arguments that are stored."""


def describe_layers(module: nn.Module) -> dict[str, Any] | None:
    """Describe a head as JSON; None if it has other layers than :data:`LAYERS` and ``nn.Sequential``.

    Examples:
        >>> describe_layers(nn.Linear(4, 2))
        {'Linear': {'in_features': 4, 'out_features': 2, 'bias': True}}
    """
    kind = type(module).__name__
    if getattr(nn, kind, None) is not type(module):
        return None
    if isinstance(module, nn.Sequential):
        parts = [describe_layers(part) for part in module]
        return None if None in parts else {kind: parts}
    if kind not in LAYERS:
        return None
    arguments = {name: getattr(module, name) for name in LAYERS[kind]}
    if isinstance(module, nn.Linear | nn.LayerNorm):
        arguments["bias"] = module.bias is not None
    return {kind: arguments}


def build_layers(description: dict[str, Any]) -> nn.Module:
    """Build the head of a description, with initial weights.

    Raises:
        CheckpointCorrupt: If the description names another layer.
    """
    ((kind, arguments),) = description.items()
    if kind == "Sequential":
        return nn.Sequential(*map(build_layers, arguments))
    if kind not in LAYERS:
        raise CheckpointCorrupt(f"The description of the head is damaged: there is no layer {kind!r}.")
    layer: nn.Module = getattr(nn, kind)(**arguments)
    return layer


def set_origin(backbone: nn.Module, origin: dict[str, Any] | None) -> None:
    """Record how a backbone was built; ``origin`` is JSON, and None if it cannot be built again."""
    object.__setattr__(backbone, "origin", origin)


def origins_of(model: CombinedNet) -> dict[str, Any] | None:
    """The description of a network whose head can be built again; None for others.

    The backbone is None if it is a custom one, which has to be passed to load the network.
    """
    backbone, predictor = getattr(model.backbone, "origin", None), describe_layers(model.predictor)
    if type(model) is not CombinedNet or predictor is None:
        return None
    return {
        "backbone": backbone if isinstance(backbone, dict) else None,
        "predictor": predictor,
        "of_map": model.of_map,
    }
