"""Networks: backbones, heads, decoders and their combinations."""

from super_selfish.losses import CPCLoss, GroupedLoss
from super_selfish.models.averages import MomentumSchedule, cosine_momentum, momentum_copy, update_ema
from super_selfish.models.backbones import BackboneOutput, SmallResNet, default_backbone
from super_selfish.models.bidirectional import LatentNet, PairDiscriminator
from super_selfish.models.combined import CombinedNet
from super_selfish.models.decoders import ChannelwiseFC, GroupedUpsampling, Upsampling
from super_selfish.models.efficient import EfficientFeatures, ReshapeChannels
from super_selfish.models.heads import Classification, ResizableLinear, SequentialUpTo, View
from super_selfish.models.lab import RGBInput, lab_to_rgb, rgb_to_lab
from super_selfish.models.multiview import BothViews, LabBranch, MultiviewNet
from super_selfish.models.named import VisionModel, named_backbone
from super_selfish.models.norms import LayerNorm2d, PositionNorm2d
from super_selfish.models.patches import PatchNet
from super_selfish.models.predictive import Batch2Image, ConvMasked2d, MaskedCNN
from super_selfish.models.shapes import feature_shape
from super_selfish.models.split_brain import GroupedBackbone, GroupedEfficientFeatures
from super_selfish.renamed import old_names

__all__ = [
    "BackboneOutput",
    "Batch2Image",
    "BothViews",
    "CPCLoss",
    "ChannelwiseFC",
    "Classification",
    "CombinedNet",
    "ConvMasked2d",
    "EfficientFeatures",
    "GroupedBackbone",
    "GroupedEfficientFeatures",
    "GroupedLoss",
    "GroupedUpsampling",
    "LabBranch",
    "LatentNet",
    "LayerNorm2d",
    "MaskedCNN",
    "MomentumSchedule",
    "MultiviewNet",
    "PairDiscriminator",
    "PatchNet",
    "PositionNorm2d",
    "RGBInput",
    "ReshapeChannels",
    "ResizableLinear",
    "SequentialUpTo",
    "SmallResNet",
    "Upsampling",
    "View",
    "VisionModel",
    "cosine_momentum",
    "default_backbone",
    "feature_shape",
    "lab_to_rgb",
    "momentum_copy",
    "named_backbone",
    "rgb_to_lab",
    "update_ema",
]


def __dir__() -> list[str]:
    return sorted(__all__)


__getattr__ = old_names(__name__)
