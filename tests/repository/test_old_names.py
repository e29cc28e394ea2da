"""Every public name of 0.1.0 can be imported from where it was; names of 2020 are in test_api.py."""

from __future__ import annotations

import importlib

import pytest

NAMES = {
    "supervisors": """
        BYOLSupervisor BankSupervisor BiGanSupervisor ContextNetSupervisor ContrastiveMultiviewCodingSupervisor
        ContrastivePredictiveCodingSupervisor DenoiseNetSupervisor ExemplarNetSupervisor GanSupervisor
        InstanceDiscriminationSupervisor JigsawNetSupervisor LabelSupervisor MomentumContrastSupervisor PIRLSupervisor
        RotateNetSupervisor SplitBrainNetSupervisor Supervisor all_supervisors
    """,
    "data": """
        AugmentationDataset AugmentationIndexedDataset AugmentationLabIndexedDataset BYOLAugmentations BYOLRecipe
        BiDataset CMCRecipe CPCRecipe ContextDataset ContrastivePredictiveCodingAugmentations
        ContrastivePredictiveCodingDataset ContrastivePreditiveCodingDataset DenoiseDataset ExemplarDataset
        ExemplarRecipe ImageDataset ImageSource JigsawAugmentations JigsawDataset JigsawRecipe LDataset
        LabelledDataset MoCoRecipe MomentumContrastAugmentations PIRLAugmentations PIRLColours PIRLImageRecipe
        PIRLRecipe Preprocessing PretextDataset Recipe RotateDataset SplitBrainDataset batched_collate
        elastic_transform fit_preprocessing jigsaw open_source permutation_table read_header read_image to_image
        visualize
    """,
    "models": """
        BackboneOutput Batch2Image BothViews CPCLoss ChannelwiseFC Classification CombinedNet ConvMasked2d
        EfficientFeatures GroupedBackbone GroupedEfficientFeatures GroupedLoss GroupedUpsampling LabBranch LatentNet
        LayerNorm2d MaskedCNN MomentumSchedule MultiviewNet PairDiscriminator PatchNet PositionNorm2d RGBInput
        ReshapeChannels ResizableLinear SequentialUpTo SmallResNet Upsampling View cosine_momentum default_backbone
        feature_shape follow lab_to_rgb momentum_copy named_backbone rgb_to_lab
    """,
    "losses": """
        CPCLoss GroupedLoss NCELoss contrastive_logits info_nce masked_mse regression_loss
    """,
    "memory": """
        BatchedMemory BatchedQueue
    """,
    "evaluation": """
        Quality Score classification_loss extract_features knn knn_predict linear_probe quality split test
    """,
    "training": """
        Callback Progress
    """,
    "reports": """
        Steps displayable exhibit_sheet feature_map image_grid loss_curve nearest neighbours project report save
    """,
    "export": """
        Plain export plain_names write_onnx convert compare
    """,
    "transformer": """
        SelfSupervisedFeatures stored rebuilt names
    """,
    "errors": """
        SuperSelfishError ConfigurationError DataError UnreadableImage TooManyBadImages WorkerKilled WorkerHung
        NonFiniteLoss OutOfMemory Preempted CheckpointError CheckpointCorrupt CheckpointMismatch DatasetChanged
        ProcessLost is_count is_number Rule check_arguments check_argument
    """,
    "distributed": """
        Group current gather gather_with_gradient join launch mean_of_ranks own_part rank same_everywhere world
    """,
    "utils": """
        bcolors classification_loss test
    """,
}
"""By module, as ``__all__`` listed them; of modules without one, their classes and functions."""


@pytest.mark.filterwarnings("ignore:.* is deprecated:FutureWarning")
@pytest.mark.parametrize("module", NAMES)
def test_public_names_of_0_1_0(module: str) -> None:
    found = importlib.import_module(f"super_selfish.{module}")
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []
