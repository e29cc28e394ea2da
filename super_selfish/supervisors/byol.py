"""BYOL: predict the embedding that a moving average of the network computes from the other view of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from super_selfish.engine.core.expected_loss import CollapseRisk, ExpectedLoss
from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.followers import Followers
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adamw_recipe, lars_recipe
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import COUNT, PROBABILITY, ConfigurationError, Rule, one_of, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, in_batches, retrieval_score
from super_selfish.loading.loader import TrainLoader
from super_selfish.losses import regression_loss
from super_selfish.models.averages import MomentumSchedule, inference, momentum_copy, momentum_hint, update_ema
from super_selfish.models.combined import CombinedNet
from super_selfish.models.heads import Classification, SequentialUpTo
from super_selfish.models.norms import has_batch_statistics, in_groups
from super_selfish.models.shapes import feature_shape, output_shape
from super_selfish.pretext.preview import CaptionedImage, Matches, Preview
from super_selfish.pretext.views import VIEW_SIZE, Views, check_one_source, check_views, input_size, two_views
from super_selfish.transforms.byol import BYOLTransform

RULES = {
    "embedding_size": COUNT,
    "m": PROBABILITY._replace(fix="The paper starts at 0.996."),
    "predictor": Rule(
        lambda given: given is None or (isinstance(given, nn.Sequential) and len(given) == 2),
        "None, or a SequentialUpTo or nn.Sequential of two stages: a projector and a predictor",
        "Wrap the layers of each stage in an nn.Sequential.",
    ),
    "m_schedule": one_of("cosine", None, expected='"cosine", or None for a constant momentum'),
    "hidden_size": COUNT,
    "view_size": VIEW_SIZE,
    "data_augmentation": Rule(lambda make: make is None or callable(make), "None, or a function of the data set"),
}

LENGTHS: Mapping[int, Recipe] = {  # Grill et al., appendix and code: by epochs
    40: lars_recipe(0.45, 1e-6),
    100: lars_recipe(0.45, 1e-6),
    300: lars_recipe(0.3, 1e-6),
    1000: lars_recipe(0.2, 1.5e-6),
}
"""The paper's training recipe by length of the run, in epochs."""


# Differs from the paper: crops are resampled bilinearly
# Differs from the paper: brightness is multiplied
# Differs from the paper: the blur reaches 2.5 σ, and colours between two hue steps are one matrix
class BYOLSupervisor(Supervisor):
    """Predict the target network's embedding of one view of an image from the other view.

    There are no negatives. The target network is an exponential moving average (EMA) of backbone and projector. It
    gets no gradient and has no predictor, which prevents representation collapse.

    ``evaluate_pretext`` returns a retrieval accuracy among up to 250 images: the query is the prediction from one view,
    the keys are the target embeddings of the other views. The trivial baseline retrieves by mean colour.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        data_augmentation: Function from a data set of images to one of items (view, view). None: uses ``views``.
        embedding_size: Length of the embeddings.
        m: Momentum of the EMA, in [0, 1]; 0 with ``m_schedule=None`` is SimSiam.
        backbone: Network from images to features: an ``nn.Module`` or a name. None: EfficientNet-B0 with batch norm.
        predictor: Projector and predictor, as ``SequentialUpTo(projector, predictor)``. None: two MLPs with batch norm
            that fit the backbone.
        loss: Criterion of (prediction, target), both (batch, embedding_size) and L2-normalised. It is called for each
            view, and the results are summed. None: :func:`~super_selfish.losses.regression_loss`.
        m_schedule: ``"cosine"`` increases the momentum to 1 over the training steps. None: constant momentum.
        hidden_size: Width of the hidden layers of the default projector and predictor.
        views: Transform or callable that returns a view of an image, or a pair: one each. None: the two views of
            :class:`BYOLTransform`.
        view_size: Size of the views in px: side of a square, or (height, width). None: the size of the images.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit the images.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = BYOLSupervisor(images, backbone="small_resnet", embedding_size=64)
        >>> supervisor.ema(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 64])

    References:
        Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", 2020; Chen and He,
        "Exploring Simple Siamese Representation Learning", 2021.
    """

    relative_cost = 1.9
    paper = Paper(
        "Grill et al.",
        "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
        2020,
        "2006.07733",
    )
    family = "contrastive"
    learns_by = "predicting the embedding that a moving average of the network gives of an image's other view"
    use_when = "batches are small, or images are much alike"
    needs = Needs(batch=2)
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(8e-4, 32),
        # Grill et al., section 3.3, for 1,000 epochs; LENGTHS has the recipes for shorter runs
        "paper": LENGTHS[1000],
    }
    auto_gain = 3.8
    images_per_sample = 2

    @validate_arguments(RULES)
    def __init__(
        self,
        dataset: Any = None,
        data_augmentation: Callable[[Any], Any] | None = None,
        embedding_size: int = 128,
        m: float = 0.996,
        backbone: nn.Module | str | None = None,
        predictor: nn.Sequential | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        m_schedule: Literal["cosine"] | None = "cosine",
        hidden_size: int = 1024,
        views: Views | Sequence[Views] | None = None,
        view_size: int | tuple[int, int] | None = None,
        **images: Unpack[ImageOptions],
    ) -> None:
        check_one_source(views, data_augmentation)
        pair = (BYOLTransform(view_size, view=1), BYOLTransform(view_size, view=2))
        augment = data_augmentation or two_views(pair if views is None else views)
        heads = None if predictor is None else SequentialUpTo(*predictor)
        given = {"backbone": backbone, "predictor": heads, "loss": loss}
        setup = Setup.of(dataset, images, **given, data_augmentation=data_augmentation, views=views)
        seen = input_size(view_size)
        super().__init__(
            online_network(setup, embedding_size, hidden_size, seen),
            setup.dataset(augment),
            regression_loss if loss is None else loss,
            setup=setup,
        )
        self.ema = momentum_copy(self._followed())
        Followers(self).record()
        self.momentum = self.track("momentum", MomentumSchedule(m, m_schedule))
        self.embedding_size = embedding_size
        self.m = m
        self.m_schedule = m_schedule
        self.hidden_size = hidden_size
        self.view_size = view_size
        self.input_size = seen

    def _followed(self) -> CombinedNet:
        """The part of the trained network that the target network averages: backbone and projector."""
        return CombinedNet(self.model.backbone, cast(SequentialUpTo, self.model.predictor)[0])

    def _prepare(self, train_loader: TrainLoader) -> None:
        if self.forwards_as_planned:
            check_views(train_loader.dataset, self.preprocessing, self.view_size)
        if train_loader.batch_size:
            self._check_batch(train_loader.batch_size // train_loader.micro_batches)
        epochs = 0 if self._settings is None else self._settings.epochs
        self.momentum.begin(epochs * train_loader.batches)

    def _check_batch(self, images: int) -> None:
        if images < 2 and has_batch_statistics(self.model):
            raise ConfigurationError(
                "Batch norm cannot be trained on a single image.",
                expected="batches, and with `accumulate` micro-batches, of at least 2 images",
                received=f"{images}",
                fix="Raise `batch_size`, lower `accumulate`, or pass networks without batch norm.",
            )

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        views = (data[0], data[1])  # each (batch, C, H, W)
        self._check_batch(len(views[0]))
        first, second = self._embed(self.model, views)
        with inference(self.ema):
            targets = self._embed(self.ema, views)
        first_target, second_target = (target.clone() for target in targets)  # autograd rejects inference tensors
        return self.loss(first, second_target) + self.loss(second, first_target)

    @staticmethod
    def _embed(network: nn.Module, views: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """L2-normalised embeddings of both views; batch statistics are computed per view."""
        groups = 2 if has_batch_statistics(network) else 1
        first, second = in_groups(network, torch.cat(views), groups).chunk(2)
        return F.normalize(first), F.normalize(second)

    def _followers(self) -> dict[str, nn.Module]:
        return {"ema": self._followed()}

    def _after_update(self) -> None:
        update_ema(self.ema, self._followed(), self.momentum.advance())

    def _collapse_risk(self, batch_size: int) -> CollapseRisk | None:  # noqa: ARG002 - it has no negatives
        heads = cast(SequentialUpTo, self.model.predictor)
        cause = None
        if next(heads[1].parameters(), None) is None:
            cause = (
                "the second stage of `predictor` has no weights, so nothing prevents collapse. Leave out "
                "`predictor`, or use a trainable second stage, e.g. Classification([128, 1024, 128])."
            )
        likely = "a learning rate that is too high, or a momentum that is too low. Lower `lr`, or use m=0.996."
        return CollapseRisk(likely, cause)

    @classmethod
    def training_recipe(cls, name: str, epochs: int = 1000) -> Recipe | None:
        """The training recipe. The paper's recipe depends on the number of epochs."""
        if name == "paper" and cls.recipes is BYOLSupervisor.recipes:
            return LENGTHS[min(LENGTHS, key=lambda length: abs(math.log(length / max(1, epochs))))]
        return super().training_recipe(name, epochs)

    def _hints(self, recipe: str | None, updates: int) -> list[str]:  # noqa: ARG002 - of every algorithm
        return momentum_hint(self.m, updates)

    def _expected_loss(self) -> ExpectedLoss:
        return ExpectedLoss(falls=False)

    def _score_pretext(self, data: Sequence[Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        first, second = data[0], data[1]
        predictions, targets = in_batches(self.model, first), in_batches(self.ema, second)
        return retrieval_score("the other view", predictions, targets, (first, second))

    def _preview(self, data: Sequence[Tensor]) -> Preview:
        first, second = data[0], data[1]
        similarities = F.normalize(self.model(first)) @ F.normalize(self.ema(second)).T  # (batch, batch)
        matches = Matches(similarities, 1, trained=self._train_state.step > 0)
        views, targets = self.preprocessing.visible(first), self.preprocessing.visible(second)
        rows = [
            [CaptionedImage(view, "view"), *matches.captioned_images(row, targets, "its other view", "another image")]
            for row, view in enumerate(views)
        ]
        note = "The network predicts the embedding of the second view from the first view."
        if matches.comparable:
            note += "\nNumbers are cosine similarities with the prediction; the other image is the most similar one."
            note += "\nIf all similarities are close to +1.00, the representation has collapsed."
        return Preview("Which view shows the same image?", note, rows)


def online_network(setup: Setup, embedding_size: int, hidden_size: int, seen: tuple[int, int] | None) -> CombinedNet:
    """Build the trained network: backbone, projector and predictor.

    Args:
        setup: Images and user-supplied networks.
        embedding_size: Length of projections and predictions.
        hidden_size: Width of the hidden layers of the default heads.
        seen: Height and width of the network input in px. None: the size of the images.

    Raises:
        ConfigurationError: If the networks do not fit the images or each other.
    """
    heads = cast(SequentialUpTo | None, setup.given["predictor"])
    if heads is None:
        # Differs from the paper: PReLU, and smaller; no bias in the last layers, which batch norm would take away
        net = setup.head((hidden_size,), embedding_size, size=seen, last_bias=False)
        predictor = Classification([embedding_size, hidden_size, embedding_size], last_bias=False)
        return CombinedNet(net.backbone, SequentialUpTo(net.predictor, predictor))
    backbone, images = setup.backbone(), setup.preprocessing
    shape = feature_shape(backbone, images.channels, seen or images.resolution)
    projected, predicted = output_shape(SequentialUpTo(heads[0]), shape), output_shape(heads, shape)
    if projected != (embedding_size,) or predicted != (embedding_size,):
        raise ConfigurationError(
            "The two stages of `predictor`, projector and predictor, return embeddings of the wrong length.",
            expected=f"shape (batch, {embedding_size}) after each stage, since embedding_size={embedding_size}",
            received=f"shapes {(1, *projected)} and {(1, *predicted)} for a batch of one",
            fix="Change the last layer of each stage, or `embedding_size`.",
        )
    return CombinedNet(backbone, heads)
