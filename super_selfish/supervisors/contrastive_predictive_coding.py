"""CPC v2: predict patches of an image from the patches on one side of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from super_selfish.distributed import gather_with_gradient, rank, world
from super_selfish.drawing.patches import patch_prediction, patch_prediction_images
from super_selfish.engine.core.expected_loss import CollapseRisk
from super_selfish.engine.core.facts import Paper
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adam, adamw_recipe
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import COUNT, Rule, check_argument, is_count, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, loss_score
from super_selfish.loading.collate import batched_collate
from super_selfish.loading.loader import TrainLoader
from super_selfish.losses import CPCLoss
from super_selfish.models.backbones import BackboneOutput
from super_selfish.models.efficient import ReshapeChannels
from super_selfish.models.initialization import keep_variance
from super_selfish.models.patches import PatchNet
from super_selfish.models.predictive import (
    SIDES,
    SidePredictor,
    check_sides,
    context_networks,
    to_frame,
)
from super_selfish.models.shapes import feature_shape, output_shape
from super_selfish.pretext import patches as pretext
from super_selfish.pretext.patches import (
    ContrastivePredictiveCodingDataset,
    check_patches,
    checked_grid,
    grid_of,
    seen_patch,
)
from super_selfish.pretext.preview import CaptionedImage, Preview
from super_selfish.pretext.views import Views
from super_selfish.transforms.base import is_size

RULES = {
    **pretext.RULES,
    "embedding_size": COUNT,
    "patch_size": Rule(is_size, "None, a side in px, or (height, width)"),
    "k": COUNT,
    "ignore": Rule(lambda count: is_count(count, 0), "an integer of at least 0"),
    "max_negatives": Rule(lambda count: count is None or is_count(count, 1), "None, or an integer of at least 1"),
}


# Differs from the paper: masked convolutions as context networks, without residual blocks
# Differs from the paper: rows two and three steps away are predicted
# Differs from the paper: the grid follows from the image
# Differs from the paper: EfficientNet-B0 with a bottleneck to 64 channels
# Differs from the paper: initial weights, which it does not state, keep the variance
class ContrastivePredictiveCodingSupervisor(Supervisor):
    """Predict overlapping patches of an image from the patches on one side, contrasted with all patches of the batch.

    The backbone encodes each patch independently. For each side, a context network aggregates the latents up to a row
    and predicts the latents of later rows. The loss classifies which patch of the batch is at the predicted position.
    Each patch is augmented independently, so that colours and continuing edges are no shortcut.

    ``evaluate_pretext`` returns the loss among the patches of up to 32 images; the trivial baseline is the loss at
    chance level, with equal probability for every patch.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        embedding_size: Number of channels of the contexts.
        half_crop_size: Half the side of the patches in px, or half of (height, width); also the stride between patches.
            None: an eighth of the image size, which gives 7×7 patches at most sizes.
        sides: Sides of the context: any of "top", "bottom", "left" and "right". "top" predicts patches below.
        bottleneck_resolution: Expected rows and columns of the grid of patches. None: not checked.
        backbone: Network from patches to features: an ``nn.Module`` or a name. Feature maps are average-pooled. Batch
            norm leaks information between patches. None: EfficientNet-B0 with layer norm.
        predictor: An ``nn.ModuleDict`` with a context network for each side: latents (batch, features, rows, columns)
            to contexts on the same grid, in image orientation, masked to their own side. None: :class:`MaskedCNN`.
        loss: Criterion of (predictions (batch, steps, features, rows, columns), targets (batch, features, rows,
            columns)), both rotated so that the direction of prediction is down. None: :class:`CPCLoss`.
        k: Number of predicted steps. An attribute ``k`` of ``loss`` takes precedence.
        ignore: Number of first steps to leave out, since their patches overlap with the context. An attribute
            ``ignore`` of ``loss`` takes precedence.
        views: Transform or callable that returns a view of a patch. None: :class:`CPCTransform`.
        patch_size: Size in px to which patches are resized: side of a square, or (height, width). None: patches keep
            their size, but a short side below 32 px is enlarged to 32 px, as networks for photographs require.
        max_negatives: Number of negatives per prediction in the default loss; a smaller number saves memory. None: all
            patches of the batch.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, the grid is too small, or the networks do not fit.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = ContrastivePredictiveCodingSupervisor(images, backbone="small_resnet", patch_size=8)
        >>> supervisor.grid
        (7, 7)

    References:
        Hénaff et al., "Data-Efficient Image Recognition with Contrastive Predictive Coding", 2020; van den Oord, Li and
        Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018.
    """

    aliases = ("cpc", "cpc_v2")
    uses_map = True
    relative_cost = 4.3
    paper = Paper(
        "Hénaff et al.",
        "Data-Efficient Image Recognition with Contrastive Predictive Coding",
        2020,
        "1905.09272",
    )
    family = "contrastive"
    learns_by = "predicting from one side of an image which patch comes some steps further"
    use_when = "photographs of 96 px and more, and much time to compute"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(2e-3, 32, clip_grad=0.01),
        # Hénaff et al., appendix A
        "paper": Recipe(adam((0.8, 0.999)), 4e-4, clip_grad=0.01, polyak=0.9999),
    }
    pretext_chunk = 32  # each image has dozens of patches

    @validate_arguments(RULES)
    def __init__(
        self,
        dataset: Any = None,
        embedding_size: int = 128,
        half_crop_size: int | Sequence[int] | None = None,
        sides: Sequence[str] = SIDES,
        bottleneck_resolution: Sequence[int] | None = None,
        backbone: nn.Module | str | None = None,
        predictor: nn.ModuleDict | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        k: int = 3,
        ignore: int = 1,
        views: Views | None = None,
        patch_size: int | tuple[int, int] | None = None,
        max_negatives: int | None = None,
        **images: Unpack[ImageOptions],
    ) -> None:
        check_sides(sides)
        criterion, k, ignore = criterion_of(loss, k, ignore, max_negatives)
        setup = Setup.of(dataset, images, backbone=backbone, predictor=predictor, loss=loss, views=views)
        size = setup.preprocessing.resolution
        grid = checked_grid(size, half_crop_size, bottleneck_resolution, sides, k)
        seen = seen_patch(size, half_crop_size, patch_size)
        super().__init__(
            network(setup, tuple(sides), embedding_size, grid, seen, k - ignore, criterion),
            setup.dataset(lambda opened: ContrastivePredictiveCodingDataset(opened, half_crop_size, views=views)),
            criterion,
            batched_collate,
            setup=setup,
        )
        self.embedding_size = embedding_size
        self.k = k
        self.ignore = ignore
        self.half_crop_size = half_crop_size
        self.sides = tuple(sides)
        self.bottleneck_resolution = bottleneck_resolution
        self.patch_size = patch_size
        self.max_negatives = max_negatives
        self.input_size = seen
        self.images_per_sample = grid[0] * grid[1]

    @property
    def grid(self) -> tuple[int, int]:
        """Number of rows and columns of patches of an image."""
        return grid_of(self.preprocessing.resolution, self.half_crop_size)

    @property
    def decomposable(self) -> bool:
        """False: the patches of a batch are each other's negatives."""
        return False

    def _prepare(self, train_loader: TrainLoader) -> None:
        if self.forwards_as_planned:
            check_patches(train_loader.dataset)

    def latents(self, patches: Tensor) -> Tensor:
        """Latents (batch, features, rows, columns) of patches (batch · rows · columns, C, 2h, 2w)."""
        return self.model.features(patches)

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        patches = data[0].flatten(0, -4)  # (batch · rows · columns, C, 2h, 2w)
        targets, predictions = self.model(patches)
        if world() == 1:
            losses = [self.loss(to_frame(made, side), to_frame(targets, side)) for side, made in predictions.items()]
        else:
            targets = gather_with_gradient(targets)  # the patches of all processes are each other's negatives
            losses = [
                self._among_all(to_frame(made, side), to_frame(targets, side)) for side, made in predictions.items()
            ]
        return torch.stack(losses).mean()

    def _among_all(self, made: Tensor, targets: Tensor) -> Tensor:
        """Loss of this process's predictions against the targets of all processes; custom losses get both gathered."""
        if isinstance(self.loss, CPCLoss):
            return cast(Tensor, self.loss(made, targets, rank() * len(made)))
        return self.loss(gather_with_gradient(made), targets)

    def _collapse_risk(self, batch_size: int) -> CollapseRisk | None:
        if not isinstance(self.loss, CPCLoss):
            return None
        candidates = self.grid[0] * self.grid[1] * batch_size if self.loss.N is None else 1 + self.loss.N
        likely = "the learning rate or the gradients are too large. Lower `lr`, or set clip_grad=0.01."
        return CollapseRisk(likely, chance=(self.k - self.ignore) * math.log(candidates))

    def _score_pretext(self, data: Sequence[Tensor], draw_again: Callable[[], Any]) -> PretextScore:
        if not isinstance(self.loss, CPCLoss):
            return super()._score_pretext(data, draw_again)
        loss = ContrastivePredictiveCodingSupervisor._forward(self, data)  # without terms that a subclass adds
        candidates = len(data[0].flatten(0, -4)) if self.loss.N is None else 1 + self.loss.N
        chance = (self.k - self.ignore) * math.log(candidates)
        return dataclasses.replace(loss_score(loss.item(), chance), name="cross entropy of predicted patches")

    def _preview(self, data: Sequence[Tensor]) -> Preview:
        patches = data[0].flatten(0, -4)
        targets, predictions = self.model(patches)
        images = self.preprocessing.visible(patches).reshape(len(targets), -1, *patches.shape[1:])
        shaper, scale = getattr(self.loss, "target_shaper", None), getattr(self.loss, "scale", 1.0)
        shaped = targets if shaper is None else shaper(targets)
        candidates = shaped.movedim(1, -1).flatten(0, 2)  # (batch · rows · columns, features)
        step = self.ignore + 1
        rows: list[list[CaptionedImage]] = []
        for index, side in zip(range(len(images)), itertools.cycle(self.sides), strict=False):
            query = patch_prediction(self.grid, side, step)
            predicted = to_frame(predictions[side][index, 0], side)[:, query.place[0], query.place[1]]
            products = scale * candidates @ predicted if self._train_state.step else None
            rows.append(patch_prediction_images(images, index, query, side, products))
        note = "Patches overlap by half, so their centres are shown; each patch is augmented independently.\n"
        note += "The context is bright. The network identifies the framed patch among all patches shown here."
        if self._train_state.step:
            note += f"\nThere are {len(candidates)} patches to choose from."
        return Preview(f"CPC: which patch comes {'next' if step == 1 else f'{step} steps ahead'}?", note, rows)


def criterion_of(
    loss: Callable[..., Tensor] | None, k: int, ignore: int, max_negatives: int | None
) -> tuple[Callable[..., Tensor], int, int]:
    """The user's criterion or the default, with its ``k`` and ``ignore``.

    Raises:
        ConfigurationError: If ``loss`` contradicts the other arguments, or its reduction is not the mean.
    """
    if loss is None:
        return CPCLoss(k=k, ignore=ignore, N=max_negatives), k, ignore
    expected = "None if `loss` is passed; set CPCLoss(N=...) instead"
    check_argument(max_negatives is None, "max_negatives", max_negatives, expected)
    for name, value, default in (("k", k, 3), ("ignore", ignore, 1)):
        own = getattr(loss, name, value)
        check_argument(value in (default, own), name, value, f"{own}, as in `loss`, or no value")
    reduction = getattr(loss, "reduction", "mean")
    check_argument(reduction == "mean", "reduction", reduction, '"mean" over the predictions of a step')
    return loss, getattr(loss, "k", k), getattr(loss, "ignore", ignore)


def network(
    setup: Setup,
    sides: tuple[str, ...],
    embedding_size: int,
    grid: tuple[int, int],
    seen: tuple[int, int],
    steps: int,
    criterion: Any,
) -> PatchNet:
    """Build the backbone with its context networks and prediction heads.

    Raises:
        ConfigurationError: If the networks do not fit each other.
    """
    backbone = setup.backbone("layer")
    if setup.given["backbone"] is None and setup.weights is None and isinstance(backbone, ReshapeChannels):
        keep_variance(backbone.conv, backbone.conv.in_channels)  # maps are 1×1, so only the kernel's centre contributes
    (features,) = feature_shape(BackboneOutput(backbone, "pooled"), setup.preprocessing.channels, seen)
    contexts, channels = context_networks(setup.given["predictor"], sides, features, embedding_size, grid)
    shaper = getattr(criterion, "target_shaper", None)
    if shaper is None:
        return PatchNet(backbone, SidePredictor(contexts, channels, features, steps), grid, seen)
    predicted = output_shape(shaper, (features, *grid))[0]
    heads = SidePredictor(contexts, channels, features, steps, None, predicted)
    return PatchNet(backbone, heads, grid, seen)
