"""The split-brain autoencoder: one half of the network predicts what the other half sees."""

from __future__ import annotations

import dataclasses
import math
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

BRIGHT, SHARP = 70.0, 0.38  # for pictures: lightness of mere colours; temperature of Zhang et al., 2016, "Colorful"


class SplitBrainNetSupervisor(Supervisor):
    """Predict each image's colours from its lightness, and its lightness from its colours.

    The network has two halves that share nothing: one sees the lightness L of CIE Lab, the other the colours a and b.
    What either sees, the other has to predict, as bins. Together they are the backbone.

    Fits colour images only. The normalisation is that of Lab, so there is no ``normalize=``.

    ``evaluate_pretext`` gives the cross entropy of the bins of L and of ab, added; the trivial baseline predicts how
    often each bin occurs in the evaluated images.

    Args:
        dataset: A folder, a data set, an array, a tensor; None to load weights only.
        l_step: Width of a bin of lightness.
        l_offset: Added to L, which is in [0, 100], before it is divided.
        ab_step: Width of a bin of a and of b.
        a_offset: Added to a, which is in about [-86, 98].
        b_offset: Added to b, which is in about [-108, 95].
        backbone: An ``nn.Module`` or a name, copied for each half behind a 1×1 convolution; a ``GroupedBackbone`` of
            L, and a and b; None for two EfficientNet-B0 with a 1×1 convolution to 32 channels behind each.
        predictor: The maps of the two halves, one after another, to logits of lightness and, behind them, of colour,
            of any size. It may decode lightness from the second half and colour from the first alone. None for a
            decoder each.
        loss: Criterion of (logits (batch, bins of L + bins of a and b, h, w), classes (batch, 2, h, w)); the sum of two
            cross entropies if None.
        target_size: Side of the classes in px, or (height, width), at most the image's; None: an eighth of that, but at
            least 16.
        crop: Smallest and largest share of the area of a random crop, scaled to the image's size; None: no crop. With
            a few thousand images, ``crop=(0.3, 1.0)`` and ``flip=0.5`` keep them from being learned by heart.
        flip: Probability of mirroring.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, the networks do not fit, or the images are not RGB.
        DataError: If the images cannot be used.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = SplitBrainNetSupervisor(images, backbone="small_resnet")
        >>> supervisor.get_backbone()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 512])

    References:
        Zhang, Isola and Efros, "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction", 2016.
    """

    aliases = ("split_brain", "split_brain_autoencoder")
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
        # Zhang et al., "Colorful Image Colorization", the optimizer that split-brain takes over
        "paper": Recipe(adam((0.9, 0.99), 1e-3), 3e-5, schedule=Schedule("steps", at=(0.45, 0.84), factor=0.32)),
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
        crop: tuple[float, float] | None = None,
        flip: float = 0.0,
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
        """The live backbone, both halves of it, in eval mode.

        Args:
            input: ``"rgb"``: it takes RGB in [0, 1], as :meth:`preprocess` returns it; ``"lab"``: L / 50 - 1, a / 110,
                b / 110.
            output: ``"flat"``, ``"map"`` or ``"pooled"`` (independent of the resolution); None: as the backbone is.
            averaged: With the average of its weights that ``supervise(polyak=...)`` follows.
        """
        check_choice("input", input, ("rgb", "lab"))
        backbone = self._networks(averaged).backbone
        return self._presented(RGBInput(backbone) if input == "rgb" else backbone, output)

    def _forward(self, data: tuple[Tensor, Tensor]) -> Tensor:
        lab, classes = data  # (batch, 3, H, W) and (batch, 2, h, w)
        logits = resized_to(self.model(lab), classes.shape[-2:])  # of L decoded from ab, and of ab decoded from L
        return self.loss(logits, classes)

    def _score_pretext(self, data: tuple[Tensor, Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        lab, classes = data
        logits = in_batches(lambda images: resized_to(self.model(images), classes.shape[-2:]), lab)
        value = GroupedLoss(groups=self.bins.counts)(logits, classes).item()
        trivial = sum(entropy(part) for part in classes.unbind(1))
        return PretextScore("cross entropy of L and ab bins", value, trivial, "bin frequencies", higher_is_better=False)

    def _preview(self, data: tuple[Tensor, Tensor]) -> Preview:
        lab, classes = plain_lab(data[0]), data[1]
        lightness, colours = lab[:, :1], lab[:, 1:]
        pictures = [
            ("the image", lab_to_rgb(lab)),
            ("one half sees L", lightness.clamp(0, 100) / 100),
            ("the other a, b", lab_to_rgb(torch.cat([torch.full_like(lightness, BRIGHT), colours], 1))),
        ]
        note = (
            "One half of the network sees the lightness L and predicts the colours a, b;\nthe other half the reverse."
        )
        if self._train_state.step > 0:
            logits = torch.split(resized_to(self.model(data[0]), classes.shape[-2:]), list(self.bins.counts), dim=1)
            palettes = self.bins.palettes(F.adaptive_avg_pool2d(lab, (classes.shape[-2], classes.shape[-1])), classes)
            guessed = [
                resized_to(torch.einsum("bkhw,kc->bchw", (part / SHARP).softmax(1), palette), lab.shape[-2:])
                for part, palette in zip(logits, palettes, strict=True)
            ]
            pictures.append(("a, b told from L", lab_to_rgb(torch.cat([lightness, guessed[1]], 1))))
            pictures.append(("L told from a, b", guessed[0].clamp(0, 100) / 100))
            for name, part, target in zip(("L from a, b", "a, b from L"), logits, classes.unbind(1), strict=True):
                note += f"\n{name}: cross entropy {F.cross_entropy(part, target):.2f} (these images' frequencies "
                note += f"{entropy(target):.2f}, blind guess {math.log(part.shape[1]):.2f})."
        rows = [[CaptionedImage(shown[index], caption) for caption, shown in pictures] for index in range(len(lab))]
        return Preview("Split-brain: which colours belong to this lightness?", note, rows)


def network(setup: Setup, counts: tuple[int, int], target: tuple[int, int]) -> CombinedNet:
    """The two halves, with a decoder behind each that predicts what the other half sees.

    Raises:
        ConfigurationError: If the networks fit neither the images nor each other.
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
    """The backbone, with its ``weights`` if there are any: of two halves, or of one network that both begin with.

    Raises:
        ConfigurationError: If what was given is no backbone.
        CheckpointMismatch: If the weights do not fit.
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
    """Entropy in nats of how often each class occurs: the cross entropy of a guess by frequency alone."""
    count = torch.bincount(classes.flatten()).double()
    return float(torch.special.entr(count / count.sum()).sum())
