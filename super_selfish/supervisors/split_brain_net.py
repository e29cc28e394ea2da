"""Split-brain autoencoder: each half of the network predicts the input of the other half."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adam, adamw_recipe
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import check_choice, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, in_batches
from super_selfish.losses import GroupedLoss
from super_selfish.models.backbones import Output
from super_selfish.models.combined import CombinedNet
from super_selfish.models.decoders import resized_to
from super_selfish.models.lab import RGBInput, lab_to_rgb, plain_lab
from super_selfish.models.shapes import check_decoded
from super_selfish.models.split_brain import (
    GroupedBackbone,
    GroupedEfficientFeatures,
    check_crossed,
    crossed_decoder,
    split_backbone,
)
from super_selfish.pretext import split_brain
from super_selfish.pretext.preview import CaptionedImage, Preview
from super_selfish.pretext.rotation import checked_crop, checked_flip
from super_selfish.pretext.split_brain import SplitBrainDataset, TargetSize, target_shape
from super_selfish.transforms.lab import LabBins

BRIGHT, SHARP = 70.0, 0.38  # previews: lightness L of colours; softmax temperature of Zhang et al., 2016, "Colorful"


class SplitBrainNetSupervisor(Supervisor):
    """Predict each image's colours from its lightness, and its lightness from its colours.

    The backbone has two halves with separate weights. One takes the lightness L of CIE Lab, the other takes the colours
    a and b. Each half classifies the binned input of the other half.

    Requires colour images. Inputs are normalised in Lab, so ``normalize=`` is not supported.

    ``evaluate_pretext`` returns the sum of the cross entropies of the L and ab bins; the trivial baseline predicts the
    frequencies of the bins in the evaluated images.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        l_step: Width of the bins of lightness L.
        l_offset: Offset that is added to L, which is in [0, 100], before binning.
        ab_step: Width of the bins of a and of b.
        a_offset: Offset that is added to a, which is in about [-86, 98], before binning.
        b_offset: Offset that is added to b, which is in about [-108, 95], before binning.
        backbone: An ``nn.Module`` or a name, of which each half has a copy after a 1×1 convolution; or a
            ``GroupedBackbone`` of L and of ab. None: two EfficientNet-B0, each with a 1×1 convolution to 32 channels.
        predictor: Decoder from the concatenated feature maps of both halves to logits of L, followed by logits of ab,
            of any size. It must predict L from the second half only, and ab from the first half only. None: one decoder
            per half.
        loss: Criterion of (logits (batch, L bins + ab bins, h, w), classes (batch, 2, h, w)). None: the sum of two
            cross entropies.
        target_size: Size of the class maps in px, at most the image size: side of a square, or (height, width). None:
            an eighth of the image size, but at least 16.
        crop: Smallest and largest area of a random crop relative to the image; it is resized to the image size. None:
            no crop. Without crops, a few thousand images are memorised.
        flip: Probability of a horizontal flip, in [0, 1].
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, the networks do not fit, or the images are not RGB.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = SplitBrainNetSupervisor(images, backbone="small_resnet")
        >>> supervisor.get_backbone()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 512])

    References:
        Zhang, Isola and Efros, "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction", 2016.
    """

    former_defaults: ClassVar[Mapping[str, Any]] = {"crop": None, "flip": 0.0}
    aliases = ("split_brain", "split_brain_autoencoder")
    uses_map = True
    relative_cost = 2.2
    paper = Paper(
        "Zhang, Isola and Efros",
        "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction",
        2016,
        "1611.09842",
    )
    family = "generative"
    learns_by = "predicting colours from lightness, and lightness from colours"
    use_when = "colour images whose colours follow from what they show"
    needs = Needs(rgb=True, batch=2)
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(2e-3),
        # Zhang et al., "Colorful Image Colorization": split-brain uses the same optimizer
        "paper": Recipe(adam((0.9, 0.999), 1e-3), 3e-5, schedule=Schedule("steps", at=(0.45, 0.84), factor=0.32)),
    }

    @validate_arguments(split_brain.RULES)
    def __init__(
        self,
        dataset: Any = None,
        l_step: float = 2,
        l_offset: float = 0,
        ab_step: float = 26,
        a_offset: float = 128,
        b_offset: float = 128,
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        target_size: TargetSize = None,
        crop: tuple[float, float] | None = (0.3, 1.0),
        flip: float = 0.5,
        **images: Unpack[ImageOptions],
    ) -> None:
        setup = Setup.of(dataset, images, backbone=backbone, predictor=predictor, loss=loss)
        setup.check_lab("Split-brain predicts colours from lightness, and the reverse.")
        bins = LabBins(l_step, l_offset, ab_step, a_offset, b_offset)
        steps = (l_step, l_offset, ab_step, a_offset, b_offset)
        crop, flip = checked_crop(crop), checked_flip(flip)
        super().__init__(
            # Differs from the paper: EfficientNets and decoders, not an AlexNet split along its channels
            network(setup, bins.counts, target_shape(target_size, *setup.preprocessing.resolution)),
            setup.dataset(
                lambda opened: SplitBrainDataset(opened, *steps, target_size=target_size, crop=crop, flip=flip)
            ),
            # Differs from the paper: a full grid of wide bins; both losses weigh 1, classes are not rebalanced
            setup.criterion(lambda: GroupedLoss(groups=bins.counts)),
            setup=setup,
        )
        self.l_step, self.l_offset = l_step, l_offset
        self.ab_step, self.a_offset, self.b_offset = ab_step, a_offset, b_offset
        self.target_size = target_size
        self.crop = crop
        self.flip = flip
        self.bins = bins

    def get_backbone(self, *, input: str = "rgb", output: Output | None = None, averaged: bool = False) -> nn.Module:
        """The backbone with both halves, in eval mode; it shares its weights with the supervisor.

        Args:
            input: ``"rgb"``: the backbone takes RGB images in [0, 1], as :meth:`preprocess` returns them; ``"lab"``:
                L / 50 - 1, a / 110, b / 110.
            output: ``"flat"``, ``"map"`` or ``"pooled"`` (independent of the resolution). None: the backbone's own.
            averaged: Use the EMA of the weights from ``supervise(polyak=...)``.
        """
        check_choice("input", input, ("rgb", "lab"))
        backbone = self._networks(averaged).backbone
        return self._presented(RGBInput(backbone) if input == "rgb" else backbone, output)

    def _forward(self, data: tuple[Tensor, Tensor]) -> Tensor:
        lab, classes = data  # (batch, 3, H, W) and (batch, 2, h, w)
        logits = resized_to(self.model(lab), classes.shape[-2:])  # L predicted from ab, and ab predicted from L
        return self.loss(logits, classes)

    def _score_pretext(self, data: tuple[Tensor, Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        lab, classes = data
        logits = in_batches(lambda images: resized_to(self.model(images), classes.shape[-2:]), lab)
        value = GroupedLoss(groups=self.bins.counts)(logits, classes).item()
        trivial = sum(entropy(target) for target in classes.unbind(1))
        return PretextScore("cross entropy of L and ab bins", value, trivial, "bin frequencies", higher_is_better=False)

    def _preview(self, data: tuple[Tensor, Tensor]) -> Preview:
        lab, classes = plain_lab(data[0]), data[1]
        lightness, colours = lab[:, :1], lab[:, 1:]
        columns = [
            ("image", lab_to_rgb(lab)),
            ("lightness L", lightness.clamp(0, 100) / 100),
            ("colours a, b", lab_to_rgb(torch.cat([torch.full_like(lightness, BRIGHT), colours], 1))),
        ]
        note = "One half of the network predicts the colours a, b from the lightness L;\nthe other half the reverse."
        if self._train_state.step > 0:
            logits = torch.split(resized_to(self.model(data[0]), classes.shape[-2:]), list(self.bins.counts), dim=1)
            palettes = self.bins.palettes(F.adaptive_avg_pool2d(lab, (classes.shape[-2], classes.shape[-1])), classes)
            predicted = [
                resized_to(torch.einsum("bkhw,kc->bchw", (half / SHARP).softmax(1), palette), lab.shape[-2:])
                for half, palette in zip(logits, palettes, strict=True)
            ]
            columns.append(("a, b predicted from L", lab_to_rgb(torch.cat([lightness, predicted[1]], 1))))
            columns.append(("L predicted from a, b", predicted[0].clamp(0, 100) / 100))
        rows = [[CaptionedImage(shown[index], caption) for caption, shown in columns] for index in range(len(lab))]
        return Preview("Split-brain: which colours belong to this lightness?", note, rows)


def network(setup: Setup, counts: tuple[int, int], target: tuple[int, int]) -> CombinedNet:
    """Build both halves, each followed by a decoder that predicts the input of the other half.

    Raises:
        ConfigurationError: If the networks do not fit the images or each other.
    """
    backbone = halves(setup)
    shape = setup.map_shape(backbone)
    predictor = setup.given["predictor"]
    if predictor is None:
        return CombinedNet(backbone, crossed_decoder(shape, target, counts), of_map=True)
    check_decoded(predictor, shape, sum(counts))
    check_crossed(predictor, shape, counts[0])
    return CombinedNet(backbone, predictor, of_map=True)


def halves(setup: Setup) -> GroupedBackbone:
    """Build the backbone and load ``weights``, which may be those of both halves or of one network for either half.

    Raises:
        ConfigurationError: If ``backbone`` is not a network.
        CheckpointMismatch: If the weights do not fit the backbone.
    """
    given, weights = setup.given["backbone"], setup.weights
    backbone: GroupedBackbone | None = None
    if given is None or (isinstance(given, str) and given.startswith("efficientnet-")):
        backbone = GroupedEfficientFeatures(given or "efficientnet-b0")
    if backbone is None or (weights is not None and not weights.covers(backbone)):
        backbone = split_backbone(dataclasses.replace(setup, weights=None).backbone)
    if weights is not None:
        weights.into_parts(backbone, {f"branches.{half}": part for half, part in enumerate(backbone.branches)})
    return backbone


def entropy(classes: Tensor) -> float:
    """Entropy in nats of the class frequencies: the cross entropy of a predictor of these frequencies."""
    count = torch.bincount(classes.flatten()).double()
    return float(torch.special.entr(count / count.sum()).sum())
