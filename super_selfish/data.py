"""Images and what is made of them."""

from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing, fit_preprocessing
from super_selfish.datasets.sources import ImageSource, open_source
from super_selfish.drawing.visualize import visualize
from super_selfish.images.image_files import read_header, read_image, to_image
from super_selfish.loading.collate import batched_collate
from super_selfish.pretext.base import LabelledDataset, PretextDataset
from super_selfish.pretext.denoising import DenoiseDataset
from super_selfish.pretext.exemplar import ExemplarDataset
from super_selfish.pretext.gan import BiDataset
from super_selfish.pretext.inpainting import ContextDataset
from super_selfish.pretext.jigsaw import JigsawDataset, jigsaw
from super_selfish.pretext.multiview import AugmentationLabIndexedDataset, LDataset
from super_selfish.pretext.patches import ContrastivePredictiveCodingDataset, ContrastivePreditiveCodingDataset
from super_selfish.pretext.permutations import permutation_table
from super_selfish.pretext.pirl import PIRLAugmentations, PIRLColours, PIRLImageTransform, PIRLTransform
from super_selfish.pretext.rotation import RotateDataset
from super_selfish.pretext.split_brain import SplitBrainDataset
from super_selfish.pretext.views import AugmentationDataset, AugmentationIndexedDataset
from super_selfish.renamed import old_names
from super_selfish.transforms.base import Transform
from super_selfish.transforms.byol import BYOLAugmentations, BYOLTransform
from super_selfish.transforms.cmc import CMCTransform
from super_selfish.transforms.cpc import ContrastivePredictiveCodingAugmentations, CPCTransform
from super_selfish.transforms.elastic import elastic_transform
from super_selfish.transforms.exemplar import ExemplarTransform
from super_selfish.transforms.jigsaw import JigsawAugmentations, JigsawTransform
from super_selfish.transforms.moco import MoCoTransform, MomentumContrastAugmentations

__all__ = [
    "AugmentationDataset",
    "AugmentationIndexedDataset",
    "AugmentationLabIndexedDataset",
    "BYOLAugmentations",
    "BYOLTransform",
    "BiDataset",
    "CMCTransform",
    "CPCTransform",
    "ContextDataset",
    "ContrastivePredictiveCodingAugmentations",
    "ContrastivePredictiveCodingDataset",
    "ContrastivePreditiveCodingDataset",
    "DenoiseDataset",
    "ExemplarDataset",
    "ExemplarTransform",
    "ImageDataset",
    "ImageSource",
    "JigsawAugmentations",
    "JigsawDataset",
    "JigsawTransform",
    "LDataset",
    "LabelledDataset",
    "MoCoTransform",
    "MomentumContrastAugmentations",
    "PIRLAugmentations",
    "PIRLColours",
    "PIRLImageTransform",
    "PIRLTransform",
    "Preprocessing",
    "PretextDataset",
    "RotateDataset",
    "SplitBrainDataset",
    "Transform",
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


__getattr__ = old_names(__name__)
