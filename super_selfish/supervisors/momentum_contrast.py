"""MoCo v2: contrast two views of an image with views of other images in a queue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from super_selfish.distributed import gather, own_part, rank, world
from super_selfish.distributed.norms import each_for_itself, in_turn
from super_selfish.engine.core.expected_loss import CollapseRisk, ExpectedLoss, temperature_risk
from super_selfish.engine.core.facts import Paper
from super_selfish.engine.core.followers import Followers
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adamw_recipe, sgd
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import (
    COUNT,
    PROBABILITY,
    SWITCH,
    ConfigurationError,
    Rule,
    is_count,
    is_number,
    validate_arguments,
)
from super_selfish.evaluation.pretext import PretextScore, in_batches, retrieval_score
from super_selfish.loading.loader import TrainLoader
from super_selfish.losses import contrastive_logits
from super_selfish.memory import BatchedQueue
from super_selfish.models.averages import inference, momentum_copy, momentum_hint, update_ema
from super_selfish.models.norms import has_batch_statistics, in_groups
from super_selfish.pretext.preview import CaptionedImage, Matches, Preview
from super_selfish.pretext.views import VIEW_SIZE, Views, check_one_source, check_views, input_size, two_views
from super_selfish.seeding import make_key
from super_selfish.transforms.moco import MoCoTransform

GROUP = 32  # images that share batch statistics

RULES = {
    "embedding_size": COUNT,
    "K": COUNT._replace(fix="queue_size=0 trains without a queue."),
    "m": PROBABILITY._replace(fix="The paper uses 0.999."),
    "t": Rule(lambda t: is_number(t, 1e-6, math.inf), "a number above 0", "The paper uses 0.2."),
    "queue_size": Rule(lambda size: size is None or is_count(size, 0), "None, or an integer of at least 0"),
    "symmetric": SWITCH,
    "bn_splits": Rule(
        lambda splits: splits == "auto" or is_count(splits, 1), '"auto", or an integer of at least 1', words=("auto",)
    ),
    "view_size": VIEW_SIZE,
    "data_augmentation": Rule(lambda make: make is None or callable(make), "None, or a function of the data set"),
}


# Differs from the paper: layer norm, and a head of three linear layers with PReLU
# Differs from the paper: the queue holds K batches unless queue_size is given
# Differs from the paper: the average follows after the update, not before the next key
# Differs from the paper: crops that are shrunk by less than two are resampled without antialiasing
# Differs from the paper: the blur reaches 2.5 σ, and colours between two hue steps are one matrix
# Differs from the paper: colours change before a crop is enlarged, or after it is shrunk
class MomentumContrastSupervisor(Supervisor):
    """Learn similar embeddings of two views of an image, contrasted with keys of other images in a queue.

    Queries are embeddings of the trained network. Keys are embeddings of an exponential moving average (EMA) of it,
    which keeps the keys of past batches in the queue consistent.

    ``evaluate_pretext`` returns the accuracy of retrieving the key of the other view of an image among up to 250
    images; the trivial baseline retrieves by mean colour.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        data_augmentation: Function from a data set of images to one of items (view, view). None: uses ``views``.
        embedding_size: Length of the embeddings.
        K: Length of the queue in batches.
        m: Momentum of the EMA of the key encoder, in [0, 1].
        t: Temperature.
        backbone: Network from images to features: an ``nn.Module`` or a name. None: EfficientNet-B0 with layer norm.
        predictor: Head from features to embeddings. None: an MLP with layer norm that fits the backbone.
        loss: Criterion of (logits, index of the positive). None: cross entropy.
        queue_size: Length of the queue in images, instead of ``K``. 0: no queue; the keys of the batch are negatives.
            A queue that is nearly as long as the data set contains keys of the query's own image, and is warned about.
        symmetric: Use each view as query and as key, sum both losses and enqueue both keys.
        bn_splits: Number of groups per batch for batch norm. With shuffled keys, the batch statistics of a query and
            its key differ (shuffling BN). ``"auto"``: if the networks have batch norm, groups of at most 32 images, and
            at least two groups from four images on. With gradient accumulation, a batch is a micro-batch.
        views: Transform or callable that returns a view of an image, or a pair: one each. None: :class:`MoCoTransform`.
        view_size: Size of the views in px: side of a square, or (height, width). None: the size of the images.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit the images.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = MomentumContrastSupervisor(images, backbone="small_resnet", queue_size=1000)
        >>> supervisor.queue.data().shape
        torch.Size([1000, 128])

    References:
        He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", 2020; Chen et al., "Improved
        Baselines with Momentum Contrastive Learning", 2020.
    """

    aliases = ("moco", "moco_v2")
    relative_cost = 1.1
    paper = Paper(
        "Chen, Fan, Girshick and He",
        "Improved Baselines with Momentum Contrastive Learning",
        2020,
        "2003.04297",
    )
    family = "contrastive"
    learns_by = "identifying an image's other view among views of many other images"
    use_when = "kinds of objects must be separated; many epochs"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(3e-3),
        # Chen et al., "Improved Baselines with Momentum Contrastive Learning"
        "paper": Recipe(sgd(1e-4), 0.03, 256, schedule=Schedule("cosine"), decay_all=True),
    }

    @validate_arguments(RULES)
    def __init__(
        self,
        dataset: Any = None,
        data_augmentation: Callable[[Any], Any] | None = None,
        embedding_size: int = 128,
        K: int = 8,
        m: float = 0.999,
        t: float = 0.2,
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        queue_size: int | None = None,
        symmetric: bool = False,
        bn_splits: int | Literal["auto"] = "auto",
        views: Views | Sequence[Views] | None = None,
        view_size: int | tuple[int, int] | None = None,
        **images: Unpack[ImageOptions],
    ) -> None:
        check_one_source(views, data_augmentation)
        augment = data_augmentation or two_views(MoCoTransform(view_size) if views is None else views)
        given = {"backbone": backbone, "predictor": predictor, "loss": loss}
        setup = Setup.of(dataset, images, **given, data_augmentation=data_augmentation, views=views)
        super().__init__(
            setup.head((1024, 1024), embedding_size, norm_type="layer", size=view_size),
            setup.dataset(augment),
            setup.criterion(nn.CrossEntropyLoss),
            setup=setup,
        )
        self.ema = momentum_copy(self.model)
        Followers(self).record()
        self.queue = BatchedQueue(1, queue_size or 0, embedding_size)
        self.embedding_size = embedding_size
        self.K = K
        self.m = m
        self.t = t
        self.queue_size = queue_size
        self.symmetric = symmetric
        self.bn_splits = bn_splits
        self.view_size = view_size
        self.images_per_sample = 2 if symmetric else 1
        self.input_size = input_size(view_size)
        self._new_keys: list[Tensor] = []

    @property
    def decomposable(self) -> bool:
        """Whether a batch can be split into micro-batches; False if its keys are each other's negatives."""
        return self.queue_size != 0

    def _prepare(self, train_loader: TrainLoader) -> None:
        self._new_keys.clear()
        if self.forwards_as_planned:
            check_views(train_loader.dataset, self.preprocessing, self.view_size)
        length = self.K * train_loader.batch_size if self.queue_size is None else self.queue_size
        if length == 0 and not self.forwards_as_planned:
            return  # it may use no queue
        if length == 0 and self.queue_size is None:
            raise ConfigurationError(
                "The loader has no batch size, so the length of a queue of K batches is unknown.",
                fix="Pass the length of the queue in images, e.g. queue_size=4096.",
            )
        if len(self.queue) != length:
            self.queue.resize(length)
        dataset = self.dataset if train_loader.dataset is None else train_loader.dataset
        if hasattr(dataset, "__len__"):
            self.queue.warn_of_own_keys(len(dataset), train_loader.batch_size, self.images_per_sample)

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        first, second = data[0], data[1]  # each (batch, C, H, W)
        if self.symmetric:
            first, second = torch.cat([first, second]), torch.cat([second, first])
        query = self._embed(self.model, first)
        key = self._keys(second)
        directions = 2 if self.symmetric else 1
        halves = zip(query.chunk(directions), key.chunk(directions), strict=True)
        loss = torch.stack([self._one_way(*half) for half in halves]).sum()
        if self.training:
            new_keys = torch.cat([gather(part) for part in key.chunk(directions)])
            self.keep_if_trained(self._new_keys, new_keys)
        return loss

    def _keys(self, images: Tensor) -> Tensor:
        """Keys (batch, dim) in the order of the images; the network gets them in random order (shuffling BN).

        Images are shuffled over all processes, so that a query and its key have different batch statistics.
        """
        mixed = world() > 1 and has_batch_statistics(self.model)
        directions = 2 if self.symmetric else 1
        if mixed:
            images = torch.cat([gather(half) for half in images.chunk(directions)])
        with inference(self.ema):
            shuffle = self._permutation(len(images)).to(images.device, non_blocking=True)
            back = shuffle.argsort()
            key = self._embed(self.ema, images[own_part(shuffle) if mixed else shuffle])
        key = key.clone()  # autograd cannot save inference tensors for the backward pass
        if not mixed:
            return key[back]
        return torch.cat([own_part(half) for half in gather(key)[back].chunk(directions)])

    def _permutation(self, count: int) -> Tensor:
        """A random permutation, the same on all ranks, whose global generators differ."""
        if self._settings is None or self._run is None:
            return torch.randperm(count)
        key = make_key(self._settings.seed, self._train_state.step, self._run.loader.micro_batch, "shuffle")
        return torch.randperm(count, generator=torch.Generator().manual_seed(key >> 1))

    def _one_way(self, query: Tensor, key: Tensor) -> Tensor:
        """Contrastive loss of queries (batch, dim) and their keys (batch, dim)."""
        if self.queue_size == 0:
            own = torch.arange(len(query), device=query.device) + rank() * len(query)
            return self.loss(query @ gather(key).T / self.t, own)
        logits = contrastive_logits(query, key, self.queue.data(), self.t)
        return self.loss(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))

    def _embed(self, network: nn.Module, images: Tensor) -> Tensor:
        """L2-normalised embeddings; batch statistics are computed per group of images."""
        groups = self._groups(len(images) * world())  # of the batch of all processes
        if world() == 1 or groups == 1:
            return F.normalize(in_groups(network, images, groups))
        groups = max(1, groups // world())
        with each_for_itself(), in_turn(network, groups):
            return F.normalize(in_groups(network, images, groups))

    def _groups(self, batch: int) -> int:
        if self.bn_splits != "auto":
            return min(int(self.bn_splits), max(1, batch // 2))
        if not has_batch_statistics(self.model) or batch < 4:
            return 1
        return max(2, -(-batch // GROUP))

    def _collapse_risk(self, batch_size: int) -> CollapseRisk | None:
        if not isinstance(self.loss, nn.CrossEntropyLoss):
            return None
        candidates = 1 + len(self.queue) if self.queue_size != 0 else batch_size
        return temperature_risk(self.t, 0.2, (1 + self.symmetric) * math.log(candidates))

    def _hints(self, recipe: str | None, updates: int) -> list[str]:  # noqa: ARG002 - of every algorithm
        return momentum_hint(self.m, updates)

    def _expected_loss(self) -> ExpectedLoss:
        return ExpectedLoss(warm=5, equal=(1 + self.symmetric) * math.log(1 + len(self.queue)))

    def _score_pretext(self, data: Sequence[Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        first, second = data[0], data[1]
        queries, keys = in_batches(self.model, first), in_batches(self.ema, second)
        return retrieval_score("the other view", queries, keys, (first, second))

    def _preview(self, data: Sequence[Tensor]) -> Preview:
        first, second = data[0], data[1]
        similarities = F.normalize(self.model(first)) @ F.normalize(self.ema(second)).T  # (batch, batch)
        matches = Matches(similarities, 2, trained=self._train_state.step > 0)
        queries, keys = self.preprocessing.visible(first), self.preprocessing.visible(second)
        rows = [
            [CaptionedImage(query, "query"), *matches.captioned_images(row, keys, "its key", "another's key")]
            for row, query in enumerate(queries)
        ]
        note = "Two views of an image, and the most similar keys of the other images, with cosine similarities."
        return Preview("Which key shows the same image as the query?", note, rows)

    def _skip_update(self) -> None:
        self._new_keys.clear()

    def _followers(self) -> dict[str, nn.Module]:
        return {"ema": self.model}

    def _after_update(self) -> None:
        update_ema(self.ema, self.model, self.m)
        if self.queue_size != 0 and self._new_keys:
            self.queue.enqueue(torch.cat(self._new_keys))
        self._new_keys.clear()
