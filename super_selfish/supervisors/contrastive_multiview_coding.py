"""Contrastive multiview coding: tell which colours belong to which lightness."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from super_selfish.engine.bank import BANK_RULES, BankInit, BankPrecision, BankSupervisor, LossType
from super_selfish.engine.core.expected_loss import ExpectedLoss
from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adamw_recipe, sgd
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.errors import SWITCH, Rule, check_choice, one_of, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, in_batches, retrieval_score
from super_selfish.loading.loader import TrainLoader
from super_selfish.memory import BatchedMemory
from super_selfish.models.backbones import Output
from super_selfish.models.combined import CombinedNet
from super_selfish.models.lab import FULL_RANGE, RGBInput, lab_to_rgb, plain_lab
from super_selfish.models.multiview import BothViews, LabBranch, LabView, MultiviewNet
from super_selfish.pretext.multiview import AugmentationLabIndexedDataset, check_lab_views
from super_selfish.pretext.preview import CaptionedImage, Matches, Preview
from super_selfish.pretext.views import VIEW_SIZE, Views, as_transform, check_one_source, input_size
from super_selfish.transforms.cmc import CMCTransform

BRIGHT = 70.0  # lightness of mere colours in pictures

RULES = {
    **BANK_RULES,
    "centred": SWITCH,
    "positive": one_of("bank", "key"),
    "view_size": VIEW_SIZE,
    "data_augmentation": Rule(lambda make: make is None or callable(make), "None, or a function of the data set"),
}


# Differs from the paper: negatives are shared by the batch and all different
class ContrastiveMultiviewCodingSupervisor(BankSupervisor):
    """An image's lightness and its colours should be embedded alike, and unlike those of other images.

    One encoder sees the lightness L of CIE Lab, another the colours a and b. A memory bank keeps what either made of
    each image: the lightness has to find its colours in the bank of colours, and the colours their lightness.

    Fits colour images only. The normalisation is that of Lab, so there is no ``normalize=``.

    ``evaluate_pretext`` gives the accuracy of retrieving an image's colours by its lightness among up to 250 images;
    the trivial baseline is chance level.

    Args:
        dataset: A folder, a data set, an array, a tensor; None to load weights only.
        data_augmentation: Makes a data set of items (L, ab, index) or (L, ab, L, ab, index) of a data set of images,
            see :class:`~super_selfish.data.AugmentationLabIndexedDataset`; None: by ``views``.
        embedding_size: Length of the embeddings.
        n: Negatives of an anchor; 0, or as many as there are other images: all of them.
        t: Temperature.
        memory_m: Weight of the new embedding when a row of a bank is updated, in [0, 1]; 1 replaces the row.
        backbone: Images to features: an ``nn.Module``, which is copied for each encoder, or a name, behind a 1×1
            convolution of one or two channels to those that it takes; None for EfficientNet-B0 with layer norm.
        predictor: Features to embeddings, copied for each encoder; None for perceptrons with layer norm, sized by the
            backbones.
        loss: Criterion of (logits, index of the positive); cross entropy if None.
        positive: ``"bank"``: find the row of the other view in the bank, or ``"key"``: its present embedding, which
            then learns from that too; if there are two versions of an image, that of the other version.
        backbone_ab: Another backbone for the colours; None: as ``backbone``.
        predictor_ab: Another predictor for the colours; None: as ``predictor``.
        loss_type: ``"info_nce"``, or ``"nce"``: the paper's noise-contrastive estimation.
        shared_negatives: Draw n different rows a step for the whole batch; else n for each image, which costs many
            times as much. Both directions use the same rows.
        bank_init: ``"random"`` rows, or ``"forward"``: those that the untrained networks give, which takes one pass.
        bank_precision: Bits of a number of the bank; ``"16"`` takes half of the memory, unless all rows are negatives
            (n=0), which are read in 32 bits.
        centred: Standardise each output of the default predictors over the batch, so that no drift that all embeddings
            share tells old bank entries from new ones. Weights files without this value have False.
        views: A recipe, or any callable that makes a view of an image; None: :class:`~super_selfish.data.CMCTransform`,
            which leaves colours alone.
        view_size: Side of the views in px, or (height, width); None: as large as the images.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, the networks do not fit, or the images are not RGB.
        DataError: If the images cannot be used.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = ContrastiveMultiviewCodingSupervisor(images, n=5, backbone="small_resnet")
        >>> supervisor.get_backbone()(torch.rand(2, 3, 32, 32)).shape, supervisor.memory_ab.memory.shape
        (torch.Size([2, 256]), torch.Size([8, 128]))

    References:
        Tian, Krishnan and Isola, "Contrastive Multiview Coding", 2019.
    """

    aliases = ("cmc",)
    relative_cost = 2.3
    paper = Paper(
        "Tian, Krishnan and Isola",
        "Contrastive Multiview Coding",
        2019,
        "1906.05849",
    )
    family = "contrastive"
    learns_by = "matching the colours of an image with its lightness"
    use_when = "colour images whose colours follow from what they show; no colour distortion wanted"
    needs = Needs(rgb=True, batch=2)
    network_arguments = ("backbone", "predictor", "backbone_ab", "predictor_ab")
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(1e-3),
        # Tian et al., appendix: rate .03, ten times less after 120, 160 and 200 of 240 epochs
        "paper": Recipe(sgd(1e-4), 0.03, schedule=Schedule("steps", at=(0.5, 2 / 3, 5 / 6))),
    }
    auto_gain = 3.3

    @validate_arguments(RULES)
    def __init__(
        self,
        dataset: Any = None,
        data_augmentation: Callable[[Any], Any] | None = None,
        embedding_size: int = 128,
        n: int = 3136,
        t: float = 0.07,
        memory_m: float = 0.5,
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        positive: Literal["bank", "key"] = "bank",
        backbone_ab: nn.Module | str | None = None,
        predictor_ab: nn.Module | None = None,
        loss_type: LossType = "info_nce",
        shared_negatives: bool = True,
        bank_init: BankInit = "random",
        bank_precision: BankPrecision = "32",
        centred: bool = True,
        views: Views | None = None,
        view_size: int | tuple[int, int] | None = None,
        **images: Unpack[ImageOptions],
    ) -> None:
        check_one_source(views, data_augmentation)
        given = {"backbone": backbone, "predictor": predictor, "loss": loss}
        given |= {"backbone_ab": backbone_ab, "predictor_ab": predictor_ab}
        setup = Setup.of(dataset, images, **given, data_augmentation=data_augmentation, views=views)
        setup.check_lab("Multiview coding compares lightness with colours.")
        super().__init__(
            # Differs from the paper: EfficientNet-B0 in each view and perceptrons behind them, with layer norm
            encoders(setup, embedding_size, view_size, centred),
            setup.dataset(data_augmentation or views_in_lab(views, view_size)),
            loss,
            embedding_size=embedding_size,
            n=n,
            t=t,
            memory_m=memory_m,
            # Differs from the paper: InfoNCE unless loss_type="nce"
            loss_type=loss_type,
            shared_negatives=shared_negatives,
            bank_init=bank_init,
            bank_precision=bank_precision,
            setup=setup,
        )
        self.memory_ab = self.new_bank()
        self.positive = positive
        self.centred = centred
        self.view_size = view_size
        self.input_size = input_size(view_size)

    def get_backbone(
        self, view: LabView = "l", *, input: str = "rgb", output: Output | None = None, averaged: bool = False
    ) -> nn.Module:
        """A live backbone, in eval mode.

        Args:
            view: ``"l"``: the one that sees lightness; ``"ab"``: the one that sees colours; ``"both"``: the two, with
                their features one after another.
            input: ``"rgb"``: it takes RGB in [0, 1], as :meth:`preprocess` returns it; ``"lab"``: L, a and b as
                :class:`~super_selfish.data.AugmentationLabIndexedDataset` scales them, in three channels, or only those
                that it sees.
            output: ``"flat"``, ``"map"`` or ``"pooled"`` (independent of the resolution); None: as the backbone is.
            averaged: With the average of its weights that ``supervise(polyak=...)`` follows.
        """
        check_choice("view", view, ("l", "ab", "both"))
        check_choice("input", input, ("rgb", "lab"))
        networks = cast(MultiviewNet, self._networks(averaged))
        backbones = {"l": networks.backbone, "ab": networks.ab.backbone}
        backbone = BothViews(*backbones.values()) if view == "both" else backbones[view]
        return self._presented(RGBInput(backbone, FULL_RANGE) if input == "rgb" else backbone, output)

    def backbones(self) -> list[nn.Module]:
        """The backbone of lightness and the backbone of colours."""
        return [self.model.backbone, cast(MultiviewNet, self.model).ab.backbone]

    def banks(self) -> tuple[BatchedMemory, ...]:
        """The bank of lightness and the bank of colours."""
        return self.memory, self.memory_ab

    def _prepare(self, train_loader: TrainLoader) -> None:
        if self.forwards_as_planned:
            check_lab_views(train_loader.dataset, self.preprocessing, self.view_size)
        super()._prepare(train_loader)

    def embeddings(self, data: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The embeddings of lightness and of colours (batch, embedding_size); the mean direction of two versions."""
        return mean_directions(self._embed(data))

    def _embed(self, data: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings of lightness and of colours (versions, batch, embedding_size), of length one."""
        *planes, _ = data  # L (batch, 1, H, W) and ab (batch, 2, H, W), once or twice
        versions = [torch.cat(pair, dim=1) for pair in zip(planes[::2], planes[1::2], strict=True)]
        lightness, colours = self.model(torch.cat(versions)).chunk(2, dim=1)
        shape = (len(versions), -1, self.embedding_size)
        return F.normalize(lightness, dim=1).view(shape), F.normalize(colours, dim=1).view(shape)

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        lightness, colours = self._embed(data)
        indices = data[-1]  # (batch,)
        self.remember(mean_directions((lightness, colours)), indices)
        forth = self._one_way(lightness, colours, self.memory_ab, indices)
        back = self._one_way(colours, lightness, self.memory, indices)
        return forth + back  # paper, eq. 3

    def _one_way(self, anchors: Tensor, others: Tensor, bank: BatchedMemory, indices: Tensor) -> Tensor:
        """The loss of finding the other view's codes by the anchors, both (versions, batch, dim)."""
        keys = others.flip(0) if self.positive == "key" else [None] * len(anchors)
        pairs = zip(anchors, keys, strict=True)
        return torch.stack([self.contrast(anchor, bank, indices, key) for anchor, key in pairs]).mean()

    def _expected_loss(self) -> ExpectedLoss:
        return ExpectedLoss(falls=False)

    def _score_pretext(self, data: Sequence[Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        lightness, colours = in_batches(lambda *parts: self.embeddings(parts), *data)
        return retrieval_score("the colours", lightness, colours)

    def _preview(self, data: Sequence[Tensor]) -> Preview:
        lab = plain_lab(torch.cat(list(data[:2]), dim=1), FULL_RANGE)
        colours = lab_to_rgb(torch.cat([torch.full_like(lab[:, :1], BRIGHT), lab[:, 1:]], dim=1))
        seen = zip(lab_to_rgb(lab), lab[:, :1].clamp(0, 100) / 100, colours, strict=True)
        rows = [
            [CaptionedImage(a, "a view"), CaptionedImage(b, "its lightness L"), CaptionedImage(c, "its colours a, b")]
            for a, b, c in seen
        ]
        note = "One encoder sees the lightness of a view, the other its colours alone."
        if self._train_state.step and len(rows) > 1:
            lightness, others = self.embeddings(data)
            matches = Matches(lightness @ others.T, 2, trained=True)
            for index, row in enumerate(rows):
                row[2:] = matches.captioned_images(index, colours, "its colours", "another's colours")
            note += "\nCosine similarities of the lightness with its own and others' colours."
            note += matches.note("Its own are nearest")
        return Preview("Which colours belong to this lightness?", note, rows)


def views_in_lab(views: Views | None, view_size: int | tuple[int, int] | None) -> Callable[[Any], Any]:
    """Makes a data set of a view of each image in Lab."""
    transform = CMCTransform(view_size) if views is None else as_transform(views)
    return lambda opened: AugmentationLabIndexedDataset(opened, transform, views=1)


def encoders(setup: Setup, embedding_size: int, size: int | tuple[int, int] | None, centred: bool) -> MultiviewNet:
    """An encoder of lightness and one of colours: copies of what was given, or default networks.

    Raises:
        ConfigurationError: If the networks fit neither the images nor each other.
    """

    def encoder(view: Literal["l", "ab"], **given: Any) -> CombinedNet:
        own = copy.deepcopy(given)
        bare = dataclasses.replace(setup, given=own, weights=None)
        branch = LabBranch(bare.backbone("layer"), view)
        if setup.weights is not None:
            part = "ab" if view == "ab" else ""
            setup.weights.into_parts(branch, {part: branch.network}, part)
        with_own = dataclasses.replace(bare, given=own | {"backbone": branch})
        return with_own.head((1024, 1024), embedding_size, norm_type="layer", size=size, centred=centred)

    first = {role: setup.given[role] for role in ("backbone", "predictor")}
    second = {role: first[role] if (own := setup.given[f"{role}_ab"]) is None else own for role in first}
    return MultiviewNet(encoder("l", **first), encoder("ab", **second))


def mean_directions(embeddings: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """What the banks take of embeddings (versions, batch, dim): rows (batch, dim) of length one."""
    return tuple(F.normalize(each.mean(dim=0), dim=1) for each in embeddings)
