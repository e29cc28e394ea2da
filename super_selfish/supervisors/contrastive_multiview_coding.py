"""Contrastive multiview coding (CMC): match the lightness of an image with its colours."""

from __future__ import annotations

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
from super_selfish.models.averages import copied
from super_selfish.models.backbones import Output
from super_selfish.models.combined import CombinedNet
from super_selfish.models.lab import FULL_RANGE, RGBInput, lab_to_rgb, plain_lab
from super_selfish.models.multiview import BothViews, LabBranch, LabView, MultiviewNet
from super_selfish.pretext.multiview import AugmentationLabIndexedDataset, check_lab_views
from super_selfish.pretext.preview import CaptionedImage, Matches, Preview
from super_selfish.pretext.views import VIEW_SIZE, Views, as_transform, check_one_source, input_size
from super_selfish.transforms.cmc import CMCTransform

BRIGHT = 70.0  # lightness L at which previews show colours

RULES = {
    **BANK_RULES,
    "centred": SWITCH,
    "positive": one_of("bank", "key"),
    "view_size": VIEW_SIZE,
    "data_augmentation": Rule(lambda make: make is None or callable(make), "None, or a function of the data set"),
}


# Differs from the paper: negatives are shared by the batch and all different
class ContrastiveMultiviewCodingSupervisor(BankSupervisor):
    """Learn similar embeddings of the lightness and the colours of an image.

    One encoder takes the lightness L of CIE Lab, another the colours a and b. Two memory banks store their embeddings
    of each image. An embedding of lightness is contrasted with the bank of colours, and the reverse.

    Requires colour images. Inputs are normalised in Lab, so ``normalize=`` is not supported.

    ``evaluate_pretext`` returns the accuracy of retrieving an image's colours by its lightness among up to 250 images;
    the trivial baseline is chance level.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        data_augmentation: Function from a data set of images to one of items (L, ab, index) or (L, ab, L, ab, index),
            see :class:`~super_selfish.data.AugmentationLabIndexedDataset`. None: uses ``views``.
        embedding_size: Length of the embeddings.
        n: Number of negatives per anchor, at most all other images. 0: all other images.
        t: Temperature.
        memory_m: Weight of the new embedding in the update of a bank entry, in [0, 1]; 1 replaces the entry.
        backbone: Network from images to features: an ``nn.Module`` or a name. Each encoder has a copy, after a 1×1
            convolution from one or two channels to the channels it takes. None: EfficientNet-B0 with layer norm.
        predictor: Head from features to embeddings, copied for each encoder. None: MLPs with layer norm that fit the
            backbones.
        loss: Criterion of (logits, index of the positive). None: cross entropy.
        positive: ``"bank"``: the bank entry of the other view; ``"key"``: its current embedding, through which
            gradients flow. If items have two versions of an image, the key is of the other version.
        backbone_ab: Backbone of the colours. None: the same as ``backbone``.
        predictor_ab: Predictor of the colours. None: the same as ``predictor``.
        loss_type: ``"info_nce"``, or ``"nce"``: the paper's noise-contrastive estimation.
        shared_negatives: Draw n distinct bank entries per step, shared by the batch and both directions. False: n per
            image, which is many times slower.
        bank_init: ``"random"``, or ``"forward"``: embeddings of the untrained networks (one pass over the images).
        bank_precision: Bits per value of the bank. ``"16"`` halves the memory, except with n=0: all entries are then
            negatives and are converted to 32 bits.
        centred: Standardise each output of the default predictors over the batch. Otherwise, a drift shared by all
            embeddings separates old bank entries from new ones. Weights files without this value use False.
        views: Transform or callable that returns a view of an image. None: :class:`~super_selfish.data.CMCTransform`,
            which does not change colours.
        view_size: Size of the views in px: side of a square, or (height, width). None: the size of the images.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, the networks do not fit, or the images are not RGB.
        DataError: If the images cannot be read or do not fit the algorithm.

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
        # Tian et al., appendix: learning rate 0.03, divided by 10 after 120, 160 and 200 of 240 epochs
        "paper": Recipe(sgd(1e-4), 0.03, schedule=Schedule("steps", at=(0.5, 2 / 3, 5 / 6)), decay_all=True),
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
        setup.check_lab("Contrastive multiview coding compares lightness with colours.")
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
        """A backbone in eval mode; it shares its weights with the supervisor.

        Args:
            view: ``"l"``: the backbone of lightness; ``"ab"``: the backbone of colours; ``"both"``: both backbones,
                with concatenated features.
            input: ``"rgb"``: the backbone takes RGB images in [0, 1], as :meth:`preprocess` returns them; ``"lab"``: L,
                a and b, scaled as in :class:`~super_selfish.data.AugmentationLabIndexedDataset`, in three channels or
                only the channels of the view.
            output: ``"flat"``, ``"map"`` or ``"pooled"`` (independent of the resolution). None: the backbone's own.
            averaged: Use the EMA of the weights from ``supervise(polyak=...)``.
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
        """Embeddings of lightness and of colours (batch, embedding_size), averaged over the versions of an image."""
        return mean_directions(self._embed(data))

    def _embed(self, data: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """L2-normalised embeddings of lightness and of colours (versions, batch, embedding_size)."""
        *planes, _ = data  # L (batch, 1, H, W) and ab (batch, 2, H, W), once or twice
        versions = [torch.cat(pair, dim=1) for pair in zip(planes[::2], planes[1::2], strict=True)]
        lightness, colours = self.model(torch.cat(versions)).chunk(2, dim=1)
        shape = (len(versions), -1, self.embedding_size)
        return F.normalize(lightness, dim=1).view(shape), F.normalize(colours, dim=1).view(shape)

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        lightness, colours = self._embed(data)
        indices = data[-1]  # (batch,)
        self.remember(mean_directions((lightness, colours)), indices)
        lightness_to_colours = self._one_way(lightness, colours, self.memory_ab, indices)
        colours_to_lightness = self._one_way(colours, lightness, self.memory, indices)
        return lightness_to_colours + colours_to_lightness  # paper, eq. 3

    def _one_way(self, anchors: Tensor, others: Tensor, bank: BatchedMemory, indices: Tensor) -> Tensor:
        """Contrastive loss of anchors and the embeddings of the other view, both (versions, batch, dim)."""
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
        note = "One encoder takes the lightness of a view, the other takes its colours."
        if self._train_state.step and len(rows) > 1:
            lightness, others = self.embeddings(data)
            matches = Matches(lightness @ others.T, 2, trained=True)
            for index, row in enumerate(rows):
                row[2:] = matches.captioned_images(index, colours, "its colours", "another's colours")
            note += "\nNumbers are cosine similarities of the lightness with its own colours and with others' colours."
        return Preview("Which colours belong to this lightness?", note, rows)


def views_in_lab(views: Views | None, view_size: int | tuple[int, int] | None) -> Callable[[Any], Any]:
    """A function from a data set of images to one of views in Lab."""
    transform = CMCTransform(view_size) if views is None else as_transform(views)
    return lambda opened: AugmentationLabIndexedDataset(opened, transform, views=1)


def encoders(setup: Setup, embedding_size: int, size: int | tuple[int, int] | None, centred: bool) -> MultiviewNet:
    """Build the encoders of lightness and of colours from copies of the user's networks, or from default networks.

    Raises:
        ConfigurationError: If the networks do not fit the images or each other.
    """

    def encoder(view: Literal["l", "ab"], **given: Any) -> CombinedNet:
        own = {role: copied(net) if isinstance(net, nn.Module) else net for role, net in given.items()}
        bare = dataclasses.replace(setup, given=own, weights=None)
        branch = LabBranch(bare.backbone(setup.norm_of("layer")), view)
        if setup.weights is not None:
            part = "ab" if view == "ab" else ""
            setup.weights.into_parts(branch, {part: branch.network}, part)
        with_own = dataclasses.replace(bare, given=own | {"backbone": branch})
        return with_own.head((1024, 1024), embedding_size, norm_type="layer", size=size, centred=centred)

    first = {role: setup.given[role] for role in ("backbone", "predictor")}
    second = {role: first[role] if (own := setup.given[f"{role}_ab"]) is None else own for role in first}
    return MultiviewNet(encoder("l", **first), encoder("ab", **second))


def mean_directions(embeddings: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Bank entries (batch, dim) of embeddings (versions, batch, dim): their L2-normalised means over versions."""
    return tuple(F.normalize(each.mean(dim=0), dim=1) for each in embeddings)
