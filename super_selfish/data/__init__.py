"""Images and what is made of them."""

from super_selfish.data.bidirectional import BiDataset
from super_selfish.data.collate import batched_collate
from super_selfish.data.context import ContextDataset
from super_selfish.data.cpc_recipe import ContrastivePredictiveCodingAugmentations, CPCRecipe
from super_selfish.data.denoise import DenoiseDataset
from super_selfish.data.elastic import elastic_transform
from super_selfish.data.exemplar import ExemplarDataset, ExemplarRecipe
from super_selfish.data.images import read_header, read_image, to_image
from super_selfish.data.jigsaw import JigsawDataset, jigsaw
from super_selfish.data.multiview import AugmentationLabIndexedDataset, CMCRecipe, LDataset
from super_selfish.data.patches import ContrastivePredictiveCodingDataset, ContrastivePreditiveCodingDataset
from super_selfish.data.permutations import permutation_table
from super_selfish.data.pirl import PIRLAugmentations, PIRLColours, PIRLImageRecipe, PIRLRecipe
from super_selfish.data.preprocessing import ImageDataset, Preprocessing, fit_preprocessing
from super_selfish.data.pretext import LabelledDataset, PretextDataset
from super_selfish.data.recipes import (
    BYOLAugmentations,
    BYOLRecipe,
    MoCoRecipe,
    MomentumContrastAugmentations,
    Recipe,
)
from super_selfish.data.rotate import RotateDataset
from super_selfish.data.sources import ImageSource, open_source
from super_selfish.data.split_brain import SplitBrainDataset
from super_selfish.data.tiles import JigsawAugmentations, JigsawRecipe
from super_selfish.data.views import AugmentationDataset, AugmentationIndexedDataset
from super_selfish.data.visualize import visualize

__all__ = [
    "AugmentationDataset",
    "AugmentationIndexedDataset",
    "AugmentationLabIndexedDataset",
    "BYOLAugmentations",
    "BYOLRecipe",
    "BiDataset",
    "CMCRecipe",
    "CPCRecipe",
    "ContextDataset",
    "ContrastivePredictiveCodingAugmentations",
    "ContrastivePredictiveCodingDataset",
    "ContrastivePreditiveCodingDataset",
    "DenoiseDataset",
    "ExemplarDataset",
    "ExemplarRecipe",
    "ImageDataset",
    "ImageSource",
    "JigsawAugmentations",
    "JigsawDataset",
    "JigsawRecipe",
    "LDataset",
    "LabelledDataset",
    "MoCoRecipe",
    "MomentumContrastAugmentations",
    "PIRLAugmentations",
    "PIRLColours",
    "PIRLImageRecipe",
    "PIRLRecipe",
    "Preprocessing",
    "PretextDataset",
    "Recipe",
    "RotateDataset",
    "SplitBrainDataset",
    "batched_collate",
    "elastic_transform",
    "fit_preprocessing",
    "jigsaw",
    "open_source",
    "permutation_table",
    "read_header",
    "read_image",
    "to_image",
    "visualize",
]


def __dir__() -> list[str]:
    return sorted(__all__)
