"""Instance Discrimination: tell an image from all others by the embedding that is remembered of it."""

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
    """Every image is a class of its own, and what stands for the class is a memory of the image's embeddings.

    ``evaluate_pretext`` gives the accuracy of retrieving another view of an image among those of up to 250 images; the
    trivial baseline retrieves by mean colour.

    Args:
        dataset: A folder, a data set, an array, a tensor; None to load weights only.
        data_augmentation: Makes a data set of items (view, ..., index) of a data set of images; None: by ``views``.
        embedding_size: Length of the embeddings.
        n: Negatives of an image; 0, or as many as there are other images: all of them.
        t: Temperature.
        backbone: Images to features: an ``nn.Module``, a name, or None for EfficientNet-B0 with layer norm.
        predictor: Features to embeddings; None for a perceptron with layer norm, sized by the backbone.
        loss: Criterion of (logits, index of the positive); cross entropy if None.
        memory_m: Weight of the new embedding when the bank's row is updated, in [0, 1]; 1 replaces the row.
        loss_type: ``"info_nce"``, or ``"nce"``: the paper's noise-contrastive estimation.
        proximal: Weight of the squared distance between an embedding and the image's row, which the paper calls
            proximal regularisation.
        shared_negatives: Draw n different rows a step for the whole batch; else n for each image, which costs many
            times as much.
        bank_init: ``"random"`` rows, or ``"forward"``: those that the untrained network gives, which takes one pass.
        bank_precision: Bits of a number of the bank; ``"16"`` takes half of the memory, unless all rows are negatives
            (n=0), which are read in 32 bits.
        centred: Standardise each output of the default predictor over the batch, so that no drift that all embeddings
            share tells old bank entries from new ones. Weights files without this value have False.
        views: A recipe, or any callable that makes a view of an image; None: crops of a fifth to all of the image,
            mirrored, with strong jitter and grey, as in the paper's code.
        view_size: Side of the views in px, or (height, width); None: as large as the images.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit.
        DataError: If the images cannot be used.

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
        # Wu et al., section 4: batches of 256, rate .03, ten times less after 120 and 160 of 200 epochs
        "paper": Recipe(sgd(1e-4), 0.03, 256, schedule=Schedule("steps", at=(0.6, 0.8))),
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
        """The embeddings (batch, embedding_size) of the views, of length one."""
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
        note = "The network sees a view, and has to tell which of all images it is of."
        if len(rows[0]) > 2:
            compared = "the other views here" if found is None else "all rows of the bank"
            note = f"A view of an image, and what is most like it of {compared}, with cosine similarities."
        if found is not None:
            note += f"\nThe own image's row is nearest for {found:.0%} of the views."
        return Preview("Of which image is this a view?", note, rows)
