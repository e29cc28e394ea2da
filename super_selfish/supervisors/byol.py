"""BYOL: predict what a slower copy of the network says about an image's other view."""

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
    "m": PROBABILITY._replace(fix="The paper begins with 0.996."),
    "predictor": Rule(
        lambda given: given is None or (isinstance(given, nn.Sequential) and len(given) == 2),
        "None, or a SequentialUpTo or nn.Sequential of two stages: a projector and a predictor",
        "Put the layers of each stage into an nn.Sequential of their own.",
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
# Differs from the paper: the blur reaches 2.5 σ, and colours between two hue steps are one matrix
class BYOLSupervisor(Supervisor):
    """From one view of an image, the network predicts a slower copy's embedding of the other view.

    There are no negatives. What keeps all embeddings from becoming one is that the predictor belongs to the trained
    network alone, and that the target, a moving average of backbone and projector, gets no gradient.

    ``evaluate_pretext`` gives the accuracy of retrieving an image's other view, embedded by the target network, among
    those of up to 250 images by the prediction from the first; the trivial baseline retrieves by mean colour.

    Args:
        dataset: A folder, a data set, an array, a tensor; None to load weights only.
        data_augmentation: Makes a data set of items (view, view) of a data set of images; None: by ``views``.
        embedding_size: Length of the embeddings.
        m: Momentum of the target, in [0, 1]; 0 with ``m_schedule=None`` is SimSiam.
        backbone: Images to features: an ``nn.Module``, a name, or None for EfficientNet-B0 with batch norm.
        predictor: Projector and predictor, as ``SequentialUpTo(projector, predictor)``; None for two perceptrons with
            batch norm, sized by the backbone.
        loss: Criterion of (prediction, target), both (batch, embedding_size) with rows of length one, called once for
            each view and summed; :func:`~super_selfish.losses.regression_loss` if None.
        m_schedule: ``"cosine"``: the momentum rises to 1 over the updates that ``supervise()`` plans; None: it stays.
        hidden_size: Of the hidden layers of the default projector and predictor.
        views: A recipe, any callable that makes a view of an image, or a pair of them; None: the two of
            :class:`BYOLTransform`.
        view_size: Side of the views in px, or (height, width); None: as large as the images.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit.
        DataError: If the images cannot be used.

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
        # Grill et al., section 3.3, of 1,000 epochs; LENGTHS has those of shorter runs
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
        """What the target follows: the trained network without its predictor."""
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
                "Batch norm cannot learn from an image alone.",
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
        first_target, second_target = (target.clone() for target in targets)  # ordinary tensors, for the loss
        return self.loss(first, second_target) + self.loss(second, first_target)

    @staticmethod
    def _embed(network: nn.Module, views: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings of length one of both views; batch norm sees each view by itself."""
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
                "the predictor has no weights, so that nothing keeps all embeddings from becoming one. Leave "
                "`predictor` out, or give it a second stage that learns: Classification([128, 1024, 128]), say."
            )
        likely = "a learning rate that is too high, or a momentum that is too low. Lower `lr`, or use m=0.996."
        return CollapseRisk(likely, cause)

    @classmethod
    def training_recipe(cls, name: str, epochs: int = 1000) -> Recipe | None:
        """That of every algorithm; the paper's depends on the length of the run, in epochs."""
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
        note = "From the view on the left, the network predicts the embedding of the view beside it."
        if matches.comparable:
            note += "\nCosine similarities with the prediction; of the other images, the most similar one here."
            note += matches.note("Its own view is most similar")
            note += "\nIf all were close to +1.00, all images would look the same to the network: collapse."
        return Preview("Does the prediction fit the image's own other view?", note, rows)


def online_network(setup: Setup, embedding_size: int, hidden_size: int, seen: tuple[int, int] | None) -> CombinedNet:
    """The trained network: a backbone, and behind it a projector and a predictor.

    Args:
        setup: With what was given.
        embedding_size: Length of projections and predictions.
        hidden_size: Of the default heads.
        seen: Height and width of what the network sees; None: as the images are.

    Raises:
        ConfigurationError: If the networks fit neither the images nor each other.
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
            "The two stages of `predictor`, projector and predictor, do not give embeddings of one length.",
            expected=f"shape (batch, {embedding_size}) behind each stage, since embedding_size={embedding_size}",
            received=f"shapes {(1, *projected)} and {(1, *predicted)} for a batch of one",
            fix="The second stage predicts what the first gives for the other view. Change it, or `embedding_size`.",
        )
    return CombinedNet(backbone, heads)
