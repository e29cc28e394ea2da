"""PIRL: learn similar embeddings of an image and of its shuffled patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

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
from super_selfish.errors import PROBABILITY, SWITCH, Rule, check_argument, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, in_batches, retrieval_score
from super_selfish.loading.loader import TrainLoader
from super_selfish.models.initialization import fresh_copy
from super_selfish.models.shapes import check_outputs, feature_shape
from super_selfish.pretext.pirl import CROPS, image_and_jigsaw
from super_selfish.pretext.preview import CaptionedImage, Matches, Preview
from super_selfish.pretext.views import VIEW_SIZE, Views, check_views, input_size

RULES = BANK_RULES | {
    "centred": SWITCH,
    "lam": PROBABILITY._replace(fix="The paper uses 0.5."),
    "crops": CROPS,
    "view_size": VIEW_SIZE,
    "data_augmentation": Rule(lambda make: make is None or callable(make), "None, or a function of the data set"),
    "predictor_g": Rule(lambda head: head is None or isinstance(head, nn.Module), "None, or an nn.Module"),
}


# Differs from the paper: perceptrons of three linear layers with layer norm as heads
# Differs from the paper: InfoNCE with 3,136 negatives, drawn once for a batch
# Differs from the paper: a patch takes 0.85 of a cell's sides
# Differs from the paper: colours change before a part is enlarged, or after it is shrunk
# Differs from the paper: the bank is written after the update, with the embeddings of before
class PIRLSupervisor(BankSupervisor):
    """Match an image and its jigsaw-transformed version with the image's entry in a memory bank.

    Features thereby become invariant to the transform. Both inputs share one backbone. Head f embeds images and head g
    embeds transformed images. The bank stores the embeddings of images.

    ``evaluate_pretext`` returns the accuracy of retrieving the image of a transformed image among up to 250 images; the
    trivial baseline retrieves by mean colour.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        data_augmentation: Function from a data set of images to one of items (image view, transformed view, index).
            None: uses ``views`` and ``patch_views``.
        embedding_size: Length of the embeddings.
        n: Number of negatives per image, at most all other images. 0: all other images.
        t: Temperature.
        memory_m: Weight of the new embedding in the update of a bank entry, in [0, 1]; 1 replaces the entry.
        backbone: Network from images to features: an ``nn.Module`` or a name. None: EfficientNet-B0 with layer norm.
        predictor: Head f for images. None: an MLP with layer norm that fits the backbone.
        loss: Criterion of (logits, index of the positive). None: cross entropy.
        lam: Weight λ of the loss of transformed images, in [0, 1]; the loss of images has weight 1 - λ.
        predictor_g: Head g for transformed images. None: a copy of f with new initial weights.
        crops: Number of patches per side.
        views: Transform or callable that returns the image view, or a pair whose second element returns the transformed
            view, instead of shuffled patches. None: :class:`~super_selfish.data.PIRLImageTransform`.
        patch_views: Transform or callable that is applied to each patch. None:
            :class:`~super_selfish.data.PIRLColours`.
        loss_type: ``"info_nce"``, or ``"nce"``: noise-contrastive estimation, as in the paper.
        shared_negatives: Draw n distinct bank entries per step for the whole batch, and mask an image's own entry.
            False: n per image, with replacement, which is many times slower.
        bank_init: ``"random"``, or ``"forward"``: embeddings of the untrained network (one pass over the images).
        bank_precision: Bits per value of the bank. ``"16"`` halves the memory, except with n=0: all entries are then
            negatives and are converted to 32 bits.
        centred: Standardise each output of the default predictors over the batch. Otherwise, a drift shared by all
            embeddings separates old bank entries from new ones. Weights files without this value use False.
        view_size: Size of both views in px: side of a square, or (height, width). None: the size of the images.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, images are too small for their patches, or the networks do
            not fit the images.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = PIRLSupervisor(images, backbone="small_resnet")
        >>> supervisor.memory.memory.shape
        torch.Size([8, 128])

    References:
        Misra and van der Maaten, "Self-Supervised Learning of Pretext-Invariant Representations", 2020.
    """

    relative_cost = 2.1
    paper = Paper(
        "Misra and van der Maaten",
        "Self-Supervised Learning of Pretext-Invariant Representations",
        2020,
        "1912.01991",
    )
    family = "contrastive"
    learns_by = "matching a view of an image with its shuffled patches"
    use_when = "what is shown matters, not how it is arranged; many epochs"
    needs = Needs(batch=2)
    network_arguments = ("backbone", "predictor", "predictor_g")
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(3e-3),
        # Misra and van der Maaten, section 4: batch size 1,024, cosine from 0.12 to a thousandth of it
        "paper": Recipe(sgd(1e-4), 0.12, 1024, schedule=Schedule("cosine", end=1e-3), decay_all=True),
    }
    calls_parts = True

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
        lam: float = 0.5,
        predictor_g: nn.Module | None = None,
        crops: int = 3,
        views: Views | Sequence[Views] | None = None,
        patch_views: Views | None = None,
        loss_type: LossType = "info_nce",
        shared_negatives: bool = True,
        bank_init: BankInit = "random",
        bank_precision: BankPrecision = "32",
        centred: bool = True,
        view_size: int | tuple[int, int] | None = None,
        **images: Unpack[ImageOptions],
    ) -> None:
        own: dict[str, Any] = {"views": views, "patch_views": patch_views}
        for name, value in own.items():
            one_way = data_augmentation is None or value is None
            check_argument(one_way, name, value, f"either `{name}` or `data_augmentation`")
        augment = data_augmentation or image_and_jigsaw(views, patch_views, crops, view_size)
        own |= {"data_augmentation": data_augmentation, "loss": loss}
        own |= {"backbone": backbone, "predictor": predictor, "predictor_g": predictor_g}
        setup = Setup.of(dataset, images, **own)
        # Differs from the paper: the jigsaw is one image, instead of nine that the backbone sees one by one.
        model = setup.head((1024, 1024), embedding_size, norm_type="layer", size=view_size, centred=centred)
        common: dict[str, Any] = {"embedding_size": embedding_size, "n": n, "t": t, "memory_m": memory_m}
        common |= {
            "loss_type": loss_type,
            "shared_negatives": shared_negatives,
            "bank_init": bank_init,
            "bank_precision": bank_precision,
        }
        super().__init__(model, setup.dataset(augment), loss, setup=setup, **common)
        self.input_size = input_size(view_size)
        self.predictor_g = self._head_g(predictor_g)
        self.lam = lam
        self.crops = crops
        self.centred = centred
        self.view_size = view_size
        self.images_per_sample = 2 if 0 < lam < 1 else 1

    def _head_g(self, given: nn.Module | None) -> nn.Module:
        if given is None:
            return fresh_copy(self.model.predictor)
        height, width = self.input_size or self.preprocessing.resolution
        features = feature_shape(self.model.backbone, self.preprocessing.channels, (height, width))
        check_outputs(given, features, self.embedding_size, "predictor_g")
        return given

    def _prepare(self, train_loader: TrainLoader) -> None:
        if self.forwards_as_planned:
            check_views(train_loader.dataset, self.preprocessing, self.view_size)
        super()._prepare(train_loader)

    def embeddings(self, data: Sequence[Tensor]) -> tuple[Tensor]:
        """L2-normalised embeddings (batch, embedding_size) of the image views."""
        return (F.normalize(self.model(data[0])),)

    def _jigsaw_embeddings(self, transformed: Tensor) -> Tensor:
        return F.normalize(self.model.predict(self.model.features(transformed), self.predictor_g))

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        transformed, indices = data[1], data[-1]  # (batch, C, H, W) and (batch,)
        with torch.set_grad_enabled(self.lam < 1 and torch.is_grad_enabled()):
            embeddings = self.embeddings(data)
        self.remember(embeddings, indices)
        loss = embeddings[0].new_zeros(())
        if self.lam < 1:
            loss = loss + (1 - self.lam) * self.contrast(embeddings[0], self.memory, indices)
        if self.lam > 0:
            loss = loss + self.lam * self.contrast(self._jigsaw_embeddings(transformed), self.memory, indices)
        return loss

    def _expected_loss(self) -> ExpectedLoss:
        return ExpectedLoss(warm=5)

    def _score_pretext(self, data: Sequence[Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        images, transformed = data[0], data[1]
        queries, keys = (
            in_batches(self._jigsaw_embeddings, transformed),
            in_batches(lambda batch: self.embeddings((batch,))[0], images),
        )
        return retrieval_score("the image of shuffled patches", queries, keys, (transformed, images))

    def _preview(self, data: Sequence[Tensor]) -> Preview:
        similarities = self.embeddings(data)[0] @ self._jigsaw_embeddings(data[1]).T  # (batch, batch)
        matches = Matches(similarities, 2, trained=self._train_state.step > 0 and self.lam > 0)
        images, transformed = self.preprocessing.visible(data[0]), self.preprocessing.visible(data[1])
        rows = [
            [
                CaptionedImage(image, "image view"),
                *matches.captioned_images(row, transformed, "its patches", "another's patches"),
            ]
            for row, image in enumerate(images)
        ]
        note = "The patches of each image are cropped and colour-jittered independently, then shuffled."
        if matches.comparable:
            note += "\nNumbers are cosine similarities with the image view; of the others, the most similar are shown."
        return Preview("PIRL: which shuffled patches are of the same image?", note, rows)
