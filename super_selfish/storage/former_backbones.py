"""Files of release 0.1.0, which built some backbones otherwise: their names, and the check that a file fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from super_selfish.errors import CheckpointMismatch
from super_selfish.models.named.former import FORMER, former_name

PUBLISHED = "published_weights"
"""Key of manifests since named backbones are the networks of the plain libraries; those of 0.1.0 lack it."""


def stored_networks(manifest: Mapping[str, Any], *, uses_map: bool) -> Any:
    """Return the networks of a manifest, with a backbone that 0.1.0 built otherwise by its present name.

    Args:
        manifest: Metadata of a weights file or a checkpoint.
        uses_map: Whether the algorithm uses the feature map of the backbone.

    Examples:
        >>> stored_networks({"networks": {"backbone": "densenet121"}}, uses_map=False)
        {'backbone': '0.1:densenet121'}
    """
    networks = manifest.get("networks")
    if not isinstance(networks, dict) or PUBLISHED in manifest:
        return networks
    named = {key: value for key, value in networks.items() if key.startswith("backbone") and isinstance(value, str)}
    return {**networks, **{key: former_name(value, uses_map=uses_map) for key, value in named.items()}}


def check_backbones(given: Mapping[str, Any], manifest: Mapping[str, Any], path: Path, *, uses_map: bool) -> None:
    """Check that named backbones are built as those of a file: weights of both kinds may have the same names.

    Args:
        given: Networks that were passed to the constructor, by argument.
        manifest: Metadata of the file.
        path: Path of the file.
        uses_map: Whether the algorithm uses the feature map of the backbone.

    Raises:
        CheckpointMismatch: If one of them is built as in 0.1.0 and the other is not.
    """
    networks = stored_networks(manifest, uses_map=uses_map)
    for key, here in given.items() if isinstance(networks, dict) else ():
        there = networks.get(key)
        named = [each for each in (here, there) if isinstance(each, str)]
        if len(named) == 2 and here != there and any(each.startswith(FORMER) for each in named):
            raise CheckpointMismatch(
                f"`{path}` was trained with another network: release 0.1.0 built some backbones without their last "
                f"norm or activation, or without a feature map. {FORMER!r} stands before the names of these networks.",
                expected=f"{key}={there!r}",
                received=f"{key}={here!r}",
                fix=f"Pass {key}={there!r}, or use super_selfish.load(name), which builds the network of the file.",
            )
