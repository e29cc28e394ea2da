"""Backbones by name, and networks of other libraries without their classifiers."""

from super_selfish.models.named.names import default_side, named_backbone
from super_selfish.models.named.transformers_models import VisionModel
from super_selfish.models.named.trunks import Trunk

__all__ = ["Trunk", "VisionModel", "default_side", "named_backbone"]
