"""Instance Discrimination: classify each image as its own class, with a memory bank of embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from super_selfish.engine.bank import BANK_RULES, BankInit, BankPrecision, BankSupervisor, LossType
from super_selfish.engine.core.expected_loss import ExpectedLoss
from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adamw_recipe, sgd
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.errors import SWITCH, Rule, is_number, validate_arguments
from super_selfish.loading.loader import TrainLoader
from super_selfish.pretext.preview import Preview
from super_selfish.pretext.views import (
    VIEW_SIZE,
    AugmentationIndexedDataset,
    Views,
    as_transform,
    check_one_source,
    check_views,
    input_size,
)
from super_selfish.transforms.moco import MoCoTransform

RULES = {
    **BANK_RULES,
    "centred": SWITCH,
    "proximal": Rule(lambda weight: is_number(weight, 0, math.inf), "a number of at least 0", "The paper uses 30."),
    "view_size": VIEW_SIZE,
    "data_augmentation": Rule(lambda make: make is None or callable(make), "None, or a function of the data set"),
}


# Differs from the paper: InfoNCE unless loss_type="nce"
# Differs from the paper: negatives are shared by the batch and all different
class InstanceDiscriminationSupervisor(BankSupervisor):
    """Treat each image as a class, represented by the image's entry in a memory bank of embeddings.

    ``evaluate_pretext`` returns the accuracy of retrieving another view of an image among up to 250 images; the trivial
    baseline retrieves by mean colour.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        data_augmentation: Function from a data set of images to one of items (view, ..., index). None: uses ``views``.
        embedding_size: Length of the embeddings.
        n: Number of negatives per image, at most all other images. 0: all other images.
        t: Temperature.
        backbone: Network from images to features: an ``nn.Module`` or a name. None: EfficientNet-B0 with layer norm.
        predictor: Head from features to embeddings. None: an MLP with layer norm that fits the backbone.
        loss: Criterion of (logits, index of the positive). None: cross entropy.
        memory_m: Weight of the new embedding in the update of a bank entry, in [0, 1]; 1 replaces the entry.
        loss_type: ``"info_nce"``, or ``"nce"``: the paper's noise-contrastive estimation.
        proximal: Weight of the squared distance between an embedding and its bank entry (proximal regularisation in the
            paper).
        shared_negatives: Draw n distinct bank entries per step for the whole batch. False: n per image, which is many
            times slower.
        bank_init: ``"random"``, or ``"forward"``: embeddings of the untrained network (one pass over the images).
        bank_precision: Bits per value of the bank. ``"16"`` halves the memory, except with n=0: all entries are then
            negatives and are converted to 32 bits.
        centred: Standardise each output of the default predictor over the batch. Otherwise, a drift shared by all
            embeddings separates old bank entries from new ones. Weights files without this value use False.
        views: Transform or callable that returns a view of an image. None: random crops of 20 to 100 % of the area,
            horizontal flips, strong colour jitter and random greyscale, as in the paper's code.
        view_size: Size of the views in px: side of a square, or (height, width). None: the size of the images.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit the images.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = InstanceDiscriminationSupervisor(images, n=5, backbone="small_resnet")
        >>> supervisor.memory.memory.shape
        torch.Size([8, 128])

    References:
        Wu, Xiong, Yu and Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018.
    """

    aliases = ("instance", "instdisc", "npid")
    relative_cost = 1.0
    paper = Paper(
        "Wu, Xiong, Yu and Lin",
        "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
        2018,
        "1805.01978",
    )
    family = "contrastive"
    learns_by = "identifying an image among all others by a memory bank"
    use_when = "up to some million images, each of one object; one view per image"
    needs = Needs(batch=2)
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(1.5e-3),
        # Wu et al., section 4: batch size 256, learning rate 0.03, divided by 10 after 120 and 160 of 200 epochs
        "paper": Recipe(sgd(1e-4), 0.03, 256, schedule=Schedule("steps", at=(0.6, 0.8)), decay_all=True),
    }
    auto_gain = 3.4

    @validate_arguments(RULES)
    def __init__(
        self,
        dataset: Any = None,
        data_augmentation: Callable[[Any], Any] | None = None,
        embedding_size: int = 128,
        n: int = 500,
        t: float = 0.07,
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        memory_m: float = 0.5,
        loss_type: LossType = "info_nce",
        proximal: float = 0.0,
        shared_negatives: bool = True,
        bank_init: BankInit = "random",
        bank_precision: BankPrecision = "32",
        centred: bool = True,
        views: Views | None = None,
        view_size: int | tuple[int, int] | None = None,
        **images: Unpack[ImageOptions],
    ) -> None:
        check_one_source(views, data_augmentation)
        transform = (
            MoCoTransform(view_size, jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, blur=0.0) if views is None else views
        )
        transform = as_transform(transform)
        augment = data_augmentation or (lambda opened: AugmentationIndexedDataset(opened, transform, views=1))
        given = {"backbone": backbone, "predictor": predictor, "loss": loss}
        setup = Setup.of(dataset, images, **given, data_augmentation=data_augmentation, views=views)
        super().__init__(
            # Differs from the paper: a perceptron with layer norm instead of one linear layer
            setup.head((1024, 1024), embedding_size, norm_type="layer", size=view_size, centred=centred),
            setup.dataset(augment),
            loss,
            embedding_size=embedding_size,
            n=n,
            t=t,
            memory_m=memory_m,
            loss_type=loss_type,
            shared_negatives=shared_negatives,
            bank_init=bank_init,
            bank_precision=bank_precision,
            setup=setup,
        )
        self.proximal = proximal
        self.centred = centred
        self.view_size = view_size
        self.input_size = input_size(view_size)

    def _prepare(self, train_loader: TrainLoader) -> None:
        if self.forwards_as_planned:
            check_views(train_loader.dataset, self.preprocessing, self.view_size, count=1)
        super()._prepare(train_loader)

    def embeddings(self, data: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """L2-normalised embeddings (batch, embedding_size) of the views."""
        return (F.normalize(self.model(data[0])),)

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        indices = data[-1]  # (batch,); data[0] is (batch, C, H, W)
        (embeddings,) = self.embeddings(data)
        loss = self.contrast(embeddings, self.memory, indices)
        if self.proximal:
            loss = (
                loss + self.proximal * (embeddings - self.memory[indices]).square().sum(dim=1).mean()
            )  # paper, eq. 10
        self.remember((embeddings,), indices)
        return loss

    def _expected_loss(self) -> ExpectedLoss:
        return ExpectedLoss(warm=5)

    def _preview(self, data: Sequence[Tensor]) -> Preview:
        (embeddings,) = self.embeddings(data)
        rows, found = self.preview_neighbours([("view", data[0])], embeddings, self.memory, data[-1])
        note = "The network classifies which image a view belongs to."
        if len(rows[0]) > 2:
            compared = "the other views shown here" if found is None else "all bank entries"
            note = f"A view of an image and its nearest neighbours among {compared}, with cosine similarities."
        return Preview("Which image is this a view of?", note, rows)
