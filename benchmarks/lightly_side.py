"""MoCo v2 and BYOL as a user of lightly trains them: its transforms, heads, losses and averages in a plain loop.

The loops follow what lightly's documentation tells to do: torch's ``DataLoader`` over PIL images, networks as they come
from torchvision, the moving average before the batch, no groups of batch norm.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, MoCoProjectionHead
from lightly.models.utils import update_momentum
from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform, MoCoV2Transform
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

Loop = Callable[["Follower", Iterable[Any], Optimizer], Iterator[Tensor]]


class Pictures(Dataset[tuple[Any, int]]):
    """PIL images, made beforehand, with a transform."""

    def __init__(self, images: Sequence[np.ndarray], transform: Callable[[Any], Any]) -> None:
        self.pictures = [Image.fromarray(image) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.pictures[index]), 0


class Follower(nn.Module):
    """A backbone and a projection head, and copies of both that follow; for BYOL a prediction head as well."""

    def __init__(self, backbone: nn.Module, head: nn.Module, predictor: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.predictor = nn.Identity() if predictor is None else predictor
        self.slow_backbone = copy.deepcopy(backbone).requires_grad_(False)
        self.slow_head = copy.deepcopy(head).requires_grad_(False)

    def forward(self, views: Tensor) -> Tensor:
        return self.predictor(self.head(self.backbone(views).flatten(1)))

    def slow(self, views: Tensor) -> Tensor:
        return self.slow_head(self.slow_backbone(views).flatten(1)).detach()

    def follow(self, m: float) -> None:
        update_momentum(self.backbone, self.slow_backbone, m=m)
        update_momentum(self.head, self.slow_head, m=m)


def loader_of(images: Sequence[np.ndarray], transform: Any, batch_size: int, num_workers: int) -> DataLoader[Any]:
    """Processes that read are kept from epoch to epoch."""
    return DataLoader(
        Pictures(images, transform),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )


def moco_head(features: int) -> nn.Module:
    return MoCoProjectionHead(features, 512, 128)


def moco_views(size: int, **changed: float) -> Any:
    return MoCoV2Transform(input_size=size, **changed)


def moco_loop(m: float, t: float, queue: int) -> Loop:
    """One step each time it is asked."""
    criterion = NTXentLoss(temperature=t, memory_bank_size=(queue, 128))

    def steps(network: Follower, loader: Iterable[Any], optimizer: Optimizer) -> Iterator[Tensor]:
        for (first, second), _ in loader:
            network.follow(m)
            loss = criterion(network(first), network.slow(second))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield loss.detach()

    return steps


def byol_heads(features: int) -> tuple[nn.Module, nn.Module]:
    return BYOLProjectionHead(features, 1024, 256), BYOLPredictionHead(256, 1024, 256)


def byol_views(size: int) -> Any:
    return BYOLTransform(BYOLView1Transform(input_size=size), BYOLView2Transform(input_size=size))


def byol_loop(m: float) -> Loop:
    """One step each time it is asked."""
    criterion = NegativeCosineSimilarity()

    def steps(network: Follower, loader: Iterable[Any], optimizer: Optimizer) -> Iterator[Tensor]:
        for (first, second), _ in loader:
            network.follow(m)
            predicted, other = network(first), network(second)
            loss = 0.5 * (criterion(predicted, network.slow(second)) + criterion(other, network.slow(first)))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield loss.detach()

    return steps
